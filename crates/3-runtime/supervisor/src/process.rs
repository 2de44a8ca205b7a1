//! One worker process: its end is seen at once through a pidfd, and it is killed as a group.

use std::{
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    time::Duration,
};

use agentos_types::{Fault, Result};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// A killed process that is not gone by now hangs in the kernel, in a call that no signal ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Killed with its group when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Process {
    pub(crate) fn watch(mut child: Child) -> Result<Self> {
        let opened = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| Fault::internal("a process number out of range"))
            .and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(Fault::internal)?)))
            .and_then(|(pid, fd)| Ok((pid, register(fd).map_err(Fault::internal)?)));
        match opened {
            Ok((pid, pidfd)) => Ok(Self { child, pid, pidfd, reaped: false }),
            Err(fault) => {
                // A process that cannot be watched must not run; both fail only if it is gone already.
                let _ = child.kill();
                let _ = child.wait();
                Err(fault)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns when the process has ended, also if that was before. It is not reaped yet: its number stays its own.
    pub(crate) async fn exited(&self) {
        if self.pidfd.readable().await.is_err() {
            // The runtime is going down; whoever waits is dropped with it.
            std::future::pending::<()>().await;
        }
    }

    /// SIGKILL to everything in its group. Before the launcher has made its session there is no group, hence both.
    pub(crate) fn kill(&self) {
        if self.reaped {
            return;
        }
        // Either fails only when nobody is left to get the signal.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Kills what is left and waits for the end. False: the process hangs in the kernel.
    pub(crate) async fn end(&self) -> bool {
        self.kill();
        tokio::time::timeout(KILL_TIMEOUT, self.exited()).await.is_ok()
    }

    /// After the end: takes the status and frees the number.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.reaped |= status.is_some();
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe to call, for types that may close or change their descriptor; OwnedFd cannot"
)]
fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// In words, for people: `exited with status 1`, `was ended by signal 9 (SIGKILL)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("was ended by signal {signal} ({name})"),
            None => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The signals that end workers in practice.
fn signal_name(signal: i32) -> Option<&'static str> {
    let known = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::ILL, "SIGILL"),
        (Signal::INT, "SIGINT"),
        (Signal::KILL, "SIGKILL"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::SYS, "SIGSYS"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU, the CPU time limit"),
        (Signal::XFSZ, "SIGXFSZ, the file size limit"),
    ];
    known.into_iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_end_is_seen_and_told_in_words() {
        for (script, expected) in [
            ("exit 3", "exited with status 3"),
            ("kill -9 $$", "was ended by signal 9 (SIGKILL)"),
            ("kill -XCPU $$", "was ended by signal 24 (SIGXCPU, the CPU time limit)"),
        ] {
            let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
            let mut process = Process::watch(child).unwrap();
            process.exited().await;
            assert_eq!(describe(process.reap().unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn a_process_without_a_group_of_its_own_is_killed_alone() {
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let mut process = Process::watch(child).unwrap();
        assert!(process.reap().is_none());
        assert!(process.end().await);
        assert!(describe(process.reap().unwrap()).contains("signal 9"));
    }
}
