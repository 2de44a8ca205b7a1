//! A whole task as a client sees it: submit over the WebSocket, the echo agent's process answers, the completed event
//! arrives. And how long the journal let it wait before it started.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Installation, echo_manifest, session::Session};
use crate::{
    figure::{Figure, Goal},
    pace::Pace,
    place::Place,
    probe::{Syncs, millis},
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
/// Nothing waits for a task that is lost.
const TASK_PATIENCE: Duration = Duration::from_secs(30);

/// One task, in milliseconds.
struct Echo {
    /// From the instant when it was due to be submitted to its completed event.
    whole: f64,
    /// Between its `submitted` and its `working` event, by the journal's clock.
    queued: f64,
}

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let installation = Installation::make(place)?;
    let (server, _) = installation.up()?;
    installation.deploy(&server, &installation.programs().echo, &echo_manifest(AGENT, CONCURRENT_TASKS)).await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open(&server).await?);
    }
    for number in 0..WARM_UP {
        echo(&sessions[number % SESSIONS], number, Instant::now()).await?;
    }
    let mut measured: Vec<(Syncs, Rounds, Rounds)> =
        PACES.iter().map(|(pace, _)| (syncs_of(&installation, *pace), Rounds::default(), Rounds::default())).collect();
    for round in 1..=ROUNDS {
        for ((pace, tasks), (syncs, whole, queued)) in PACES.into_iter().zip(&mut measured) {
            progress.say(&format!("WebSocket, {pace} tasks/s, round {round} of {ROUNDS}"));
            syncs.before_round()?;
            let echoes = at_pace(&sessions, pace, tasks).await?;
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

/// Tasks fall due at a fixed pace, whatever comes back; a stall counts for all that it delays.
async fn at_pace(sessions: &[Session], pace: u32, tasks: usize) -> Result<Vec<Echo>> {
    let mut paced = Pace::every(Duration::from_secs(1) / pace, tasks);
    let mut running = JoinSet::new();
    for (number, session) in (0..tasks).zip(sessions.iter().cycle()) {
        let due = paced.next().await?;
        let session = session.clone();
        running.spawn(async move { tokio::time::timeout(TASK_PATIENCE, echo(&session, number, due)).await });
    }
    let mut echoes = Vec::with_capacity(tasks);
    while let Some(echo) = running.join_next().await {
        echoes.push(echo?.context("a task was not completed in time")??);
    }
    Ok(echoes)
}

async fn echo(session: &Session, number: usize, due: Instant) -> Result<Echo> {
    let input = json!({"number": number});
    let submitted = session.call(json!({"type": "task.submit", "agent": AGENT, "input": input})).await?;
    let task = submitted["task"]["id"].as_str().context("a submit was answered without a task")?.to_owned();
    let (mut events, subscription) = session.follow(&task).await?;
    let (mut submitted_at, mut started_at) = (None, None);
    let whole = loop {
        let event = events.recv().await.context("the events ended before the task did")?;
        let at = event["at"].as_i64();
        match (event["kind"].as_str(), event["data"]["state"].as_str()) {
            (Some("state"), Some("submitted")) => submitted_at = submitted_at.or(at),
            (Some("state"), Some("working")) => started_at = started_at.or(at),
            (Some("state"), Some("completed")) => break millis(due),
            (Some("state"), Some(other)) => anyhow::bail!("task {task} is {other}"),
            _ => {}
        }
    };
    session.unfollow(&task, subscription).await?;
    let queued_micros = started_at.zip(submitted_at).map(|(started, submitted)| started - submitted);
    let queued = queued_micros.context("the journal does not say when the task started")? as f64 / 1_000.0;
    Ok(Echo { whole, queued })
}
