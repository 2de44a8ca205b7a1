//! How long a newcomer waits: from exec of `agent-os up` on a fresh data directory to the first 200 of `/ready`.

use anyhow::Result;
use tokio::task::block_in_place;

use super::Installation;
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::{self, Syncs},
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 3;
const STARTS_PER_ROUND: usize = 7;
/// With 21 starts more than 200 syncs are sampled.
const FSYNC_SAMPLES: usize = 12;
const READY_MAX_MS: f64 = 80.0;

pub fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let (mut starts, mut spawns) = (Rounds::default(), Rounds::default());
    let disk = place.fresh("syncs-")?;
    let mut syncs = Syncs::on(disk.path());
    for round in 1..=ROUNDS {
        progress.say(&format!("exec to ready, round {round} of {ROUNDS}"));
        let (mut started, mut spawned) = (Vec::new(), Vec::new());
        for _ in 0..STARTS_PER_ROUND {
            let installation = Installation::make(place)?;
            syncs.sample(FSYNC_SAMPLES)?;
            spawned.push(probe::spawn()?);
            let (server, elapsed) = installation.up()?;
            started.push(elapsed.as_secs_f64() * 1_000.0);
            block_in_place(|| server.stop())?;
        }
        starts.push(started);
        spawns.push(spawned);
        syncs.end_round();
    }
    let figure = Figure::times("exec of agent-os up → /ready, fresh directory", &starts, 0.95)
        .judge("p50")
        .goal(Goal::at_most(READY_MAX_MS))
        .beside("fork+exec of /bin/true", spawns.median())
        .note(syncs.text());
    Ok(vec![figure])
}
