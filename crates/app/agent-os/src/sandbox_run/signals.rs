//! Signals that people and service managers send to us, handed on to the command. It has a session of its own, so that the
//! terminal's keys reach this process alone.

use std::fs;

use agentos_types::{Code, Result, fault::OrFault};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{self, SignalKind};

pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| unix::signal(kind).or_fault(Code::LAUNCH_FAILED, "signals cannot be handed on");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

/// To the command itself, the first child of the sandbox's init, and to its process group, as a terminal does. A command
/// that has just ended gets nothing, and neither does whoever has its number next: the init is its parent as long as the
/// descriptor of it is open.
pub(super) fn forward(init: u32, signal: Signal) {
    let Some(command) = first_child(init) else { return };
    let Ok(held) = pidfd_open(command, PidfdFlags::empty()) else { return };
    if first_child(init) != Some(command) {
        return;
    }
    // It leads a group when it is the leader of its session; otherwise it gets the signal alone.
    if kill_process_group(command, signal).is_err() {
        let _ = pidfd_send_signal(&held, signal);
    }
}

fn first_child(pid: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}
