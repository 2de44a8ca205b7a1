//! The program `agent-os`: reads what only a process has (arguments, environment, signals, standard streams) and hands it
//! to the command line and the server. Everything else lives in a library.

mod checks;
mod descriptors;
mod detach;
mod egress;
mod host;
mod install;
mod kernel;
mod layout;
mod log_key;
mod migrate;
mod model_access;
mod model_config;
mod model_doors;
mod models;
mod programs;
mod rights;
mod sandbox_run;
mod sandboxes;
mod server;
mod syscalls;
mod traces;
mod witness;
mod workshop;

use std::process::ExitCode;

use agentos_base::Ambient;
use agentos_cli::{Console, Invocation};
use mimalloc::MiMalloc;

/// A call of a model is begun by one thread and ended by another; the C library's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // First of all, so that it gets ready beside everything else; by the thread that runs the command, with which it ends.
    let host = host::ProgramHost::new(sandbox_run::start_early(&args));
    let is_lean = agentos_cli::is_lean(&args);
    // One crypto provider for the whole process; a second install would mean a second provider in the tree. What a sandbox
    // says over TLS its proxy says, which is a process of its own.
    if !is_lean && rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let invocation = Invocation {
        args,
        environment: std::env::vars().collect(),
        ambient: Ambient::system(),
        console: Console::process(),
    };
    #[cfg(feature = "failpoints")]
    if let Err(refusal) = arm(&invocation) {
        return refusal;
    }
    // Threads take longer to start than a sandbox does.
    let mut builder = match is_lean {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::FAILURE,
    };
    let exit = runtime.block_on(agentos_cli::run(invocation, &host));
    if is_lean {
        // The kernel takes everything back by itself, and sooner than piece by piece.
        std::process::exit(exit.code().into());
    }
    exit.into()
}

/// Lets the process die at the point that the environment names. Only builds for tests have this.
#[cfg(feature = "failpoints")]
fn arm(invocation: &Invocation) -> Result<(), ExitCode> {
    use std::io::Write;

    let Some(text) = invocation.environment.get(agentos_failpoint::VARIABLE) else { return Ok(()) };
    agentos_failpoint::arm(text).map_err(|refusal| {
        let _ = writeln!(std::io::stderr(), "{}: {refusal}", agentos_failpoint::VARIABLE);
        ExitCode::FAILURE
    })
}
