//! A thousand idle agents of one server: how soon all are ready, what each holds, how soon each does a task. Beside them as
//! many sandboxes without server and agent, and as many of bubblewrap. Once more with the workspaces that a server has without
//! any setting, where each start makes or mounts a file system.

use std::time::{Duration, Instant};

use agentos_limits::quota::{QuotaChoice, WorkspaceOptions, Workspaces};
use agentos_types::AgentName;
use anyhow::Result;
use tokio::time::sleep;

use super::{
    Installation, Server,
    echo::echo,
    echo_manifest,
    memory::{Reading, processes},
    session::Session,
};
use crate::{
    figure::{Figure, Goal, number},
    place::Place,
    probe::millis,
    progress::Progress,
    sample::Rounds,
    sandbox::idle::{self, Crowd, Memory},
};

const COUNT: u32 = 1_000;
/// Of a machine that starts five a second; more is a defect, and no figure.
const PATIENCE: Duration = Duration::from_secs(200);
/// Idle means that nothing has happened for a while.
const SETTLE: Duration = Duration::from_secs(2);
const OVERHEAD_MAX_KIB: f64 = 1_024.0;
const KIB_PER_MB: f64 = 1_000_000.0 / 1_024.0;
/// In memory, so that agents are measured: a thousand file systems of their own, as root has them, would be most of it.
const WORKSPACES: &[&str] = &["sandbox.workspace=tmpfs"];
/// From the first deployment to the last agent that is ready.
const DEPLOYED_MAX_S: f64 = 60.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let programs = place.sandbox_programs()?;
    progress.say(&format!("{COUNT} sandboxes"));
    let bare = idle::sandboxes(programs.path(), COUNT).await?;
    progress.say(&format!("{COUNT} sandboxes of bubblewrap"));
    let wrapped = idle::bubblewraps(programs.path(), COUNT);
    let mut figures = of_sandboxes(&bare, wrapped.as_ref());
    figures.extend(agents(place, progress, &bare).await?);
    figures.extend(with_own_disks(place, progress).await?);
    Ok(figures)
}

fn of_sandboxes(bare: &Crowd, wrapped: Result<&Crowd, &anyhow::Error>) -> Vec<Figure> {
    let count = f64::from(COUNT);
    let up = Figure::values(format!("{COUNT} idle sandboxes up"), "s", vec![("", bare.up_s)], &one(bare.up_s))
        .note(format!("{} a second, {} at once", number(count / bare.up_s), idle::STARTING_AT_ONCE));
    let values = vec![("", bare.memory_kib), ("slab", bare.slab_kib)];
    let memory = Figure::values("memory of each sandbox, machine-wide", "KiB", values, &one(bare.memory_kib))
        .goal(Goal::at_most(OVERHEAD_MAX_KIB));
    let (up, memory) = match wrapped {
        Ok(wrapped) => (
            up.beside("bwrap --unshare-all, one by one", wrapped.up_s),
            memory
                .beside("bwrap --unshare-all, no cgroup", wrapped.memory_kib)
                .note("the fall of MemAvailable, program included"),
        ),
        Err(error) => (up, memory.note(format!("the fall of MemAvailable, program included; no peer: {error:#}"))),
    };
    vec![up, memory, Figure::times("a word to each sandbox and back", &bare.words, 0.95)]
}

/// A server that has a thousand agents, and how long that took.
struct Deployed {
    installation: Installation,
    names: Vec<AgentName>,
    seconds: f64,
}

impl Deployed {
    /// Leaves no server running.
    async fn make(place: &Place, settings: &[&str]) -> Result<Self> {
        let installation = Installation::make_with(place, settings)?;
        let (server, _) = installation.up()?;
        let manifests = (1..=COUNT).map(|number| echo_manifest(&format!("idle-{number}"), 1));
        let began = Instant::now();
        let names = installation.deploy_all(&server, &installation.programs().echo, manifests).await?;
        server.wait_until_up(names.len(), PATIENCE).await?;
        let seconds = began.elapsed().as_secs_f64();
        server.stop_within(PATIENCE)?;
        Ok(Self { installation, names, seconds })
    }

    /// Seconds from exec to the first answer of `/ready`, and to the last agent that is ready.
    async fn up(&self) -> Result<(Server, f64, f64)> {
        let (server, answered) = self.installation.up()?;
        let began = Instant::now();
        server.wait_until_up(self.names.len(), PATIENCE).await?;
        Ok((server, answered.as_secs_f64(), (answered + began.elapsed()).as_secs_f64()))
    }
}

async fn agents(place: &Place, progress: Progress, bare: &Crowd) -> Result<Vec<Figure>> {
    progress.say(&format!("deploying {COUNT} agents"));
    let deployed = Deployed::make(place, WORKSPACES).await?;
    progress.say(&format!("a server with {COUNT} agents"));
    let machine = Memory::read()?;
    let (server, _, up_s) = deployed.up().await?;
    sleep(SETTLE).await;
    let held_kib = machine.fall_to(&Memory::read()?) / f64::from(COUNT);
    let shares = Shares::of(&processes(server.pid())?, server.pid());
    let session = Session::open(&server).await?;
    let mut tasks = Vec::with_capacity(deployed.names.len());
    for (number, name) in deployed.names.iter().enumerate() {
        let asked = Instant::now();
        echo(&session, name.as_str(), number, asked).await?;
        tasks.push(millis(asked));
    }
    drop(session);
    server.stop_within(PATIENCE)?;
    let tasks: Rounds = [tasks].into_iter().collect();
    let mut figures = vec![
        Figure::values(format!("{COUNT} idle agents: exec of up → all ready"), "s", vec![("", up_s)], &one(up_s))
            .beside("as many bare sandboxes", bare.up_s)
            .note(format!("deployed, four at once, and ready in {} s; workspaces: tmpfs", number(deployed.seconds))),
    ];
    figures.extend(shares.figures(held_kib, bare));
    figures.push(Figure::times("a task to each agent and its end, one after the other", &tasks, 0.95));
    Ok(figures)
}

/// As an operator has them who sets nothing.
async fn with_own_disks(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    progress.say(&format!("deploying {COUNT} agents with workspaces on the disk"));
    let deployed = Deployed::make(place, &[]).await?;
    progress.say(&format!("a server with {COUNT} agents and workspaces on the disk"));
    let (server, answered_s, up_s) = deployed.up().await?;
    let began = Instant::now();
    server.stop_within(PATIENCE)?;
    let stopped_s = began.elapsed().as_secs_f64();
    let driver = Workspaces::survey(&WorkspaceOptions {
        root: deployed.installation.directory().join("work"),
        choice: QuotaChoice::Automatic,
        is_strict: false,
    });
    let driver = driver.driver().as_str();
    let seconds = deployed.seconds;
    let values = vec![("to /ready", answered_s), ("to the last agent", up_s), ("its stop", stopped_s)];
    Ok(vec![
        Figure::values(format!("{COUNT} agents deployed → all ready"), "s", vec![("", seconds)], &one(seconds))
            .goal(Goal::at_most(DEPLOYED_MAX_S))
            .note(format!("four deployments at once; workspaces: {driver}, of 1 GiB each")),
        Figure::values(format!("{COUNT} agents: exec of up → ready"), "s", values, &one(up_s))
            .note(format!("workspaces: {driver}")),
    ])
}

/// Memory in KiB for each agent, by what holds it.
struct Shares {
    rss: f64,
    pss: f64,
    anonymous: f64,
    worker: f64,
    init: f64,
    server: f64,
    launcher: f64,
}

impl Shares {
    fn of(processes: &[Reading], server: u32) -> Self {
        let sum = |wanted: &dyn Fn(&Reading) -> bool, value: fn(&Reading) -> f64| {
            let all: f64 = processes.iter().filter(|process| wanted(process)).map(value).sum();
            all * KIB_PER_MB / f64::from(COUNT)
        };
        let pss = |process: &Reading| process.pss;
        Self {
            rss: sum(&|_| true, |process| process.rss),
            pss: sum(&|_| true, pss),
            anonymous: sum(&|_| true, |process| process.anonymous),
            worker: sum(&|process| process.name == "echo-agent", pss),
            // The first process of a sandbox is named after its life, the launcher after its program.
            init: sum(&|process| process.is_init, pss),
            server: sum(&|process| process.pid == server, pss),
            launcher: sum(&|process| process.is_launcher, pss),
        }
    }

    fn figures(&self, held_kib: f64, bare: &Crowd) -> Vec<Figure> {
        let values = vec![("PSS", self.pss), ("RSS", self.rss), ("anonymous", self.anonymous)];
        let parts = format!(
            "all processes of the server by {COUNT}; of the PSS worker {}, init {}, its share of the server {} and of the \
             launchers {}; RSS counts shared pages once a process",
            number(self.worker),
            number(self.init),
            number(self.server),
            number(self.launcher)
        );
        vec![
            Figure::values("memory of each agent with its share of the server", "KiB", values, &one(self.pss))
                .note(parts),
            Figure::values("memory of each agent, machine-wide", "KiB", vec![("", held_kib)], &one(held_kib))
                .beside("a bare sandbox", bare.memory_kib)
                .note("the fall of MemAvailable since before the start of the server: kernel and server included"),
        ]
    }
}

fn one(value: f64) -> Rounds {
    [vec![value]].into_iter().collect()
}
