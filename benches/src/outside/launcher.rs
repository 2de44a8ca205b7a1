//! How soon everybody is back after the launcher: `kill -9` of the process that made all agents of one profile, which end
//! with it, until the last of them is ready in a new process.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{Installation, PATIENCE, crash::is_successor, echo_manifest, memory::processes};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::{self, Syncs, millis},
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 7;
const AGENTS: usize = 10;
/// With seven kills more than 200 syncs are sampled.
const FSYNC_SAMPLES: usize = 32;
/// What a single agent may take, times the agents of one machine with two cores.
const READY_MAX_MS: f64 = 500.0;

/// Each server is a new one: the second launcher within half a minute would have to wait, and so would the agents.
pub async fn measure(place: &Place, progress: Progress) -> Result<Figure> {
    let installation = Installation::make(place)?;
    let (mut server, _) = installation.up()?;
    let manifests = (1..=AGENTS).map(|number| echo_manifest(&format!("of-launcher-{number}"), 1));
    installation.deploy_all(&server, &installation.programs().echo, manifests).await?;
    let (mut recoveries, mut spawns) = (Rounds::default(), Vec::new());
    let mut syncs = Syncs::on(installation.directory());
    let mut taken = Vec::new();
    for round in 1..=ROUNDS {
        progress.say(&format!("death of the launcher, round {round} of {ROUNDS}"));
        if round > 1 {
            server.stop()?;
            server = installation.up()?.0;
        }
        let before = server.wait_until_up(AGENTS, PATIENCE).await?;
        syncs.sample(FSYNC_SAMPLES)?;
        spawns.push(probe::spawn()?);
        let launcher = launcher(server.pid())?;
        let began = Instant::now();
        kill_process(launcher, Signal::KILL)?;
        let is_back =
            |now: &agentos_types::agent::Agent| before.get(&now.name).is_some_and(|then| is_successor(then, now));
        server.wait_for_all(AGENTS, PATIENCE, is_back).await?;
        taken.push(millis(began));
        syncs.end_round();
    }
    recoveries.push(taken);
    server.stop()?;
    let values = vec![("p50", recoveries.median()), ("max", recoveries.quantile(1.0))];
    Ok(Figure::values(format!("kill -9 of the launcher → its {AGENTS} agents ready again"), "ms", values, &recoveries)
        .judge("max")
        .goal(Goal::at_most(READY_MAX_MS))
        .beside_of("p50", "fork+exec of /bin/true", crate::sample::median(spawns))
        .note(format!("seen over HTTP, looked at each 10 ms; the ratio is of the p50; {}", syncs.text())))
}

/// The process that makes the agents of this server.
fn launcher(server: u32) -> Result<Pid> {
    let launchers: Vec<u32> =
        processes(server)?.iter().filter(|process| process.is_launcher).map(|process| process.pid).collect();
    let is_of_agents = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.windows(2).any(|pair| pair == [b"--profile".as_slice(), b"agent"])
    };
    let found: Vec<u32> = launchers.into_iter().filter(is_of_agents).collect();
    ensure!(found.len() == 1, "the server has {} launchers of the profile agent", found.len());
    let pid = found.first().and_then(|pid| i32::try_from(*pid).ok());
    pid.and_then(Pid::from_raw).context("the launcher's process has no number")
}
