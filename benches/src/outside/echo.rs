//! Tasks of the echo agent as a client sees them: submitted over the WebSocket, answered by the agent's process, told as
//! completed. One at a time, or at a pace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::session::Session;
use crate::{pace::Pace, probe::millis};

/// Nothing waits for a task that is lost.
const TASK_PATIENCE: Duration = Duration::from_secs(30);

/// The echo agent under a name of its own.
pub fn manifest(name: &str, concurrent_tasks: u32) -> String {
    format!(
        "schema = 1\nname = \"{name}\"\nversion = \"1.0.0\"\ndescription = \"Answers with its input\"\n\
         command = [\"echo-agent\"]\n\n[limits]\nconcurrent_tasks = {concurrent_tasks}\n"
    )
}

/// One task, in milliseconds.
pub struct Echo {
    /// From the instant when it was due to be submitted to its completed event.
    pub whole: f64,
    /// Between its `submitted` and its `working` event, by the journal's clock.
    pub queued: f64,
}

/// Tasks fall due at a fixed pace, whatever comes back; a stall counts for all that it delays.
pub async fn at_pace(sessions: &[Session], agent: &str, pace: u32, tasks: usize) -> Result<Vec<Echo>> {
    let mut paced = Pace::every(Duration::from_secs(1) / pace, tasks);
    let mut running = JoinSet::new();
    for (number, session) in (0..tasks).zip(sessions.iter().cycle()) {
        let due = paced.next().await?;
        let (session, agent) = (session.clone(), agent.to_owned());
        running.spawn(async move { timeout(TASK_PATIENCE, echo(&session, &agent, number, due)).await });
    }
    let mut echoes = Vec::with_capacity(tasks);
    while let Some(echo) = running.join_next().await {
        echoes.push(echo?.context("a task was not completed in time")??);
    }
    Ok(echoes)
}

pub async fn echo(session: &Session, agent: &str, number: usize, due: Instant) -> Result<Echo> {
    whole(session, agent, json!({"number": number}), due).await
}

/// One task with this input, until it is completed.
pub async fn whole(session: &Session, agent: &str, input: Value, due: Instant) -> Result<Echo> {
    let submitted = session.call(json!({"type": "task.submit", "agent": agent, "input": input})).await?;
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
            (Some("state"), Some(other)) => bail!("task {task} is {other}: {}", event["data"]),
            _ => {}
        }
    };
    session.unfollow(&task, subscription).await?;
    let queued_micros = started_at.zip(submitted_at).map(|(started, submitted)| started - submitted);
    let queued = queued_micros.context("the journal does not say when the task started")? as f64 / 1_000.0;
    Ok(Echo { whole, queued })
}
