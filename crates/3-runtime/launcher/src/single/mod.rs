//! The launcher that becomes its worker: one order from a stream socket, then `execve`, without namespaces.

pub mod intake;
pub mod order;
pub mod stages;

use std::{ffi::OsString, io::Write, process::ExitCode};

use agentos_protocol::{WorkerFrame, wire};

use crate::{EXIT_NO_ORDER, EXIT_NOT_LAUNCHED, Failure, sys};

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
