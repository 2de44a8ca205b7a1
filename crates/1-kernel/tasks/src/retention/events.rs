//! Events of finished tasks that are kept shorter than the tasks. The last event stays: it tells how the task ended, and
//! a stream that is opened or resumed later ends with it.

use agentos_store::{Arg, Conn, Store, Tx};
use agentos_types::{Result, TaskId, Timestamp, task::TaskState};
use async_trait::async_trait;

use super::{
    Kind, Pass, Policy, Pruner, Taken, horizon,
    pass::{counted, for_listed, listed},
};

/// Tasks that have more than their last event left and ended long enough ago.
macro_rules! due {
    () => {
        "state = $2 AND id < $3 AND updated_at < $4 AND events_from < event_seq"
    };
}

/// One page of them, after a cursor.
pub(crate) const DUE: &str =
    concat!("SELECT id, event_seq - events_from FROM task WHERE id > $1 AND ", due!(), " ORDER BY id LIMIT $5");

/// Of tasks in one final state.
pub(super) struct Events {
    state: TaskState,
    /// 0 where the tasks go before their events could.
    days: u64,
}

impl Events {
    pub(super) fn new(state: TaskState, policy: &Policy) -> Self {
        let kept = if state == TaskState::Failed { policy.dead_letter_days } else { policy.task_days };
        // With the task all of its events go; there is nothing to do before if they are kept as long.
        let shorter = kept == 0 || policy.event_days < kept;
        Self { state, days: if shorter { policy.event_days } else { 0 } }
    }
}

#[async_trait]
impl Pruner for Events {
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>> {
        let Some(before) = horizon(now, self.days) else { return Ok(vec![("events", 0)]) };
        let state = self.state;
        let found = store
            .read(move |conn| {
                let first = TaskId::generate(before, 0).to_string();
                conn.query_one(
                    concat!(
                        "SELECT count(*) FROM task_event AS held WHERE EXISTS
                           (SELECT 1 FROM task WHERE id = held.task AND held.seq < event_seq AND id > $1 AND ",
                        due!(),
                        ")"
                    ),
                    &[Arg::Text(""), state.as_str().into(), Arg::Text(&first), before.into()],
                    |row| row.integer(0),
                )
            })
            .await?;
        Ok(vec![("events", counted(found))])
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        let Some(before) = horizon(pass.now, self.days) else { return Ok(false) };
        let (state, cursor, rows_max) = (self.state, pass.cursor(), pass.rows_max());
        let found = pass.store.read(move |conn| due(conn, state, before, &cursor, rows_max)).await?;
        let Some((first, events)) = found.first().cloned() else { return Ok(false) };
        if events > rows_max {
            let task = first.clone();
            let taken = pass.write(move |tx| take_part(tx, state, before, &task, rows_max)).await?;
            if taken > 0 {
                return Ok(true);
            }
        }
        let mut rows = 0;
        let fitting = found.into_iter().enumerate().take_while(|(index, (_, events))| {
            rows += events;
            *index == 0 || rows <= rows_max
        });
        let tasks: Vec<String> = fitting.map(|(_, (task, _))| task).collect();
        pass.advance(tasks.last().cloned().unwrap_or(first));
        pass.write(move |tx| take(tx, state, before, &tasks)).await?;
        Ok(true)
    }
}

fn due(
    conn: &Conn<'_>,
    state: TaskState,
    before: Timestamp,
    cursor: &str,
    rows_max: i64,
) -> Result<Vec<(String, i64)>> {
    let first = TaskId::generate(before, 0).to_string();
    conn.query(
        DUE,
        &[Arg::Text(cursor), state.as_str().into(), Arg::Text(&first), before.into(), rows_max.into()],
        |row| Ok((row.text(0)?, row.integer(1)?)),
    )
}

/// All but the last event of each task that is still as finished as it was when it was found.
fn take(tx: &mut Tx<'_>, state: TaskState, before: Timestamp, tasks: &[String]) -> Result<Taken> {
    let tasks = listed(tx, tasks);
    let events = tx.execute(
        for_listed!(
            tx,
            "DELETE FROM task_event WHERE",
            "task",
            "AND seq < (SELECT task.event_seq FROM task
                        WHERE task.id = task_event.task AND task.state = $2 AND task.updated_at < $3)"
        ),
        &[Arg::Text(&tasks), state.as_str().into(), before.into()],
    )?;
    tx.execute(
        for_listed!(tx, "UPDATE task SET events_from = event_seq WHERE", "id", "AND state = $2 AND updated_at < $3"),
        &[Arg::Text(&tasks), state.as_str().into(), before.into()],
    )?;
    Ok(vec![("events", events as u64)])
}

/// The first events of one task that has many. Nothing is taken once only its last event is left.
fn take_part(tx: &mut Tx<'_>, state: TaskState, before: Timestamp, task: &str, rows_max: i64) -> Result<Taken> {
    let events = tx.execute(
        "DELETE FROM task_event WHERE task = $1
           AND seq < $4 + (SELECT min(first.seq) FROM task_event AS first WHERE first.task = $1)
           AND seq < (SELECT task.event_seq FROM task
                      WHERE task.id = $1 AND task.state = $2 AND task.updated_at < $3)",
        &[Arg::Text(task), state.as_str().into(), before.into(), rows_max.into()],
    )?;
    Ok(vec![("events", events as u64)])
}
