//! `agent-os-egress`: started by the server inside a sandbox of its own, with its socket as descriptor 3. Arguments:
//! files of additional certificate authorities, one `--roots FILE` each. Standard error is its log.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use agentos_base::{
    Ambient,
    redact::Redactor,
    telemetry::{self, LogFormat},
};
use agentos_egress::proxy::{ProxyOptions, inherited, run};
use agentos_types::{Code, Fault, Result};
use tracing::level_filters::LevelFilter;

/// Threads for lookups of names beside the one that does everything else: the resolver's own limit.
const LOOKUP_THREADS_MAX: usize = 32;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let detail = fault.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let _ = writeln!(io::stderr(), "agent-os-egress: {fault}{detail}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    let socket = inherited()?;
    let ambient = Ambient::system();
    telemetry::install(LevelFilter::WARN, LogFormat::Text, Redactor::default(), ambient.clone(), None);
    let mut options = ProxyOptions::new(ambient);
    options.extra_roots = roots(std::env::args_os().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .build()
        .map_err(Fault::internal)?;
    let ended = runtime.block_on(run(socket, options));
    // Lookups that nobody waits for must not hold up the end.
    runtime.shutdown_background();
    ended
}

fn roots(mut arguments: impl Iterator<Item = OsString>) -> Result<Vec<PathBuf>> {
    let usage = || Fault::new(Code::USAGE, "usage: agent-os-egress [--roots FILE]...");
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument != "--roots" {
            return Err(usage());
        }
        files.push(arguments.next().ok_or_else(usage)?.into());
    }
    Ok(files)
}
