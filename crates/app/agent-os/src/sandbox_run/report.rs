//! What became of the command, for the person and for the file of `--report`.

use std::time::Duration;

use agentos_cli::{Denial, NotEnforced, RunOrder, RunReport, RunUsage, Wall};
use agentos_limits::GroupUsage;
use agentos_protocol::sandbox::{End, Layer};
use agentos_sandbox::{Evidence, Reason};

use super::{Outcome, egress::Passed};

/// As `timeout` has it.
const STATUS_TIME: u8 = 124;
/// Not walls of every sandbox: a profile of AppArmor is entered where it is loaded, and memory files may be executed.
const ADDITIONS: [&str; 2] = ["apparmor", "memfd"];
/// Of the signal that nobody can refuse.
const SIGKILL: i32 = 9;

/// Everything that is known about a run that is over.
pub(super) struct Facts {
    pub outcome: Outcome,
    /// Of the group, where there was one.
    pub counted: Option<GroupUsage>,
    pub is_disk_full: bool,
    pub passed: Passed,
    pub not_enforced: Vec<NotEnforced>,
    pub walls: Vec<Layer>,
    pub wall: Duration,
}

pub(super) fn make(order: &RunOrder, facts: Facts) -> RunReport {
    let Facts { outcome, counted, is_disk_full, passed, not_enforced, walls, wall } = facts;
    let evidence = Evidence { is_disk_full, ..evidence(&counted) };
    let reason = Reason::of(&outcome.ended, &evidence);
    let (exit_status, signal) = match outcome.ended.end {
        End::Exited(status) => (Some(status), None),
        End::Signaled(signal) => (None, Some(signal)),
        End::Killed => (None, Some(SIGKILL)),
    };
    let (name, message) = match outcome.is_late {
        true => ("time", "was killed when its time was over".to_owned()),
        false => (reason.as_str(), reason.to_string()),
    };
    RunReport {
        reason: name.to_owned(),
        message,
        exit_status,
        signal,
        status: if outcome.is_late { STATUS_TIME } else { status(outcome.ended.end) },
        profile: order.profile.as_str().to_owned(),
        wall_ms: milliseconds(wall),
        cpu_ms: cpu_us(&outcome, &counted) / 1_000,
        usage: usage(&outcome, &counted, &passed),
        denials: denials(&evidence, reason).into_iter().chain(passed.denials).collect(),
        not_enforced: missing_walls(&walls).into_iter().chain(not_enforced).collect(),
        walls: walls
            .into_iter()
            .map(|layer| Wall { name: layer.name, is_active: layer.is_active, detail: layer.detail })
            .collect(),
    }
}

pub(super) fn missing_walls(walls: &[Layer]) -> Vec<NotEnforced> {
    let missing = walls.iter().filter(|layer| !layer.is_active && !ADDITIONS.contains(&layer.name.as_str()));
    missing.map(|layer| NotEnforced { what: layer.name.clone(), reason: layer.detail.clone() }).collect()
}

/// As shells have it.
fn status(end: End) -> u8 {
    match end {
        End::Exited(status) => u8::try_from(status & 0xff).unwrap_or(u8::MAX),
        End::Signaled(signal) => u8::try_from(128_i32.saturating_add(signal)).unwrap_or(u8::MAX),
        End::Killed => 128 + SIGKILL as u8,
    }
}

fn evidence(counted: &Option<GroupUsage>) -> Evidence {
    let usage = counted.unwrap_or_default();
    Evidence {
        oom_kills: usage.memory.map_or(0, |memory| memory.oom_kills),
        processes_refused: usage.processes.map_or(0, |processes| processes.refused),
        ..Evidence::default()
    }
}

/// The group's count has everything; that of the kernel for a parent lacks what was killed together with the init.
fn cpu_us(outcome: &Outcome, counted: &Option<GroupUsage>) -> u64 {
    let group = counted.and_then(|usage| usage.cpu).map(|cpu| cpu.total_us);
    group.unwrap_or(outcome.ended.rusage.cpu_us)
}

fn usage(outcome: &Outcome, counted: &Option<GroupUsage>, passed: &Passed) -> RunUsage {
    let network = RunUsage {
        network_in_bytes: passed.bytes.map(|bytes| bytes.r#in),
        network_out_bytes: passed.bytes.map(|bytes| bytes.out),
        ..RunUsage::default()
    };
    let Some(usage) = counted else {
        return RunUsage {
            source: "process".to_owned(),
            memory_peak_bytes: Some(outcome.ended.rusage.memory_peak_bytes),
            ..network
        };
    };
    RunUsage {
        source: "cgroup".to_owned(),
        memory_peak_bytes: usage.memory.and_then(|memory| memory.peak_bytes),
        processes_peak: usage.processes.and_then(|processes| processes.peak),
        read_bytes: usage.disk.map(|disk| disk.read_bytes),
        written_bytes: usage.disk.map(|disk| disk.write_bytes),
        ..network
    }
}

fn denials(evidence: &Evidence, reason: Reason) -> Vec<Denial> {
    let mut denials = Vec::new();
    let mut deny = |kind: &str, reason: &str, count: u64| {
        if count > 0 {
            denials.push(Denial { kind: kind.to_owned(), target: None, reason: reason.to_owned(), count });
        }
    };
    deny("memory", "a process was killed at the limit of memory", evidence.oom_kills);
    deny("processes", "a process or thread more was refused", evidence.processes_refused);
    deny("disk", "a directory that is shared writable was full", u64::from(reason == Reason::Disk));
    deny(
        "system-call",
        "a system call that the sandbox does not have ended a process",
        u64::from(reason == Reason::Seccomp),
    );
    denials
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_shells() {
        for (end, expected) in [
            (End::Exited(0), 0),
            (End::Exited(7), 7),
            (End::Exited(256), 0),
            (End::Signaled(2), 130),
            (End::Signaled(9), 137),
            (End::Signaled(31), 159),
            (End::Killed, 137),
        ] {
            assert_eq!(status(end), expected, "{end:?}");
        }
    }
}
