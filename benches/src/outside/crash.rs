//! How soon an agent is back: `kill -9` of its worker until the same agent is ready in a new process, and
//! how soon all are that a launcher takes along.

use std::time::Instant;

use agentos_api::kernel::AgentCommand;
use agentos_types::{AgentName, agent::Agent};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{Installation, Server, echo_manifest, is_up, launcher};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::{self, Syncs, millis},
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 3;
/// Each is killed once a round; an operator's restart between the rounds makes the next kill a first failure again.
const AGENTS: usize = 5;
/// With 15 crashes more than 200 syncs are sampled.
const FSYNC_SAMPLES: usize = 16;
const READY_MAX_MS: f64 = 100.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let installation = Installation::make(place)?;
    let (server, _) = installation.up()?;
    let mut agents = Vec::new();
    for number in 1..=AGENTS {
        let manifest = echo_manifest(&format!("crash-{number}"), 1);
        agents.push(installation.deploy(&server, &installation.programs().echo, &manifest).await?.name);
    }
    let (mut recoveries, mut spawns) = (Rounds::default(), Rounds::default());
    let mut syncs = Syncs::on(installation.directory());
    for round in 1..=ROUNDS {
        progress.say(&format!("crash to ready, round {round} of {ROUNDS}"));
        let (mut recovered, mut spawned) = (Vec::new(), Vec::new());
        for agent in &agents {
            if round > 1 {
                restart(&server, agent).await?;
            }
            syncs.sample(FSYNC_SAMPLES)?;
            spawned.push(probe::spawn()?);
            recovered.push(crash(&server, agent).await?);
        }
        recoveries.push(recovered);
        spawns.push(spawned);
        syncs.end_round();
    }
    server.stop()?;
    let figure = Figure::times("kill -9 of an agent → ready again", &recoveries, 0.95)
        .goal(Goal::at_most(READY_MAX_MS))
        .beside_of("p50", "fork+exec of /bin/true", spawns.median())
        .note(format!("seen over HTTP; each is a first failure; the ratio is of the p50; {}", syncs.text()));
    Ok(vec![figure, launcher::measure(place, progress).await?])
}

async fn crash(server: &Server, name: &AgentName) -> Result<f64> {
    let before = server.wait_for(name, "ready", is_up).await?;
    let pid = before.pid.context("the agent has no process")?;
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).context("the agent's process has no number")?;
    let began = Instant::now();
    kill_process(target, Signal::KILL)?;
    server.wait_for(name, "ready in a new process", |now| is_successor(&before, now)).await?;
    Ok(millis(began))
}

async fn restart(server: &Server, name: &AgentName) -> Result<()> {
    let before = server.client.get_agent(name).await?;
    server.client.command_agent(name, AgentCommand::Restart).await?;
    server.wait_for(name, "ready after the restart", |now| is_successor(&before, now)).await?;
    Ok(())
}

pub fn is_successor(before: &Agent, now: &Agent) -> bool {
    is_up(now) && now.instance != before.instance && now.pid != before.pid
}
