//! Steps and events of tasks whose rows are gone. On Postgres only what lies in a day that still holds a living task.

use agentos_store::{Arg, Conn, Store, Tx};
use agentos_types::Result;
use agentos_types::Timestamp;
use async_trait::async_trait;

use super::{
    Kind, Pass, Pruner, Taken,
    pass::{ROWS_MAX, counted, for_listed, listed},
};

pub(super) struct Remains;

/// A task that is gone, and how many rows it left at most.
struct Left {
    task: String,
    rows: i64,
}

#[async_trait]
impl Pruner for Remains {
    async fn count(&self, store: &Store, _: Timestamp) -> Result<Vec<(Kind, u64)>> {
        store
            .read(|conn| {
                let count = |sql| conn.query_one(sql, &[], |row| row.integer(0)).map(counted);
                Ok(vec![
                    ("steps", count("SELECT count(*) FROM task_pruned JOIN step ON step.task = task_pruned.task")?),
                    (
                        "events",
                        count(
                            "SELECT count(*) FROM task_pruned JOIN task_event ON task_event.task = task_pruned.task",
                        )?,
                    ),
                ])
            })
            .await
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        let left = pass.store.read(left).await?;
        let rows_max = pass.rows_max();
        let Some(first) = left.first() else { return Ok(false) };
        if first.rows > rows_max {
            let task = first.task.clone();
            pass.write(move |tx| take_part(tx, &task, rows_max)).await?;
            return Ok(true);
        }
        let mut rows = 0;
        let fitting = left.into_iter().take_while(|left| {
            // The note itself is a row, too.
            rows += left.rows + 1;
            rows <= rows_max + 1
        });
        let tasks: Vec<String> = fitting.map(|left| left.task).collect();
        pass.write(move |tx| take_whole(tx, &tasks)).await?;
        Ok(true)
    }
}

fn left(conn: &Conn<'_>) -> Result<Vec<Left>> {
    conn.query("SELECT task, steps + events FROM task_pruned ORDER BY task LIMIT $1", &[ROWS_MAX.into()], |row| {
        Ok(Left { task: row.text(0)?, rows: row.integer(1)? })
    })
}

fn take_whole(tx: &mut Tx<'_>, tasks: &[String]) -> Result<Taken> {
    let tasks = listed(tx, tasks);
    let take = |sql| tx.execute(sql, &[Arg::Text(&tasks)]);
    let steps = take(for_listed!(tx, "DELETE FROM step WHERE", "task", ""))?;
    let events = take(for_listed!(tx, "DELETE FROM task_event WHERE", "task", ""))?;
    take(for_listed!(tx, "DELETE FROM task_pruned WHERE", "task", ""))?;
    Ok(vec![("steps", steps as u64), ("events", events as u64)])
}

/// A part of what one large task left; its note goes when nothing is left.
fn take_part(tx: &mut Tx<'_>, task: &str, rows_max: i64) -> Result<Taken> {
    let take = |sql| tx.execute(sql, &[Arg::Text(task), rows_max.into()]);
    let events = take(
        "DELETE FROM task_event WHERE task = $1
           AND seq < $2 + (SELECT min(first.seq) FROM task_event AS first WHERE first.task = $1)",
    )?;
    if events > 0 {
        return Ok(vec![("events", events as u64)]);
    }
    let steps = take(
        "DELETE FROM step WHERE task = $1 AND seq < $2 + (SELECT min(first.seq) FROM step AS first WHERE first.task = $1)",
    )?;
    if steps == 0 {
        tx.execute("DELETE FROM task_pruned WHERE task = $1", &[Arg::Text(task)])?;
    }
    Ok(vec![("steps", steps as u64)])
}
