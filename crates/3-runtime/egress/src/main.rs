//! `agent-os-egress`: started by the server inside a sandbox of its own, with its socket as descriptor 3.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::FAILURE
}
