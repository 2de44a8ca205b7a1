//! How soon work goes on after the death of a server that has thousands of tasks open: from exec of the next one to the
//! first task of the backlog that is done. A step is shorter than a task, so that this is its upper bound.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use agentos_api::{body::SubmitTask, kernel::AgentCommand};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tokio::time::sleep;

use super::{Installation, LOOK_EVERY, PATIENCE, echo_manifest};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::{Syncs, millis},
    progress::Progress,
    sample::Rounds,
};

const OPEN_TASKS: usize = 10_000;
/// What must be left of them for the last round to be about a backlog.
const LEFT_MIN: i64 = 9_000;
/// Submissions under way at the same time.
const AT_ONCE: usize = 64;
const ROUNDS: usize = 3;
const FSYNC_SAMPLES: usize = 64;
const RESUMED_MAX_MS: f64 = 2_000.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let installation = Installation::make(place)?;
    let (mut server, _) = installation.up()?;
    let manifest = echo_manifest("backlog", 4);
    let agent = installation.deploy(&server, &installation.programs().echo, &manifest).await?.name;
    server.client.command_agent(&agent, AgentCommand::Pause).await?;
    progress.say(&format!("submitting {OPEN_TASKS} tasks"));
    let body: SubmitTask = serde_json::from_value(json!({"agent": agent, "input": {"n": 1}}))?;
    let client = &server.client;
    let submits = stream::iter(0..OPEN_TASKS).map(|_| client.submit_task(&body, None));
    submits.buffer_unordered(AT_ONCE).try_for_each(|_| std::future::ready(Ok(()))).await?;
    server.client.command_agent(&agent, AgentCommand::Resume).await?;
    first_done(installation.directory(), 0).await?;

    let (mut resumed, mut syncs) = (Rounds::default(), Syncs::on(installation.directory()));
    for round in 1..=ROUNDS {
        progress.say(&format!("restart with a backlog, round {round} of {ROUNDS}"));
        server.kill()?;
        syncs.sample(FSYNC_SAMPLES)?;
        let done = count(installation.directory(), "completed")?;
        let (next, up) = installation.up()?;
        let ready_at = Instant::now();
        first_done(installation.directory(), done).await?;
        resumed.push(vec![up.as_secs_f64() * 1_000.0 + millis(ready_at)]);
        syncs.end_round();
        server = next;
    }
    let left = count(installation.directory(), "submitted")?;
    ensure!(left >= LEFT_MIN, "only {left} tasks are left: the last round was not about a backlog");
    drop(server);
    let name = format!("kill -9 with {OPEN_TASKS} open tasks: exec of up → first task done");
    let figure = Figure::values(name, "ms", vec![("p50", resumed.median()), ("max", resumed.quantile(1.0))], &resumed)
        .judge("max")
        .goal(Goal::at_most(RESUMED_MAX_MS))
        .beside("goal", RESUMED_MAX_MS)
        .note(format!("{left} still open after the last round; {}", syncs.text()));
    Ok(vec![figure])
}

/// Until more tasks are done than `before`.
async fn first_done(directory: &Path, before: i64) -> Result<()> {
    let began = Instant::now();
    while count(directory, "completed")? <= before {
        ensure!(began.elapsed() < PATIENCE, "no task of the backlog was done within {} s", PATIENCE.as_secs());
        sleep(LOOK_EVERY.max(Duration::from_millis(1))).await;
    }
    Ok(())
}

fn count(directory: &Path, state: &str) -> Result<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(directory.join("agent-os.db"), flags)?;
    connection.busy_timeout(PATIENCE)?;
    let query = "SELECT count(*) FROM task WHERE state = ?1";
    connection.query_row(query, [state], |row| row.get(0)).context("the database of the installation")
}
