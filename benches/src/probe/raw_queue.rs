//! The least that a durable queue on SQLite can do: one writer thread, group commit, synchronous=FULL, one row a task,
//! claim and complete. No events, no audit, no leases. What the journal costs on top of it is the ratio.

use std::{path::Path, thread, time::Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// As many operations in one commit as the store's writer takes.
const BATCH_MAX: usize = 512;
const PAYLOAD_BYTES: usize = 300;

enum Ask {
    Claim(oneshot::Sender<Option<i64>>),
    Complete(i64, oneshot::Sender<bool>),
}

/// What is answered after the commit.
enum Answer {
    Claimed(oneshot::Sender<Option<i64>>, Option<i64>),
    Completed(oneshot::Sender<bool>, bool),
}

/// Tasks a second with `in_flight` workers, over `tasks` tasks that are there already.
pub async fn run(directory: &Path, in_flight: usize, tasks: usize) -> Result<f64> {
    let connection = open(directory, tasks)?;
    let (asks, waiting) = mpsc::channel(BATCH_MAX * 2);
    let writer = thread::Builder::new().name("raw-writer".into()).spawn(move || write(connection, waiting))?;
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        workers.spawn(work(asks.clone()));
    }
    drop(asks);
    let mut done = 0;
    while let Some(worked) = workers.join_next().await {
        done += worked??;
    }
    let elapsed = began.elapsed();
    writer.join().map_err(|_| anyhow::anyhow!("the raw writer panicked"))??;
    anyhow::ensure!(done == tasks, "{done} of {tasks} tasks were completed");
    Ok(tasks as f64 / elapsed.as_secs_f64())
}

async fn work(asks: mpsc::Sender<Ask>) -> Result<usize> {
    let mut done = 0;
    loop {
        let (reply, claimed) = oneshot::channel();
        asks.send(Ask::Claim(reply)).await.context("the raw writer has ended")?;
        let Some(id) = claimed.await? else { return Ok(done) };
        let (reply, completed) = oneshot::channel();
        asks.send(Ask::Complete(id, reply)).await.context("the raw writer has ended")?;
        anyhow::ensure!(completed.await?, "task {id} was not completed");
        done += 1;
    }
}

fn open(directory: &Path, tasks: usize) -> Result<Connection> {
    let mut connection = Connection::open(directory.join("raw.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         DROP TABLE IF EXISTS task;
         CREATE TABLE task (id INTEGER PRIMARY KEY, state TEXT NOT NULL, fence INTEGER NOT NULL, payload BLOB NOT NULL);
         CREATE INDEX task_waiting ON task (id) WHERE state = 'submitted';",
    )?;
    let filling = connection.transaction()?;
    for _ in 0..tasks {
        filling.execute(
            "INSERT INTO task (state, fence, payload) VALUES ('submitted', 0, ?1)",
            params![[b'x'; PAYLOAD_BYTES].as_slice()],
        )?;
    }
    filling.commit()?;
    Ok(connection)
}

fn write(connection: Connection, mut waiting: mpsc::Receiver<Ask>) -> Result<()> {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match waiting.try_recv() {
                Ok(ask) => batch.push(ask),
                Err(_) => break,
            }
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let answers = batch.into_iter().map(|ask| act(&connection, ask)).collect::<Result<Vec<_>>>()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        for answer in answers {
            // A worker that is gone has failed, and says so itself.
            match answer {
                Answer::Claimed(reply, id) => drop(reply.send(id)),
                Answer::Completed(reply, is_done) => drop(reply.send(is_done)),
            }
        }
    }
    Ok(())
}

fn act(connection: &Connection, ask: Ask) -> Result<Answer> {
    Ok(match ask {
        Ask::Claim(reply) => {
            let mut claim = connection.prepare_cached(
                "UPDATE task SET state = 'working', fence = fence + 1 WHERE id = \
                 (SELECT id FROM task WHERE state = 'submitted' ORDER BY id LIMIT 1) RETURNING id",
            )?;
            Answer::Claimed(reply, claim.query_row([], |row| row.get(0)).optional()?)
        }
        Ask::Complete(id, reply) => {
            let mut complete = connection.prepare_cached(
                "UPDATE task SET state = 'completed' WHERE id = ?1 AND fence = 1 AND state = 'working'",
            )?;
            Answer::Completed(reply, complete.execute([id])? == 1)
        }
    })
}
