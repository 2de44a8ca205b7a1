//! Finished tasks whose time is over: their rows go, and what they leave is noted for [`super::remains`].

use agentos_store::{Arg, Conn, Store, Tx};
use agentos_types::{Result, TaskId, Timestamp, task::TaskState};
use async_trait::async_trait;

use super::{
    Kind, Pass, Policy, Pruner, Taken, horizon,
    pass::{counted, for_listed, listed},
};

/// What makes a task of state `$2` prunable; the id bound lets the index answer. A key of a schedule is promised by the
/// schedule's own guard row.
macro_rules! due {
    () => {
        "state = $2 AND id < $3 AND updated_at < $4
         AND (idem_key IS NULL OR schedule IS NOT NULL OR submitted_at < $5)
         AND (state <> 'failed' OR NOT EXISTS
           (SELECT 1 FROM step WHERE step.task = task.id AND step.status = 'started' AND step.safety = 'unsafe'))"
    };
}

/// One page of them, after a cursor.
pub(crate) const DUE: &str = concat!("SELECT id FROM task WHERE id > $1 AND ", due!(), " ORDER BY id LIMIT $6");

/// Tasks of one final state.
pub(super) struct Finished {
    kind: Kind,
    state: TaskState,
    days: u64,
    idempotency_days: u64,
}

/// The bounds of one look.
#[derive(Clone, Copy)]
struct Bounds {
    ended_before: Timestamp,
    key_used_before: Timestamp,
}

impl Finished {
    pub(super) fn new(state: TaskState, policy: &Policy) -> Self {
        let (kind, days) = match state {
            TaskState::Failed => ("dead-letters", policy.dead_letter_days),
            _ => ("tasks", policy.task_days),
        };
        Self { kind, state, days, idempotency_days: policy.idempotency_days }
    }

    fn bounds(&self, now: Timestamp) -> Option<Bounds> {
        let ended_before = horizon(now, self.days)?;
        let key_used_before = horizon(now, self.idempotency_days).unwrap_or(Timestamp(i64::MIN));
        Some(Bounds { ended_before, key_used_before })
    }
}

#[async_trait]
impl Pruner for Finished {
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>> {
        let nothing = vec![(self.kind, 0), ("steps", 0), ("events", 0)];
        let Some(bounds) = self.bounds(now) else { return Ok(nothing) };
        let (kind, state) = (self.kind, self.state);
        store.read(move |conn| count(conn, kind, state, bounds)).await
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        let Some(bounds) = self.bounds(pass.now) else { return Ok(false) };
        let (state, kind, cursor, rows_max) = (self.state, self.kind, pass.cursor(), pass.rows_max());
        let first = first_id(bounds.ended_before);
        let ids = pass
            .store
            .read(move |conn| {
                let [state, id, ended, key] = arguments(state, &first, bounds);
                conn.query(DUE, &[Arg::Text(&cursor), state, id, ended, key, rows_max.into()], |row| row.text(0))
            })
            .await?;
        let Some(last) = ids.last() else { return Ok(false) };
        pass.advance(last.clone());
        let more = i64::try_from(ids.len()).is_ok_and(|found| found >= rows_max);
        pass.write(move |tx| take(tx, kind, state, bounds, &ids)).await?;
        Ok(more)
    }
}

/// The least id that a task made at the instant can have: older tasks have smaller ids.
fn first_id(at: Timestamp) -> String {
    TaskId::generate(at, 0).to_string()
}

/// `$2` to `$5` of [`due`].
fn arguments<'a>(state: TaskState, first: &'a str, bounds: Bounds) -> [Arg<'a>; 4] {
    [Arg::Text(state.as_str()), Arg::Text(first), bounds.ended_before.into(), bounds.key_used_before.into()]
}

/// Takes the rows that are still due: between look and transaction somebody may have brought one back.
fn take(tx: &mut Tx<'_>, kind: Kind, state: TaskState, bounds: Bounds, ids: &[String]) -> Result<Taken> {
    let (ids, first) = (listed(tx, ids), first_id(bounds.ended_before));
    let [state, id, ended, key] = arguments(state, &first, bounds);
    tx.execute(
        for_listed!(
            tx,
            "INSERT INTO task_pruned (task, steps, events) SELECT id, step_seq, event_seq FROM task WHERE",
            "id",
            concat!("AND ", due!())
        ),
        &[Arg::Text(&ids), state, id, ended, key],
    )?;
    let taken = tx.execute(
        for_listed!(tx, "DELETE FROM task WHERE", "id", "AND id IN (SELECT task FROM task_pruned)"),
        &[Arg::Text(&ids)],
    )?;
    Ok(vec![(kind, taken as u64)])
}

/// The tasks and the rows that go with them.
fn count(conn: &Conn<'_>, kind: Kind, state: TaskState, bounds: Bounds) -> Result<Vec<(Kind, u64)>> {
    let first = first_id(bounds.ended_before);
    let [state, id, ended, key] = arguments(state, &first, bounds);
    let count = |sql| conn.query_one(sql, &[Arg::Text(""), state, id, ended, key], |row| row.integer(0)).map(counted);
    Ok(vec![
        (kind, count(concat!("SELECT count(*) FROM task WHERE id > $1 AND ", due!()))?),
        (
            "steps",
            count(concat!(
                "SELECT count(*) FROM step AS held WHERE EXISTS
                   (SELECT 1 FROM task WHERE id = held.task AND id > $1 AND ",
                due!(),
                ")"
            ))?,
        ),
        (
            "events",
            count(concat!(
                "SELECT count(*) FROM task_event AS held WHERE EXISTS
                   (SELECT 1 FROM task WHERE id = held.task AND id > $1 AND ",
                due!(),
                ")"
            ))?,
        ),
    ])
}
