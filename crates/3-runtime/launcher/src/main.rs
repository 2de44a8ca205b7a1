//! `agent-os-launch --parent PID`: spawned by the supervisor with a socket as stdin, becomes the worker or says why not.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentos_launcher::run(std::env::args_os().skip(1))
}
