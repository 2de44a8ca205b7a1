//! The least that a durable queue of the same shape can do on Postgres: each worker has a connection of its own, claims
//! one task with SKIP LOCKED and completes it, each in a transaction of one statement, which also writes the event and the
//! audit record that the journal writes, into the product's own tables. The bytes are ready-made; no rules, no hashing,
//! and no checkpoints, because many writers have no common order.

use std::{path::Path, time::Instant};

use agentos_base::Ambient;
use agentos_store::{Database, Store, StoreOptions};
use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::raw_queue::{EVENT_BYTES, HASH_BYTES, PAYLOAD_BYTES, RECORD_BYTES, TRACEPARENT, task_id};

/// Tasks a second with `in_flight` workers, over `tasks` tasks that are there already. `database` is made for this.
pub async fn run(database: Database, admin_url: &str, directory: &Path, in_flight: usize, tasks: usize) -> Result<f64> {
    make_tables(database, directory)?;
    let client = connect(admin_url).await?;
    fill(&client, tasks).await?;
    let mut clients = Vec::with_capacity(in_flight);
    for _ in 0..in_flight {
        clients.push(connect(admin_url).await?);
    }
    let began = Instant::now();
    let mut workers = JoinSet::new();
    clients.into_iter().for_each(|client| drop(workers.spawn(work(client))));
    let mut done = 0;
    while let Some(worked) = workers.join_next().await {
        done += worked??;
    }
    let elapsed = began.elapsed();
    anyhow::ensure!(done == tasks, "{done} of {tasks} tasks were completed");
    Ok(tasks as f64 / elapsed.as_secs_f64())
}

/// A store that is opened and closed again leaves the product's tables.
fn make_tables(database: Database, directory: &Path) -> Result<()> {
    Store::open(StoreOptions {
        directory: directory.to_owned(),
        database: Some(database),
        queue_max: 16,
        readers: 1,
        sequencer: None,
        ambient: Ambient::system(),
    })?;
    Ok(())
}

async fn fill(client: &Client, tasks: usize) -> Result<()> {
    let insert = client
        .prepare(
            "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at, updated_at,
               run_at, traceparent, event_seq)
             VALUES ($1, 'bench', 'submitted', 0, $2, 1, 'system', $3, $3, $3, $4, 1)",
        )
        .await?;
    client.batch_execute("BEGIN; CREATE SEQUENCE raw_record").await?;
    let payload = [b'x'; PAYLOAD_BYTES];
    for number in 0..tasks {
        let at = i64::try_from(number)?;
        client.execute(&insert, &[&task_id(number), &payload.as_slice(), &at, &TRACEPARENT]).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

async fn work(client: Client) -> Result<usize> {
    let claim = client
        .prepare(
            "WITH oldest AS MATERIALIZED (SELECT id FROM task WHERE agent = 'bench' AND state = 'submitted' AND run_at <= $1
               ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED),
             claimed AS (UPDATE task SET state = 'working', attempt = attempt + 1, fence = fence + 1,
               event_seq = event_seq + 1, lease_node = 'bench', lease_until = $1, updated_at = $1
               WHERE id IN (SELECT id FROM oldest) RETURNING id)
             INSERT INTO task_event (task, seq, at, kind, data_key, data)
               SELECT id, 2, 0, 'state', 0, $2 FROM claimed RETURNING task",
        )
        .await?;
    let complete = client
        .prepare(
            "WITH done AS (UPDATE task SET state = 'completed', output_key = 0, output = 'true', event_seq = event_seq + 1,
               lease_node = NULL, lease_until = NULL WHERE id = $1 AND fence = 1 AND state = 'working' RETURNING id),
             told AS (INSERT INTO task_event (task, seq, at, kind, data_key, data)
               SELECT id, 3, 0, 'state', 0, $2 FROM done)
             INSERT INTO audit_record
               (log, seq, at, actor, action, resource, phase, decision, task, correlation, body, prev_hash, leaf_hash)
               SELECT 'bench', nextval('raw_record'), 0, 'system', 'task.finish', id, 'fact', 'allowed', id, NULL, $3, $4, $4
               FROM done",
        )
        .await?;
    let (event, record, hash) = ([b'x'; EVENT_BYTES], [b'x'; RECORD_BYTES], [b'x'; HASH_BYTES]);
    let mut done = 0;
    while let Some(row) = client.query_opt(&claim, &[&i64::MAX, &event.as_slice()]).await? {
        let id: String = row.get(0);
        let completed =
            client.execute(&complete, &[&id, &event.as_slice(), &record.as_slice(), &hash.as_slice()]).await?;
        anyhow::ensure!(completed == 1, "task {id} was not completed");
        done += 1;
    }
    Ok(done)
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("the database of the benches")?;
    tokio::spawn(async move {
        // What went wrong, the query says.
        let _ = connection.await;
    });
    client.batch_execute("SET search_path = agent_os").await?;
    Ok(client)
}
