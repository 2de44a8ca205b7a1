//! The lifecycle of an agent as one pure table. Nothing else in the product decides what state follows from what.

use std::fmt;

use agentos_types::agent::AgentState;

/// What can happen to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A new version was installed over this one.
    Deploy,
    /// The server has started; no process exists yet.
    Boot,
    /// Begin to run: the first time, or on from a pause that has no ready worker.
    Start,
    /// The worker has said that it is ready.
    Ready,
    TaskAssigned,
    /// No task for a while.
    Idle,
    Pause,
    /// On from a pause, with the worker that was kept.
    Resume,
    /// An operator asked for it, or the supervisor had to end a worker that is not to blame.
    Restart,
    /// The process ended by itself or broke the protocol.
    Crash,
    /// The process did not answer in time.
    Hang,
    /// The launcher could not start the program.
    LaunchFailed,
    /// The launcher has ended, and the process with it or before it began; or none could be had.
    LauncherLost,
    /// The package, the manifest or the launcher is not fit for a start; waiting would not help.
    Refused,
    BackoffOver,
    /// Too many failures in a row, or too many launchers lost.
    FailureLimit,
    Terminate,
}

impl Event {
    pub const ALL: [Event; 17] = [
        Event::Deploy,
        Event::Boot,
        Event::Start,
        Event::Ready,
        Event::TaskAssigned,
        Event::Idle,
        Event::Pause,
        Event::Resume,
        Event::Restart,
        Event::Crash,
        Event::Hang,
        Event::LaunchFailed,
        Event::LauncherLost,
        Event::Refused,
        Event::BackoffOver,
        Event::FailureLimit,
        Event::Terminate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Event::Deploy => "deploy",
            Event::Boot => "boot",
            Event::Start => "start",
            Event::Ready => "ready",
            Event::TaskAssigned => "task-assigned",
            Event::Idle => "idle",
            Event::Pause => "pause",
            Event::Resume => "resume",
            Event::Restart => "restart",
            Event::Crash => "crash",
            Event::Hang => "hang",
            Event::LaunchFailed => "launch-failed",
            Event::LauncherLost => "launcher-lost",
            Event::Refused => "refused",
            Event::BackoffOver => "backoff-over",
            Event::FailureLimit => "failure-limit",
            Event::Terminate => "terminate",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state after `event`, or `None` where it is not possible. A state may follow itself: the event counts all the same.
pub fn next(state: AgentState, event: Event) -> Option<AgentState> {
    use AgentState::*;
    Some(match (state, event) {
        (Terminated, _) => return None,
        (_, Event::Terminate) => Terminated,
        // A pause outlives a new version: only the operator ends it.
        (Paused, Event::Deploy) => Paused,
        (_, Event::Deploy | Event::Restart) => Starting,
        (Installed | Starting | Ready | Running | BackingOff, Event::Boot) => Starting,
        (Installed | Paused, Event::Start) => Starting,
        (Starting, Event::Ready) => Ready,
        // A paused worker may still come up, fail or end; it stays paused whatever happens to it.
        (Paused, Event::Ready | Event::Crash | Event::Hang | Event::LaunchFailed | Event::LauncherLost) => Paused,
        (Ready, Event::TaskAssigned) => Running,
        (Running, Event::Idle) => Ready,
        (Installed | Starting | Ready | Running | BackingOff, Event::Pause) => Paused,
        (Paused, Event::Resume) => Ready,
        (Starting | Ready | Running, Event::Crash | Event::Hang | Event::LauncherLost) => BackingOff,
        (Starting, Event::LaunchFailed) => BackingOff,
        (Starting, Event::Refused) => Failed,
        (BackingOff, Event::BackoffOver) => Starting,
        (BackingOff, Event::FailureLimit) => Quarantined,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
