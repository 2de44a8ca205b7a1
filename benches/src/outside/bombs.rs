//! What one agent that takes all it can get costs another one of the same server: the neighbour's tasks, at a pace, in quiet
//! windows and in windows with a bomb beside it, in turn, so that the moods of a shared machine fall on both.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agentos_api::kernel::AgentCommand;
use agentos_types::{AgentName, agent::Usage};
use anyhow::{Context, Result, ensure};
use rustix::{
    fs::statfs,
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde_json::json;
use tokio::{task::block_in_place, time::sleep};

use super::{
    Installation, PATIENCE, Server,
    crash::is_successor,
    doctor,
    echo::{at_pace, whole},
    echo_manifest, is_up,
    session::Session,
};
use crate::{
    figure::{Figure, Goal, number},
    place::Place,
    progress::Progress,
    sample::{Rounds, median},
};

/// Pairs of windows for each bomb.
const WINDOWS: usize = 5;
/// Tasks of one window: an agent that is in use, and enough of them for a p95.
const TASKS: usize = 100;
const TASKS_PER_SECOND: u32 = 125;
/// A session follows at most 32 tasks at the same time; none of a window's tasks has to wait for another one's end.
const SESSIONS: usize = 4;
/// Before anything is kept.
const WARM_UP: usize = 50;
/// A bomb is at its worst a little after it began.
const FUSE: Duration = Duration::from_millis(300);
const RATIO_MAX: f64 = 1.5;
const NEIGHBOUR: &str = "neighbour";
const CONCURRENT_TASKS: u32 = 16;
/// As in the limits below.
const MEMORY_BYTES: u64 = 256 << 20;
/// What a bomb may have; a bomb without limits is not what the walls are for.
const LIMITS: &str = "memory_bytes = 268435456\nprocesses = 64\ncpu_percent = 100\nworkspace_bytes = 268435456\n";
/// Of the agent whose use of the disk is limited.
const DISK_BYTES_PER_SECOND: u64 = 8 << 20;

const BYTES_PER_MIB: f64 = 1_048_576.0;

struct Bomb {
    agent: &'static str,
    /// As the program in the package knows it.
    kind: &'static str,
    name: &'static str,
    has_disk_limit: bool,
}

const fn bomb(agent: &'static str, kind: &'static str, name: &'static str) -> Bomb {
    Bomb { agent, kind, name, has_disk_limit: false }
}

const BOMBS: [Bomb; 5] = [
    bomb("bomb-cpu", "cpu", "CPU"),
    bomb("bomb-memory", "memory", "memory"),
    bomb("bomb-fork", "fork", "fork"),
    bomb("bomb-disk", "disk", "disk"),
    Bomb { has_disk_limit: true, ..bomb("bomb-disk-held", "disk", "disk (8 MiB/s)") },
];

/// The neighbour's times beside one bomb.
#[derive(Default)]
struct Beside {
    quiet: Rounds,
    loud: Rounds,
    ratios: Vec<f64>,
    /// Beside a process that is no agent and does the same.
    plain_ratios: Vec<f64>,
    /// What the bomb had taken by the end of each window, in the unit of its kind.
    taken: Vec<f64>,
}

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let installation = Installation::make(place)?;
    let driver = doctor::workspace_driver(&installation)?;
    ensure!(driver != "tmpfs", "workspaces are in memory here, so a bomb would write to no disk");
    let disk = format!("workspaces: {driver} on {}", file_system(&installation)?);
    let (server, _) = installation.up()?;
    let programs = installation.programs();
    installation.deploy(&server, &programs.echo, &echo_manifest(NEIGHBOUR, CONCURRENT_TASKS)).await?;
    let names = installation.deploy_all(&server, &programs.bomb, BOMBS.iter().map(manifest)).await?;
    server.wait_until_up(names.len() + 1, PATIENCE).await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open(&server).await?);
    }
    at_pace(&sessions, NEIGHBOUR, TASKS_PER_SECOND, WARM_UP).await?;
    let mut all: Vec<Beside> = BOMBS.iter().map(|_| Beside::default()).collect();
    for round in 1..=WINDOWS {
        progress.say(&format!("bombs beside a neighbour, round {round} of {WINDOWS}"));
        for ((bomb, name), beside) in BOMBS.iter().zip(&names).zip(&mut all) {
            pair(&server, &sessions, bomb, name, beside).await.with_context(|| bomb.name)?;
            if bomb.kind == "memory" {
                beside.plain_ratios.push(plain_pair(&sessions, &programs.bomb).await.context("a plain process")?);
            }
        }
    }
    drop(sessions);
    server.stop()?;
    Ok(BOMBS.iter().zip(&all).map(|(bomb, beside)| beside.figure(bomb, &disk)).collect())
}

/// A quiet window, the bomb, a window beside it, the end of the bomb.
async fn pair(server: &Server, sessions: &[Session], bomb: &Bomb, name: &AgentName, beside: &mut Beside) -> Result<()> {
    let calm = window(sessions).await?;
    let before = server.wait_for(name, "ready", is_up).await?;
    let session = sessions.first().context("there is no session")?;
    whole(session, bomb.agent, json!({"bomb": bomb.kind}), Instant::now()).await?;
    sleep(FUSE).await;
    let shaken = window(sessions).await?;
    let lit = server.client.get_agent(name).await?;
    let taken = taken(bomb.kind, &before.usage, &lit.usage);
    // Where no group counts them, kills for memory are not seen.
    ensure!(taken > 0.0 || bomb.kind == "memory", "the bomb did not go off");
    // Ends it with everything that it has started.
    server.client.command_agent(name, AgentCommand::Restart).await?;
    server.wait_for(name, "ready after the bomb", |now| is_successor(&before, now)).await?;
    beside.taken.push(taken);
    beside.ratios.push(p95(&shaken) / p95(&calm));
    beside.quiet.push(calm);
    beside.loud.push(shaken);
    Ok(())
}

/// The same pair of windows beside a process that is no agent and takes as much memory, over and over, on one processor: what
/// giving pages out and taking them back costs everybody on this machine.
async fn plain_pair(sessions: &[Session], program: &Path) -> Result<f64> {
    let calm = window(sessions).await?;
    let plain = Plain::light(program)?;
    sleep(FUSE).await;
    let shaken = window(sessions).await?;
    drop(plain);
    Ok(p95(&shaken) / p95(&calm))
}

/// Held by a limit of its own instead of a group.
struct Plain(Child);

impl Plain {
    fn light(program: &Path) -> Result<Self> {
        // Before it begins: without its limit it would take the machine's memory.
        let script = format!("ulimit -c 0 && ulimit -v {} && exec \"$0\" memory", MEMORY_BYTES >> 10);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).arg(program).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("it has no output")?;
        let plain = Self(child);
        let process = Pid::from_child(&plain.0);
        let (all, mut one) = (sched_getaffinity(None)?, CpuSet::new());
        let last = (0..CpuSet::MAX_CPU).rev().find(|processor| all.is_set(*processor)).context("no processor")?;
        one.set(last);
        sched_setaffinity(Some(process), &one)?;
        let mut word = String::new();
        block_in_place(|| BufReader::new(output).read_line(&mut word))?;
        ensure!(word == "ready\n", "it says '{word}'");
        Ok(plain)
    }
}

/// What it has started meets its limit a moment later.
impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What tells that a bomb of this kind has gone off.
fn taken(kind: &str, before: &Usage, lit: &Usage) -> f64 {
    match kind {
        "cpu" => lit.cpu_ms.saturating_sub(before.cpu_ms) as f64,
        "memory" => lit.oom_kills.saturating_sub(before.oom_kills) as f64,
        "fork" => lit.processes.saturating_sub(before.processes) as f64,
        // Not the size of the workspace, which may be full already since the bomb before.
        _ => lit.disk_write_bytes.saturating_sub(before.disk_write_bytes) as f64 / BYTES_PER_MIB,
    }
}

/// In words.
fn unit(kind: &str) -> &'static str {
    match kind {
        "cpu" => "ms of CPU",
        "memory" => "kills at its limit of memory",
        "fork" => "processes",
        _ => "MiB of its disk, written",
    }
}

async fn window(sessions: &[Session]) -> Result<Vec<f64>> {
    let echoes = at_pace(sessions, NEIGHBOUR, TASKS_PER_SECOND, TASKS).await?;
    Ok(echoes.iter().map(|echo| echo.whole).collect())
}

fn p95(samples: &[f64]) -> f64 {
    [samples.to_vec()].into_iter().collect::<Rounds>().p95()
}

impl Beside {
    fn figure(&self, bomb: &Bomb, disk: &str) -> Figure {
        let ratios: Rounds = self.ratios.iter().map(|ratio| vec![*ratio]).collect();
        let note = format!(
            "median of {WINDOWS} pairs of windows of {TASKS} tasks at {TASKS_PER_SECOND}/s; p95 {} ms quiet, {} ms beside it; \
             the bomb took {} {}",
            number(self.quiet.p95()),
            number(self.loud.p95()),
            number(median(self.taken.iter().copied())),
            unit(bomb.kind)
        );
        let note = if bomb.kind == "disk" { format!("{note}; {disk}") } else { note };
        let name = format!("p95 task of a neighbour under a {} bomb, of its quiet p95", bomb.name);
        let values = vec![("", median(self.ratios.iter().copied()))];
        let figure = Figure::values(name, "×", values, &ratios).goal(Goal::at_most(RATIO_MAX)).note(note);
        if self.plain_ratios.is_empty() {
            return figure;
        }
        figure.beside("the same by a process that is no agent", median(self.plain_ratios.iter().copied()))
    }
}

fn manifest(bomb: &Bomb) -> String {
    let disk =
        if bomb.has_disk_limit { format!("disk_bytes_per_second = {DISK_BYTES_PER_SECOND}\n") } else { String::new() };
    format!(
        "schema = 1\nname = \"{}\"\nversion = \"1.0.0\"\ndescription = \"Takes all it can get\"\n\
         command = [\"bomb-agent\"]\n\n[limits]\n{LIMITS}{disk}",
        bomb.agent
    )
}

/// Of the data directory: a disk, or the run would have been refused.
fn file_system(installation: &Installation) -> Result<String> {
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    Ok(match statfs(installation.directory())?.f_type {
        EXT => "ext4".into(),
        XFS => "xfs".into(),
        BTRFS => "btrfs".into(),
        other => format!("file system {other:#x}"),
    })
}
