//! Measures what this product promises. `cargo run --release -p agentos-benches [-- FILTER...]` prints one table.
//!
//! Each figure is measured in rounds, and what it is held against (a sync of the same disk, a bare queue, the start of a
//! bare process) is measured between those rounds, because machines are shared and disks have moods. A goal that is not
//! met is printed as such and does not fail the run: this program reports, it does not decide.

mod figure;
mod inside;
mod models;
mod outside;
mod pace;
mod place;
mod probe;
mod progress;
mod sample;
mod sandbox;
mod table;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use agentos_types::Timestamp;
use anyhow::Result;
use clap::Parser;

use crate::{
    figure::Figure,
    place::Place,
    progress::Progress,
    table::{Line, Setting},
};

#[derive(Debug, Parser)]
#[command(name = "agentos-benches", about = "Measures the figures that AgentOS promises")]
struct Arguments {
    /// Only groups whose name contains one of these words
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Only list the groups
    #[arg(long)]
    list: bool,
    /// Do not tell what is being measured
    #[arg(short, long)]
    quiet: bool,
    /// Of each cell of the group `models`: a target under one load in one round
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    seconds: f64,
    /// Measure spawns of these kinds as the present user and print them, for the group `spawn`
    #[arg(long, value_name = "KINDS", hide = true, requires = "programs")]
    spawns: Option<String>,
    /// Directory of the programs for that
    #[arg(long, value_name = "DIR", hide = true)]
    programs: Option<PathBuf>,
    /// Directory on a disk for everything that is written [default: beside the build]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Groups in the order in which they are measured, with what they hold.
const GROUPS: &[(&str, &str)] = &[
    ("start", "exec of agent-os up to the first answer of /ready"),
    ("memory", "resident memory of an idle installation"),
    ("size", "size of the programs"),
    ("websocket", "a whole task over the WebSocket, and its wait in the journal"),
    ("tasks", "enqueue to start and durable tasks a second, in process"),
    ("audit", "append to the audit log, and its verification"),
    ("crash", "kill -9 of an agent, and of the launcher, until all it took along are ready again"),
    ("backlog", "kill -9 of a server with 10,000 open tasks until work goes on"),
    ("syscall", "a system call through the monitor, without the disk"),
    ("spawn", "a program in a sandbox up to its first word, wall by wall, beside bubblewrap and crun"),
    ("sandbox-run", "agent-os sandbox run from start to end, beside bubblewrap"),
    ("density", "a thousand idle agents of one server, beside bare sandboxes"),
    ("bombs", "the tasks of an agent beside one that takes CPU, memory, processes or the disk"),
    ("egress", "connections, requests and bytes through the egress proxy, beside direct ones"),
    (
        "models",
        "model calls through the gateway beside the least proxies and LiteLLM: added time, requests a second, streams",
    ),
    ("tracing", "the same call and durable tasks, with every trace exported and with none"),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a group could not be measured.
async fn run(arguments: &Arguments) -> Result<bool> {
    let mut out = io::stdout().lock();
    if let (Some(kinds), Some(programs)) = (&arguments.spawns, &arguments.programs) {
        let count = sandbox::spawn::SPAWNS_PER_ROUND;
        writeln!(out, "{}", sandbox::elsewhere::measure(kinds, programs, count).await?)?;
        return Ok(true);
    }
    if arguments.list {
        for (name, about) in GROUPS {
            writeln!(out, "{name:<10} {about}")?;
        }
        return Ok(true);
    }
    let place = Place::take(arguments.directory.as_deref())?;
    let setting = setting();
    let progress = Progress { is_quiet: arguments.quiet };
    let mut lines = Vec::new();
    for (group, _) in GROUPS.iter().filter(|(name, _)| is_wanted(&arguments.filters, name)) {
        progress.say(group);
        match measure(group, &place, progress, arguments).await {
            Ok(figures) => lines.extend(figures.into_iter().map(Line::Figure)),
            Err(error) => lines.push(Line::Failed { group, reason: format!("{error:#}") }),
        }
    }
    anyhow::ensure!(!lines.is_empty(), "no group has a name with {}; see --list", arguments.filters.join(" or "));
    if arguments.json {
        table::print_json(&mut out, &setting, &lines)?;
    } else {
        table::print(&mut out, &setting, &lines)?;
    }
    Ok(!lines.iter().any(|line| matches!(line, Line::Failed { .. })))
}

fn is_wanted(filters: &[String], group: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| group.contains(filter.as_str()))
}

async fn measure(group: &str, place: &Place, progress: Progress, arguments: &Arguments) -> Result<Vec<Figure>> {
    match group {
        "tasks" => inside::tasks::measure(place, progress).await,
        "spawn" => sandbox::spawn::measure(place, progress).await,
        "sandbox-run" => sandbox::run::measure(place, progress),
        "density" => outside::density::measure(place, progress).await,
        "bombs" => outside::bombs::measure(place, progress).await,
        "models" => models::measure(place, progress, arguments.seconds).await,
        "tracing" => inside::traced::measure(place, progress).await,
        "backlog" => outside::backlog::measure(place, progress).await,
        "egress" => inside::egress::measure(progress),
        "audit" => inside::audit::measure(place, progress).await,
        "start" => outside::start::measure(place, progress),
        "memory" => outside::memory::measure(place, progress).await,
        "size" => outside::size::measure(place),
        "websocket" => outside::websocket::measure(place, progress).await,
        "crash" => outside::crash::measure(place, progress).await,
        "syscall" => inside::syscalls::measure(place, progress).await,
        _ => anyhow::bail!("there is no group {group}"),
    }
}

fn setting() -> Setting {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Setting {
        machine: format!("{cores} cores, Linux {}", release.trim()),
        profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        started_at: Timestamp::ZERO.after(since_epoch).to_string(),
    }
}
