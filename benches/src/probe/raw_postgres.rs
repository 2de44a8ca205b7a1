//! The least that a durable queue on Postgres can do: each worker has a connection of its own, claims one task with
//! SKIP LOCKED and completes it, each in a transaction of one statement. No events, no audit, no leases.

use std::time::Instant;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

const PAYLOAD_BYTES: i32 = 300;

/// Tasks a second with `in_flight` workers, over `tasks` tasks that are there already.
pub async fn run(url: &str, in_flight: usize, tasks: usize) -> Result<f64> {
    let client = connect(url).await?;
    client
        .batch_execute(
            "CREATE TABLE task (id BIGINT PRIMARY KEY, state TEXT NOT NULL, fence BIGINT NOT NULL, payload BYTEA NOT NULL);
             CREATE INDEX task_waiting ON task (id) WHERE state = 'submitted'",
        )
        .await?;
    let fill = "INSERT INTO task SELECT n, 'submitted', 0, convert_to(repeat('x', $2), 'UTF8') FROM generate_series(1, $1) AS n";
    client.execute(fill, &[&i32::try_from(tasks)?, &PAYLOAD_BYTES]).await?;
    let mut clients = Vec::with_capacity(in_flight);
    for _ in 0..in_flight {
        clients.push(connect(url).await?);
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

async fn work(client: Client) -> Result<usize> {
    let claim = client
        .prepare(
            "UPDATE task SET state = 'working', fence = fence + 1 WHERE id = \
             (SELECT id FROM task WHERE state = 'submitted' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
        )
        .await?;
    let complete =
        client.prepare("UPDATE task SET state = 'completed' WHERE id = $1 AND fence = 1 AND state = 'working'").await?;
    let mut done = 0;
    while let Some(row) = client.query_opt(&claim, &[]).await? {
        let id: i64 = row.get(0);
        anyhow::ensure!(client.execute(&complete, &[&id]).await? == 1, "task {id} was not completed");
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
    Ok(client)
}
