//! A whole task as a client sees it: submit over the WebSocket, the echo agent's process answers, the completed event
//! arrives. And how long the journal let it wait before it started.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Installation,
    echo::{at_pace, echo},
    echo_manifest,
    session::Session,
};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::Syncs,
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 5;
/// Tasks a second, and tasks of one round.
const PACES: [(u32, usize); 2] = [(20, 60), (100, 300)];
/// A session follows at most 32 tasks at the same time; four follow more than a second of the faster pace.
const SESSIONS: usize = 4;
const CONCURRENT_TASKS: u32 = 16;
const WARM_UP: usize = 20;
const AGENT: &str = "echo-bench";
/// What the specification asks for.
const SPECIFIED_P95_MS: f64 = 1_500.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let installation = Installation::make(place)?;
    let (server, _) = installation.up()?;
    installation.deploy(&server, &installation.programs().echo, &echo_manifest(AGENT, CONCURRENT_TASKS)).await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open(&server).await?);
    }
    for number in 0..WARM_UP {
        echo(&sessions[number % SESSIONS], AGENT, number, Instant::now()).await?;
    }
    let mut measured: Vec<(Syncs, Rounds, Rounds)> =
        PACES.iter().map(|(pace, _)| (syncs_of(&installation, *pace), Rounds::default(), Rounds::default())).collect();
    for round in 1..=ROUNDS {
        for ((pace, tasks), (syncs, whole, queued)) in PACES.into_iter().zip(&mut measured) {
            progress.say(&format!("WebSocket, {pace} tasks/s, round {round} of {ROUNDS}"));
            syncs.before_round()?;
            let echoes = at_pace(&sessions, AGENT, pace, tasks).await?;
            syncs.after_round()?;
            whole.push(echoes.iter().map(|echo| echo.whole).collect());
            queued.push(echoes.iter().map(|echo| echo.queued).collect());
        }
    }
    drop(sessions);
    server.stop()?;
    let mut figures = Vec::new();
    for ((pace, _), (syncs, whole, queued)) in PACES.into_iter().zip(&measured) {
        figures.push(
            Figure::times(format!("WebSocket echo task, {pace} tasks/s"), whole, 0.95)
                .goal(Goal::of_fsync(5.0, syncs.rounds(), 2.0))
                .beside("fsync p95", syncs.p95())
                .note(format!("{}; the specification allows p95 {SPECIFIED_P95_MS} ms", syncs.text())),
        );
        figures.push(
            Figure::times(format!("enqueue → start, {pace}/s, real server"), queued, 0.95)
                .goal(Goal::of_fsync(3.0, syncs.rounds(), 2.0))
                .beside("fsync p95", syncs.p95())
                .note("from the event submitted to the event working; each is stamped inside its transaction, before the commit"),
        );
    }
    Ok(figures)
}

fn syncs_of(installation: &Installation, pace: u32) -> Syncs {
    Syncs::at_pace(installation.directory(), Duration::from_secs(1) / pace)
}
