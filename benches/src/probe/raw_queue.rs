//! The least that a durable queue of the same shape can do on SQLite: one writer thread, group commit, synchronous=FULL;
//! claim and complete write the rows that the journal writes, into the product's own tables: task, event, audit record,
//! and one checkpoint with its frontier for each commit. The bytes are ready-made: no rules, no JSON, no hashing, no
//! signing, no savepoints. What the journal costs on top of it is the ratio.

use std::{path::Path, thread, time::Instant};

use agentos_store::MIGRATIONS;
use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// As many operations in one commit as the store's writer takes.
const BATCH_MAX: usize = 512;
/// Of a small task's rows, as the journal writes them.
pub const PAYLOAD_BYTES: usize = 302;
pub const EVENT_BYTES: usize = 40;
pub const RECORD_BYTES: usize = 420;
pub const NOTE_BYTES: usize = 190;
pub const HASH_BYTES: usize = 32;

enum Ask {
    Claim(oneshot::Sender<Option<String>>),
    Complete(String, oneshot::Sender<bool>),
}

/// What is answered after the commit.
enum Answer {
    Claimed(oneshot::Sender<Option<String>>, Option<String>),
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
        asks.send(Ask::Complete(id.clone(), reply)).await.context("the raw writer has ended")?;
        anyhow::ensure!(completed.await?, "task {id} was not completed");
        done += 1;
    }
}

fn open(directory: &Path, tasks: usize) -> Result<Connection> {
    let mut connection = Connection::open(directory.join("raw.db"))?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;")?;
    connection.set_prepared_statement_cache_capacity(64);
    let filling = connection.transaction()?;
    for migration in MIGRATIONS {
        filling.execute_batch(migration.up)?;
        filling.execute_batch(migration.up_sqlite)?;
    }
    for number in 0..tasks {
        filling.execute(
            "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at, updated_at,
               run_at, traceparent, event_seq)
             VALUES (?1, 'bench', 'submitted', 0, ?2, 1, 'system', ?3, ?3, ?3, ?4, 1)",
            params![task_id(number), [b'x'; PAYLOAD_BYTES].as_slice(), i64::try_from(number)?, TRACEPARENT],
        )?;
    }
    filling.commit()?;
    Ok(connection)
}

pub const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// As long as the product's, and in the order of their making.
pub fn task_id(number: usize) -> String {
    format!("task_01J9ZQ3V4W5X6Y7Z8A{number:08}")
}

fn write(connection: Connection, mut waiting: mpsc::Receiver<Ask>) -> Result<()> {
    let mut records = 0;
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match waiting.try_recv() {
                Ok(ask) => batch.push(ask),
                Err(_) => break,
            }
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let before = records;
        let answers = batch.into_iter().map(|ask| act(&connection, ask, &mut records)).collect::<Result<Vec<_>>>()?;
        if records > before {
            seal(&connection, records)?;
        }
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

fn act(connection: &Connection, ask: Ask, records: &mut i64) -> Result<Answer> {
    Ok(match ask {
        Ask::Claim(reply) => {
            let mut claim = connection.prepare_cached(
                "UPDATE task SET state = 'working', attempt = attempt + 1, fence = fence + 1, event_seq = event_seq + 1,
                   lease_node = 'bench', lease_until = ?1, updated_at = ?1
                 WHERE id IN (SELECT id FROM task WHERE agent = 'bench' AND state = 'submitted' AND run_at <= ?1
                   ORDER BY run_at, id LIMIT 1) RETURNING id",
            )?;
            let id: Option<String> = claim.query_row([i64::MAX], |row| row.get(0)).optional()?;
            if let Some(id) = &id {
                event(connection, id, 2)?;
            }
            Answer::Claimed(reply, id)
        }
        Ask::Complete(id, reply) => {
            let mut complete = connection.prepare_cached(
                "UPDATE task SET state = 'completed', output_key = 0, output = ?2, event_seq = event_seq + 1,
                   lease_node = NULL, lease_until = NULL WHERE id = ?1 AND fence = 1 AND state = 'working'",
            )?;
            let is_done = complete.execute(params![id, b"true".as_slice()])? == 1;
            event(connection, &id, 3)?;
            record(connection, &id, *records)?;
            *records += 1;
            Answer::Completed(reply, is_done)
        }
    })
}

fn event(connection: &Connection, task: &str, seq: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO task_event (task, seq, at, kind, data_key, data) VALUES (?1, ?2, 0, 'state', 0, ?3)",
        )?
        .execute(params![task, seq, [b'x'; EVENT_BYTES].as_slice()])?;
    Ok(())
}

fn record(connection: &Connection, task: &str, seq: i64) -> Result<()> {
    let hash = [b'x'; HASH_BYTES];
    connection
        .prepare_cached(
            "INSERT INTO audit_record
               (log, seq, at, actor, action, resource, phase, decision, task, correlation, body, prev_hash, leaf_hash)
             VALUES ('bench', ?1, ?1, 'system', 'task.finish', ?2, 'fact', 'allowed', ?2, NULL, ?3, ?4, ?4)",
        )?
        .execute(params![seq, task, [b'x'; RECORD_BYTES].as_slice(), hash.as_slice()])?;
    Ok(())
}

fn seal(connection: &Connection, size: i64) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO audit_checkpoint (log, size, at, note) VALUES ('bench', ?1, ?1, ?2)")?
        .execute(params![size, "x".repeat(NOTE_BYTES)])?;
    connection
        .prepare_cached(
            "INSERT INTO audit_frontier (log, size, frontier, last_leaf) VALUES ('bench', ?1, ?2, ?3)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, frontier = excluded.frontier, last_leaf = excluded.last_leaf",
        )?
        .execute(params![size, [b'x'; HASH_BYTES * 6].as_slice(), [b'x'; HASH_BYTES].as_slice()])?;
    Ok(())
}
