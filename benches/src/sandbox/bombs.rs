//! What one sandbox that takes all it can get costs another one: the neighbour's answers in quiet windows and in windows with
//! a bomb beside it, in turn, so that the moods of a shared machine fall on both.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use super::{Inmate, Workbench, usual_limits};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::millis,
    progress::Progress,
    sample::{Rounds, median},
};

/// Pairs of windows for each bomb.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(1_500);
/// Between two words to the neighbour: it is an agent and no benchmark of pipes.
const GAP: Duration = Duration::from_millis(2);
/// A bomb is at its worst a little after it began.
const FUSE: Duration = Duration::from_millis(300);
const RATIO_MAX: f64 = 1.5;
const BOMBS: [&str; 4] = ["cpu", "memory", "fork", "disk"];
const BOMB_NUMBER: u32 = 7_000;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let programs = place.sandbox_programs()?;
    let bench = Workbench::open(programs.path(), true)?;
    let group = bench.group(1, &usual_limits())?;
    let mut neighbour = bench.start(&bench.plan(1, "idle"), group).await?;
    let mut figures = Vec::new();
    for (number, bomb) in (BOMB_NUMBER..).zip(BOMBS) {
        progress.say(&format!("{bomb} bomb beside a neighbour"));
        figures.push(beside(&bench, &mut neighbour, number, bomb).await?);
    }
    neighbour.end().await?;
    Ok(figures)
}

async fn beside(bench: &Workbench, neighbour: &mut Inmate, number: u32, bomb: &str) -> Result<Figure> {
    let (mut quiet, mut loud) = (Rounds::default(), Rounds::default());
    let mut ratios = Vec::new();
    for _ in 0..WINDOWS {
        let calm = window(neighbour).await?;
        let group = bench.group(number, &usual_limits())?;
        let inmate = bench.start(&bench.plan(number, bomb), group).await?;
        sleep(FUSE).await;
        let shaken = window(neighbour).await;
        inmate.end().await?;
        let shaken = shaken?;
        let p95 = |samples: &[f64]| [samples.to_vec()].into_iter().collect::<Rounds>().p95();
        ratios.push(p95(&shaken) / p95(&calm));
        quiet.push(calm);
        loud.push(shaken);
    }
    let ratio = median(ratios.iter().copied());
    let ratios: Rounds = ratios.into_iter().map(|ratio| vec![ratio]).collect();
    Ok(Figure::values(
        format!("p95 of a neighbour under a {bomb} bomb, of its quiet p95"),
        "×",
        vec![("", ratio)],
        &ratios,
    )
    .goal(Goal::at_most(RATIO_MAX))
    .note(format!(
        "median of {WINDOWS} pairs of windows; p95 {:.3} ms quiet, {:.3} ms beside it",
        quiet.p95(),
        loud.p95()
    )))
}

async fn window(neighbour: &mut Inmate) -> Result<Vec<f64>> {
    let (began, mut taken) = (Instant::now(), Vec::new());
    while began.elapsed() < WINDOW {
        let asked = Instant::now();
        neighbour.ping().await?;
        taken.push(millis(asked));
        sleep(GAP).await;
    }
    Ok(taken)
}
