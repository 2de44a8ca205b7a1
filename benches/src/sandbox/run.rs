//! `agent-os sandbox run -- /bin/true` from start to end, beside bubblewrap in the same run: what a person waits for.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::peers;
use crate::{
    figure::{Figure, Goal},
    place::Place,
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 5;
const RUNS_PER_ROUND: usize = 30;
/// Of bubblewrap's time.
const OF_BUBBLEWRAP: f64 = 1.3;

pub fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let programs = place.sandbox_programs()?;
    let run = || sandbox_run(programs.path());
    let Ok(bubblewrap) = peers::bubblewrap() else {
        let taken = (0..RUNS_PER_ROUND).map(|_| run()).collect::<Result<Vec<_>>>()?;
        let rounds: Rounds = [taken].into_iter().collect();
        let figure = Figure::times("agent-os sandbox run -- /bin/true", &rounds, 0.95).judge("p50");
        return Ok(vec![figure.note("bwrap is not installed, so there is nothing to hold it against")]);
    };
    let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
    for round in 1..=ROUNDS {
        progress.say(&format!("sandbox run, round {round} of {ROUNDS}"));
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..RUNS_PER_ROUND {
            own.push(run()?);
            other.push(bubblewrap.run()?);
        }
        ours.push(own);
        theirs.push(other);
    }
    let limit = OF_BUBBLEWRAP * theirs.median();
    let figure = Figure::times("agent-os sandbox run -- /bin/true", &ours, 0.95)
        .judge("p50")
        .goal(Goal::at_most(limit))
        .beside("bwrap --unshare-all", theirs.median())
        .note(format!("the goal is {OF_BUBBLEWRAP} × bwrap in the same run"));
    Ok(vec![figure])
}

fn sandbox_run(programs: &Path) -> Result<f64> {
    let mut command = Command::new(programs.join("agent-os"));
    peers::to_end(command.env_clear().args(["sandbox", "run", "--", "/bin/true"]), "agent-os sandbox run")
}
