//! Why a sandbox ended, told from what its launcher says and from what its limits have counted. One judgement for agents,
//! tools and `sandbox run`, so that the same end has the same name everywhere.

use std::fmt;

use agentos_protocol::sandbox::End;
use rustix::process::Signal;

use crate::Ended;

/// What was seen besides the status, in this life alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Processes that the kernel killed at the limit of memory.
    pub oom_kills: u64,
    /// Forks that were refused at the limit of processes.
    pub processes_refused: u64,
    /// No byte more fits into the workspace.
    pub is_disk_full: bool,
    /// The limit of CPU time of each process, if there is one.
    pub cpu_seconds_max: Option<u64>,
    /// Somebody of ours ended it, whatever the status says.
    pub is_killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// By itself, with this status.
    Exit(i32),
    Signal(i32),
    Memory,
    Processes,
    Disk,
    FileSize,
    CpuTime,
    /// The system call filter ended it.
    Seccomp,
    Killed,
    LauncherLost,
}

impl Reason {
    /// Every name, for tables and series.
    pub const NAMES: [&'static str; 10] = [
        "exit",
        "signal",
        "memory",
        "processes",
        "disk",
        "file-size",
        "cpu-time",
        "seccomp",
        "killed",
        "launcher-lost",
    ];

    /// What is certain comes first: who lost the launcher knows nothing else, and a signal that only one limit sends needs no
    /// further evidence. A program that gave up by itself after it hit a limit is told by that limit, but never one that
    /// ended well.
    pub fn of(ended: &Ended, seen: &Evidence) -> Self {
        if ended.is_launcher_lost {
            return Reason::LauncherLost;
        }
        if seen.is_killed {
            return Reason::Killed;
        }
        match ended.end {
            End::Exited(0) => Reason::Exit(0),
            End::Signaled(signal) if signal == Signal::SYS.as_raw() => Reason::Seccomp,
            End::Signaled(signal) if signal == Signal::XCPU.as_raw() => Reason::CpuTime,
            End::Signaled(signal) if signal == Signal::XFSZ.as_raw() => Reason::FileSize,
            // Who has caught the warning is killed by the kernel a second later.
            End::Signaled(signal) if signal == Signal::KILL.as_raw() && is_cpu_spent(ended, seen) => Reason::CpuTime,
            _ if seen.oom_kills > 0 => Reason::Memory,
            _ if seen.processes_refused > 0 => Reason::Processes,
            _ if seen.is_disk_full => Reason::Disk,
            End::Exited(status) => Reason::Exit(status),
            End::Signaled(signal) => Reason::Signal(signal),
            End::Killed => Reason::Killed,
        }
    }

    /// Its name, for tables and series.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exit(_) => "exit",
            Reason::Signal(_) => "signal",
            Reason::Memory => "memory",
            Reason::Processes => "processes",
            Reason::Disk => "disk",
            Reason::FileSize => "file-size",
            Reason::CpuTime => "cpu-time",
            Reason::Seccomp => "seccomp",
            Reason::Killed => "killed",
            Reason::LauncherLost => "launcher-lost",
        }
    }

    /// The limit of a manifest that was hit, if it was one.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Reason::Memory => Some("limits.memory_bytes"),
            Reason::Processes => Some("limits.processes"),
            Reason::Disk => Some("limits.workspace_bytes"),
            Reason::FileSize => Some("limits.file_bytes"),
            Reason::CpuTime => Some("limits.cpu_seconds"),
            _ => None,
        }
    }
}

/// The kernel bounds what it has sampled at the ticks of its clock, and tells what it has measured; the two differ a little.
fn is_cpu_spent(ended: &Ended, seen: &Evidence) -> bool {
    let limit_us = seen.cpu_seconds_max.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1_000_000));
    limit_us.is_some_and(|limit_us| ended.rusage.cpu_us >= limit_us / 10 * 9)
}

/// In words, for people: `exited with status 1`, `was ended by signal 9 (SIGKILL)`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Exit(status) => write!(f, "exited with status {status}"),
            Reason::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was ended by signal {signal} ({name})"),
                None => write!(f, "was ended by signal {signal}"),
            },
            Reason::Memory => f.write_str("was ended at its limit of memory"),
            Reason::Processes => f.write_str("ended after it was refused processes above its limit"),
            Reason::Disk => f.write_str("ended when its workspace was full"),
            Reason::FileSize => f.write_str("was ended by signal 25 (SIGXFSZ) at its limit of the size of a file"),
            Reason::CpuTime => f.write_str("was ended at its limit of CPU time"),
            Reason::Seccomp => {
                f.write_str("was ended by signal 31 (SIGSYS): it made a system call that its sandbox does not have")
            }
            Reason::Killed => f.write_str("was killed"),
            Reason::LauncherLost => f.write_str("was killed by the kernel because its launcher had ended"),
        }
    }
}

/// The signals that end programs in practice.
fn signal_name(signal: i32) -> Option<&'static str> {
    let known = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::HUP, "SIGHUP"),
        (Signal::ILL, "SIGILL"),
        (Signal::INT, "SIGINT"),
        (Signal::KILL, "SIGKILL"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::TERM, "SIGTERM"),
        (Signal::TRAP, "SIGTRAP"),
    ];
    known.into_iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use agentos_protocol::sandbox::Rusage;

    use super::*;

    fn check(end: End, seen: Evidence, expected: Reason) {
        let ended = Ended { end, rusage: Rusage::default(), is_launcher_lost: false };
        assert_eq!(Reason::of(&ended, &seen), expected, "{end:?} {seen:?}");
    }

    const NONE: Evidence =
        Evidence { oom_kills: 0, processes_refused: 0, is_disk_full: false, cpu_seconds_max: None, is_killed: false };

    #[test]
    fn each_end_has_its_reason() {
        let oom = Evidence { oom_kills: 1, ..NONE };
        let forks = Evidence { processes_refused: 3, ..NONE };
        let full = Evidence { is_disk_full: true, ..NONE };
        check(End::Exited(0), NONE, Reason::Exit(0));
        check(End::Exited(3), NONE, Reason::Exit(3));
        check(End::Signaled(11), NONE, Reason::Signal(11));
        check(End::Signaled(31), oom, Reason::Seccomp);
        check(End::Signaled(24), NONE, Reason::CpuTime);
        check(End::Signaled(25), full, Reason::FileSize);
        check(End::Killed, NONE, Reason::Killed);
        for end in [End::Killed, End::Signaled(9), End::Exited(1)] {
            check(end, oom, Reason::Memory);
            check(end, forks, Reason::Processes);
            check(end, full, Reason::Disk);
            check(end, Evidence { is_killed: true, ..oom }, Reason::Killed);
        }
        for seen in [oom, forks, full] {
            check(End::Exited(0), seen, Reason::Exit(0));
        }
    }

    #[test]
    fn a_kill_after_all_of_the_cpu_time_is_its_limit() {
        for (end, cpu_us, limit, expected) in [
            (End::Signaled(9), 2_000_100, Some(2), Reason::CpuTime),
            (End::Signaled(9), 1_800_000, Some(2), Reason::CpuTime),
            (End::Signaled(9), 1_700_000, Some(2), Reason::Signal(9)),
            (End::Signaled(9), 2_000_100, Some(0), Reason::Signal(9)),
            (End::Signaled(9), 2_000_100, None, Reason::Signal(9)),
            (End::Signaled(6), 2_000_100, Some(2), Reason::Signal(6)),
            (End::Exited(1), 2_000_100, Some(2), Reason::Exit(1)),
        ] {
            let ended = Ended { end, rusage: Rusage { cpu_us, memory_peak_bytes: 0 }, is_launcher_lost: false };
            assert_eq!(Reason::of(&ended, &Evidence { cpu_seconds_max: limit, ..NONE }), expected, "{ended:?}");
        }
    }

    #[test]
    fn without_its_launcher_nothing_else_is_known() {
        assert_eq!(Reason::of(&Ended::lost(), &Evidence { oom_kills: 1, ..NONE }), Reason::LauncherLost);
    }

    #[test]
    fn every_reason_has_its_own_name_and_words() {
        let all = [
            Reason::Exit(1),
            Reason::Signal(9),
            Reason::Memory,
            Reason::Processes,
            Reason::Disk,
            Reason::FileSize,
            Reason::CpuTime,
            Reason::Seccomp,
            Reason::Killed,
            Reason::LauncherLost,
        ];
        assert_eq!(all.map(Reason::as_str), Reason::NAMES);
        assert_eq!(Reason::Signal(9).to_string(), "was ended by signal 9 (SIGKILL)");
        assert_eq!(Reason::Signal(40).to_string(), "was ended by signal 40");
        assert!(
            all.iter()
                .all(|reason| reason.limit().is_some() == reason.to_string().contains("limit")
                    || *reason == Reason::Disk)
        );
    }
}
