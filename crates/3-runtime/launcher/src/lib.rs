//! The launcher: the program between the supervisor and an agent.
//!
//! The supervisor is large and multi-threaded, so it must not fork and then run its own code in the child. It spawns this
//! small single-threaded program instead, with a unix stream socket as descriptor 0 and pipes as 1 and 2. The launcher
//! ties its life to the supervisor's, reads one [`agentos_protocol::launch::LaunchOrder`] from the socket, gives up every
//! inherited thing in the order of [`stages::STAGES`], and becomes the worker by `execve`, which then finds the socket as
//! descriptor 3. It trusts neither its environment nor its descriptors, and reads nothing else.
//!
//! If anything fails, one `launch-failed` frame with the stage and the reason goes over the socket and the exit status is
//! [`EXIT_NO_ORDER`] or [`EXIT_NOT_LAUNCHED`]; the agent's program has then not run at all.
//!
//! What the supervisor must know: the kernel sends the parent-death signal when the *thread* that spawned the launcher
//! ends, so it spawns from a thread that lives as long as the process. It must not make the launcher a process group
//! leader, because the launcher makes its own session.

pub mod intake;
pub mod landlock;
pub mod order;
pub mod seccomp;
pub mod stages;
pub mod sys;

use std::{ffi::OsString, io::Write, process::ExitCode};

use agentos_protocol::{WorkerFrame, wire};

/// No valid order was received: wrong arguments, dead parent, no socket, bad frame.
pub const EXIT_NO_ORDER: u8 = 125;
/// The order was valid and could not be carried out.
pub const EXIT_NOT_LAUNCHED: u8 = 126;

/// Why the worker does not exist, in the words of the `launch-failed` frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: &'static str,
    pub message: String,
}

/// Becomes the worker; returns only if that failed.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut channel = sys::STDIN;
    let order = match intake::receive(arguments, channel) {
        Ok(order) => order,
        Err(failure) => return report(channel, &failure, EXIT_NO_ORDER),
    };
    for stage in stages::STAGES {
        if let Err(message) = (stage.run)(&order, &mut channel) {
            return report(channel, &Failure { stage: stage.name, message }, EXIT_NOT_LAUNCHED);
        }
    }
    // Unreachable while the last stage is `execute`, which either replaces this program or fails.
    let failure = Failure { stage: "execute", message: "the program was not executed".into() };
    report(channel, &failure, EXIT_NOT_LAUNCHED)
}

/// Tells the supervisor. When even the socket does not work, the reason goes to stderr, which the supervisor keeps.
fn report(channel: i32, failure: &Failure, status: u8) -> ExitCode {
    let frame = WorkerFrame::LaunchFailed { stage: failure.stage.into(), message: failure.message.clone() };
    let sent = wire::encode(&frame)
        .map_err(|fault| fault.message)
        .and_then(|bytes| sys::send_all(channel, &bytes).map_err(|error| error.to_string()));
    if sent.is_err() {
        // Nobody is left to tell if stderr fails as well; the exit status still says it.
        let _ = writeln!(std::io::stderr(), "agent-os-launch: {}: {}", failure.stage, failure.message);
    }
    ExitCode::from(status)
}
