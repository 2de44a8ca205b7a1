//! The journal: how soon a task starts, and how many durable tasks a second one node carries.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use agentos_scratch::DurableCluster;
use agentos_store::Database;
use agentos_tasks::{Claimed, Ending, NewTask};
use agentos_types::{Actor, TaskId, notify::Notice};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
};

use super::Kernel;
use crate::{
    figure::{Figure, Goal},
    pace::Pace,
    place::Place,
    probe::{Syncs, raw_postgres, raw_queue},
    progress::Progress,
    sample::{Rounds, median},
};

const ROUNDS: usize = 5;
const STARTS_PER_SECOND: u32 = 100;
const STARTS_PER_ROUND: usize = 200;
/// Slots of the agent that the starts are for.
const SLOTS: usize = 16;
/// In flight, tasks of one round, and tasks a second to aim at on a disk whose fdatasync takes about a millisecond.
const THROUGHPUT: [(usize, usize, Option<f64>); 3] =
    [(16, 1_600, Some(1_500.0)), (64, 4_800, None), (128, 6_400, Some(5_000.0))];
/// Tasks that are enqueued together before a round.
const ENQUEUED_TOGETHER: usize = 400;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let mut figures = vec![starts(place, progress).await?];
    for (in_flight, tasks, aim) in THROUGHPUT {
        figures.push(throughput(place, progress, in_flight, tasks, aim).await?);
    }
    for (in_flight, tasks, aim) in [(16, 800, Some(1_000.0)), (128, 3_200, None)] {
        figures.push(throughput_on_postgres(place, progress, in_flight, tasks, aim).await?);
    }
    Ok(figures)
}

async fn starts(place: &Place, progress: Progress) -> Result<Figure> {
    let directory = place.fresh("starts-")?;
    let kernel = Arc::new(Kernel::open(directory.path()).await?);
    let period = Duration::from_secs(1) / STARTS_PER_SECOND;
    let (mut syncs, mut waits) = (Syncs::at_pace(directory.path(), period), Rounds::default());
    for round in 1..=ROUNDS {
        progress.say(&format!("enqueue to start, round {round} of {ROUNDS}"));
        syncs.before_round()?;
        waits.push(start_round(&kernel).await?);
        syncs.after_round()?;
    }
    Ok(Figure::times(format!("enqueue → start, {STARTS_PER_SECOND}/s, in process"), &waits, 0.95)
        .goal(Goal::of_fsync(3.0, syncs.rounds(), 2.0))
        .beside("fsync p95", syncs.p95())
        .note("from the call of submit until the claim is durable: two commits, one announcement"))
}

/// Submits at a fixed pace whatever comes back, as callers do; claims when told, as the supervisor does.
async fn start_round(kernel: &Arc<Kernel>) -> Result<Vec<f64>> {
    let (started, mut starts) = mpsc::unbounded_channel();
    let claimer = tokio::spawn(claim_when_told(kernel.clone(), started));
    let mut pace = Pace::every(Duration::from_secs(1) / STARTS_PER_SECOND, STARTS_PER_ROUND);
    let mut submitting = JoinSet::new();
    for number in 0..STARTS_PER_ROUND {
        let due = pace.next().await?;
        let kernel = kernel.clone();
        submitting.spawn(async move {
            let new = NewTask::new(kernel.agent.clone(), json!({"n": number}));
            let submitted = kernel.tasks.submit(&kernel.person(), new).await?;
            anyhow::Ok((submitted.task.id, due))
        });
    }
    let mut begun: HashMap<TaskId, Instant> = HashMap::new();
    while let Some(submitted) = submitting.join_next().await {
        let (id, at) = submitted??;
        begun.insert(id, at);
    }
    let mut waits = Vec::with_capacity(begun.len());
    while waits.len() < STARTS_PER_ROUND {
        let (id, at): (TaskId, Instant) = starts.recv().await.context("the claimer has ended")?;
        let begun = begun.get(&id).with_context(|| format!("{id} was claimed and never submitted"))?;
        waits.push(at.duration_since(*begun).as_secs_f64() * 1_000.0);
    }
    claimer.abort();
    Ok(waits)
}

async fn claim_when_told(kernel: Arc<Kernel>, started: mpsc::UnboundedSender<(TaskId, Instant)>) -> Result<()> {
    let mut notices = kernel.store.subscribe();
    loop {
        match notices.recv().await {
            Ok(Notice::WorkFor(_)) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return Ok(()),
        }
        // What was announced while the last claim ran was claimed with it; an empty claim would be one commit for nothing.
        loop {
            let claimed = kernel.tasks.claim(&kernel.agent, SLOTS).await?;
            let now = Instant::now();
            let count = claimed.len();
            for one in claimed {
                started.send((one.task.id.clone(), now)).context("nobody waits for the starts")?;
                tokio::spawn(complete(kernel.clone(), one));
            }
            if count < SLOTS {
                break;
            }
        }
    }
}

async fn complete(kernel: Arc<Kernel>, claimed: Claimed) -> Result<()> {
    kernel.tasks.finish(&Actor::System, &claimed.lease, Ending::Completed(Value::Bool(true))).await?;
    Ok(())
}

async fn throughput(
    place: &Place,
    progress: Progress,
    in_flight: usize,
    tasks: usize,
    aim: Option<f64>,
) -> Result<Figure> {
    let disk = place.fresh("syncs-")?;
    let (mut syncs, mut ours, mut raw) = (Syncs::on(disk.path()), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress.say(&format!("durable tasks with {in_flight} in flight, round {round} of {ROUNDS}"));
        let directory = place.fresh("throughput-")?;
        syncs.before_round()?;
        raw.push(raw_queue::run(directory.path(), in_flight, tasks).await?);
        let kernel = Arc::new(Kernel::open(directory.path()).await?);
        enqueue(&kernel, tasks).await?;
        ours.push(claim_and_complete(&kernel, in_flight, tasks).await?);
        syncs.after_round()?;
    }
    let rate = median(ours.iter().copied());
    let rounds = Rounds::from_iter(ours.into_iter().map(|rate| vec![rate]));
    let figure = Figure::values(format!("durable tasks, {in_flight} in flight"), "tasks/s", vec![("", rate)], &rounds)
        .beside("raw SQLite of this shape", median(raw))
        .note(format!("{tasks} tasks a round, claim and complete, each durable; {}", syncs.text()));
    Ok(match aim {
        Some(aim) => figure.goal(Goal::at_least(aim)),
        None => figure,
    })
}

/// The same on a Postgres of our own on the same disk, with the settings of a fresh cluster.
async fn throughput_on_postgres(
    place: &Place,
    progress: Progress,
    in_flight: usize,
    tasks: usize,
    aim: Option<f64>,
) -> Result<Figure> {
    let disk = place.open_to_all("postgres-")?;
    let cluster = DurableCluster::start(disk.path());
    let (mut syncs, mut ours, mut raw) = (Syncs::on(disk.path()), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress.say(&format!("durable tasks on Postgres with {in_flight} in flight, round {round} of {ROUNDS}"));
        let directory = place.fresh("throughput-")?;
        syncs.before_round()?;
        let (url, admin_url) = cluster.database();
        let database = Database::parse(&url, Some(&admin_url))?;
        let apart = place.fresh("raw-")?;
        raw.push(raw_postgres::run(database, &admin_url, apart.path(), in_flight, tasks).await?);
        let (url, admin_url) = cluster.database();
        let database = Database::parse(&url, Some(&admin_url))?;
        let kernel = Arc::new(Kernel::open_on(directory.path(), Some(database)).await?);
        enqueue(&kernel, tasks).await?;
        ours.push(claim_and_complete(&kernel, in_flight, tasks).await?);
        syncs.after_round()?;
    }
    let rate = median(ours.iter().copied());
    let rounds = Rounds::from_iter(ours.into_iter().map(|rate| vec![rate]));
    let name = format!("durable tasks on Postgres, {in_flight} in flight");
    let figure = Figure::values(name, "tasks/s", vec![("", rate)], &rounds)
        .beside("raw Postgres of this shape", median(raw))
        .note(format!("{tasks} tasks a round, claim and complete, each durable; {}", syncs.text()));
    Ok(match aim {
        Some(aim) => figure.goal(Goal::at_least(aim)),
        None => figure,
    })
}

pub(super) async fn enqueue(kernel: &Arc<Kernel>, tasks: usize) -> Result<()> {
    // As large as the row of the raw probe.
    let input = Value::String("x".repeat(300));
    let mut left = tasks;
    while left > 0 {
        let together = left.min(ENQUEUED_TOGETHER);
        let person = kernel.person();
        try_join_all(
            (0..together).map(|_| kernel.tasks.submit(&person, NewTask::new(kernel.agent.clone(), input.clone()))),
        )
        .await?;
        left -= together;
    }
    Ok(())
}

pub(super) async fn claim_and_complete(kernel: &Arc<Kernel>, in_flight: usize, tasks: usize) -> Result<f64> {
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let kernel = kernel.clone();
        workers.spawn(async move {
            let mut done = 0;
            while let Some(claimed) = kernel.tasks.claim(&kernel.agent, 1).await?.pop() {
                complete(kernel.clone(), claimed).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(worked) = workers.join_next().await {
        done += worked??;
    }
    let elapsed = began.elapsed();
    anyhow::ensure!(done == tasks, "{done} of {tasks} tasks were completed");
    Ok(tasks as f64 / elapsed.as_secs_f64())
}
