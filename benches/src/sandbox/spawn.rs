//! From the order to the first word of a program in a sandbox: what each wall adds, then the whole beside bubblewrap and crun,
//! as root and as a plain user, each beside peers that the same user has started.

use anyhow::{Result, ensure};

use super::{
    elsewhere::{BUBBLEWRAP, CRUN, Elsewhere, NOBODY, OWN, PLAIN, repeat},
    layers::Stack,
    peers,
};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 5;
pub const SPAWNS_PER_ROUND: usize = 30;
const WARM_UP: usize = 5;
pub const P50_MAX_MS: f64 = 5.0;
/// Of bubblewrap's time to the end of the same run.
const OF_BUBBLEWRAP: f64 = 0.8;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    ensure!(rustix::process::geteuid().is_root(), "it compares root with another user, so root has to start it");
    let programs = place.sandbox_programs()?;
    let mut stack = Stack::open(programs.path(), programs.path())?;
    let bubblewrap = peers::bubblewrap();
    let mut beside = Rounds::default();
    let (mut rootful, mut rootless) = (Elsewhere::default(), Elsewhere::default());
    stack.warm_up(WARM_UP).await?;
    for round in 1..=ROUNDS {
        progress.say(&format!("spawn of a sandbox, round {round} of {ROUNDS}"));
        stack.round(SPAWNS_PER_ROUND).await?;
        if let Ok(peer) = &bubblewrap {
            beside.push(repeat(SPAWNS_PER_ROUND, || peer.run())?);
        }
        rootful.round(programs.path(), &[CRUN], None)?;
        rootless.round(programs.path(), &[PLAIN, OWN, BUBBLEWRAP, CRUN], Some(NOBODY))?;
    }
    let mut figures = stack.figures();
    let absent = bubblewrap.err().map(|error| format!("{error:#}"));
    let full = "full, as root";
    figures.push(peer(full, &stack.full(), BWRAP, &beside, absent.as_deref()));
    let name = "crun run with a cgroup, root";
    figures.push(peer(full, &stack.full(), name, &rootful.taken(CRUN), rootful.refused(CRUN)));
    figures.push(whole("uid 65534", &rootless.taken(OWN), &rootless.taken(PLAIN)));
    for (kind, name) in [(BUBBLEWRAP, BWRAP), (CRUN, "crun run --rootless")] {
        let name = format!("{name}, uid 65534");
        figures.push(peer("uid 65534", &rootless.taken(OWN), &name, &rootless.taken(kind), rootless.refused(kind)));
    }
    Ok(figures)
}

const BWRAP: &str = "bwrap --unshare-all";

fn whole(who: &str, rounds: &Rounds, plain: &Rounds) -> Figure {
    let figure = Figure::times(format!("spawn, all walls, without cgroups, {who}"), rounds, 0.95).judge("p50");
    figure.goal(Goal::at_most(P50_MAX_MS)).beside("fork+exec → first word, same user", plain.median())
}

/// The whole spawn once more, beside another program of the same user. One that is not to be had has a line that says why.
fn peer(who: &str, ours: &Rounds, name: &str, theirs: &Rounds, refused: Option<&str>) -> Figure {
    let figure = Figure::times(format!("spawn, {who}, beside {name} to its end"), ours, 0.95).judge("p50");
    if theirs.count() == 0 {
        let why = refused.unwrap_or("it has told nothing");
        return figure.note(format!("no figure of the peer: {why}"));
    }
    let figure = figure.beside(name, theirs.median());
    match name.starts_with(BWRAP) {
        true => figure
            .goal(Goal::at_most(OF_BUBBLEWRAP * theirs.median()))
            .note(format!("the goal is {OF_BUBBLEWRAP} × bwrap in the same run")),
        false => figure.note("crun's own default: neither seccomp nor Landlock"),
    }
}
