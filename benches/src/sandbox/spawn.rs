//! From the order to the first word of a program in a full sandbox, with and without cgroups, as root and as a plain user,
//! beside a bare process, bubblewrap and crun.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use tokio::task::block_in_place;

use super::{Workbench, peers, usual_limits};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::{self, millis},
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 5;
const SPAWNS_PER_ROUND: usize = 30;
const WARM_UP: usize = 5;
const P50_MAX_MS: f64 = 5.0;
/// Of bubblewrap's time to the end of the same run.
const OF_BUBBLEWRAP: f64 = 0.8;
/// Whom Debian calls nobody.
const NOBODY: &str = "65534";
/// The word with which this program measures itself as another user.
pub const ROOTLESS: &str = "--rootless-spawns";

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let programs = place.sandbox_programs()?;
    let scratch = place.fresh("peers-")?;
    let (bare, grouped) = (Workbench::open(programs.path(), false)?, Workbench::open(programs.path(), true)?);
    let bubblewrap = peers::bubblewrap();
    let crun = peers::crun(scratch.path())?;
    let mut all = Samples::default();
    for bench in [&bare, &grouped] {
        spawns(bench, WARM_UP).await?;
    }
    for round in 1..=ROUNDS {
        progress.say(&format!("spawn of a sandbox, round {round} of {ROUNDS}"));
        all.bare.push(spawns(&bare, SPAWNS_PER_ROUND).await?);
        all.grouped.push(spawns(&grouped, SPAWNS_PER_ROUND).await?);
        all.plain.push(repeat(SPAWNS_PER_ROUND, probe::spawn)?);
        if let Some(peer) = &bubblewrap {
            all.bubblewrap.push(repeat(SPAWNS_PER_ROUND, || peer.run())?);
        }
        if let Some(peer) = &crun {
            all.crun.push(repeat(SPAWNS_PER_ROUND, || peer.run())?);
        }
        all.rootless.push(rootless(programs.path())?);
    }
    drop((bare, grouped));
    Ok(figures(&all))
}

/// Milliseconds of each kind. A peer that is not installed has none.
#[derive(Default)]
struct Samples {
    bare: Rounds,
    grouped: Rounds,
    plain: Rounds,
    bubblewrap: Rounds,
    crun: Rounds,
    rootless: Rounds,
}

fn figures(all: &Samples) -> Vec<Figure> {
    let Samples { bare, grouped, plain, bubblewrap, crun, rootless } = all;
    let spawn = |name: &str, rounds: &Rounds| {
        let figure = Figure::times(name, rounds, 0.95).judge("p50").goal(Goal::at_most(P50_MAX_MS));
        figure.beside("fork+exec of /bin/true to its end", plain.median())
    };
    let mut figures = vec![
        spawn("spawn of a sandbox → first word, root, with cgroups", grouped),
        spawn("spawn of a sandbox → first word, root, without cgroups", bare),
        spawn("spawn of a sandbox → first word, uid 65534", rootless),
    ];
    if bubblewrap.count() > 0 {
        let limit = OF_BUBBLEWRAP * bubblewrap.median();
        figures.push(
            Figure::times("the first of these, beside bwrap --unshare-all to its end", grouped, 0.95)
                .judge("p50")
                .goal(Goal::at_most(limit))
                .beside("bwrap --unshare-all", bubblewrap.median())
                .note(format!("the goal is {OF_BUBBLEWRAP} × bwrap in the same run")),
        );
    }
    if crun.count() > 0 {
        figures.push(
            Figure::times("the same, beside crun run to its end", grouped, 0.95)
                .judge("p50")
                .beside("crun run", crun.median()),
        );
    }
    figures
}

async fn spawns(bench: &Workbench, count: usize) -> Result<Vec<f64>> {
    let mut taken = Vec::with_capacity(count);
    for number in 0..u32::try_from(count)? {
        let plan = bench.plan(number, "idle");
        let began = Instant::now();
        // The making of its group belongs to it.
        let group = bench.group(number, &usual_limits())?;
        let inmate = bench.start(&plan, group).await?;
        taken.push(millis(began));
        inmate.end().await?;
    }
    Ok(taken)
}

fn repeat(count: usize, mut once: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..count).map(|_| once()).collect()
}

/// This program again, as a user without any rights.
fn rootless(programs: &Path) -> Result<Vec<f64>> {
    let own = programs.join("agentos-benches");
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(own).arg(ROOTLESS).arg(programs);
    let output = block_in_place(|| command.env_clear().stdin(Stdio::null()).output()).context("setpriv")?;
    anyhow::ensure!(output.status.success(), "rootless: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the other user's process does: measures, and prints the milliseconds as JSON.
pub async fn measure_rootless(programs: &Path) -> Result<String> {
    let bench = Workbench::open(programs, false)?;
    spawns(&bench, WARM_UP).await?;
    Ok(serde_json::to_string(&spawns(&bench, SPAWNS_PER_ROUND).await?)?)
}
