//! Queries: one task, pages of tasks, the steps and events of a task. Readers see snapshots and never wait for the writer.

use agentos_store::{Arg, Conn, Row};
use agentos_types::{
    Envelope, Result, TaskId,
    limits::{PAGE_MAX, STEPS_PER_TASK_MAX},
    task::{Safety, Step, Task, TaskEvent, TaskState},
};

use crate::{
    TaskFilter, Tasks,
    payload::corrupt,
    transition::{self, Record, task_columns},
};

/// Sorts after every task id: the start of a listing from the newest.
const NEWEST: &str = "task_~";

/// Results above this size are left out of a listing of steps: ten thousand large ones would not fit in memory.
/// The limit stands in the statement as well.
pub const STEP_RESULT_LISTED_BYTES_MAX: usize = 16 * 1024;

/// Data of the events of one page, but for its last: one has up to a megabyte, and a page of five hundred of those would hold half a
/// gigabyte for each of its readers, for as long as they do not read.
const EVENTS_BYTES_MAX: i64 = 1024 * 1024;

impl Tasks {
    pub async fn get(&self, id: &TaskId) -> Result<Task> {
        let id = id.clone();
        self.store.read(move |conn| Ok(transition::load(conn, &id)?.task)).await
    }

    /// Newest first. Tasks that come meanwhile have higher ids and never disturb the pages below the cursor.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<Task>> {
        self.store.read(move |conn| list(conn, &filter)).await
    }

    /// In the order of their start. `result` is absent above [`STEP_RESULT_LISTED_BYTES_MAX`]; the journal keeps it.
    pub async fn steps(&self, id: &TaskId) -> Result<Vec<Step>> {
        let id = id.clone();
        self.store
            .read(move |conn| {
                let steps = conn.query(
                    "SELECT key, seq, syscall, status, safety, result_key,
                            CASE WHEN length(result) <= 16384 THEN result END, traceparent, started_at, finished_at
                     FROM step WHERE task = $1 AND EXISTS (SELECT 1 FROM task WHERE id = $1) ORDER BY seq LIMIT $2",
                    &[(&id).into(), STEPS_PER_TASK_MAX.into()],
                    read_step,
                )?;
                known_if_empty(conn, &id, steps)
            })
            .await
    }

    /// Events after `after_seq` (0 = from the first), in order, at most `limit`; fewer where they are large, and none only where there
    /// are none.
    pub async fn events(&self, id: &TaskId, after_seq: i64, limit: usize) -> Result<Vec<TaskEvent>> {
        let id = id.clone();
        self.store
            .read(move |conn| {
                let events = conn.query(
                    "WITH near AS (SELECT seq, length(data) AS bytes FROM task_event WHERE task = $1 AND seq > $2
                       AND EXISTS (SELECT 1 FROM task WHERE id = $1) ORDER BY seq LIMIT $3),
                     summed AS (SELECT seq, sum(bytes) OVER (ORDER BY seq) - bytes AS ahead FROM near)
                     SELECT task, seq, at, kind, data_key, data FROM task_event WHERE task = $1 AND seq > $2
                       AND seq <= (SELECT max(seq) FROM summed WHERE ahead < $4) ORDER BY seq",
                    &[(&id).into(), after_seq.into(), page(limit), EVENTS_BYTES_MAX.into()],
                    |row| {
                        Ok(TaskEvent {
                            task: row.parsed(0)?,
                            seq: row.integer(1)?,
                            at: row.time(2)?,
                            kind: row.text(3)?,
                            data: Envelope { key_id: row.integer(4)?, bytes: row.bytes(5)? }.open_value()?,
                        })
                    },
                )?;
                known_if_empty(conn, &id, events)
            })
            .await
    }
}

/// Nothing found for a task that does not exist is an error, not an empty page. What a pruned task left for a moment is
/// not found either.
fn known_if_empty<T>(conn: &Conn<'_>, id: &TaskId, found: Vec<T>) -> Result<Vec<T>> {
    if found.is_empty() {
        conn.query_one("SELECT 1 FROM task WHERE id = $1", &[id.into()], |_| Ok(()))?
            .ok_or_else(|| transition::not_found(id))?;
    }
    Ok(found)
}

/// The LIMIT of a page. One row more than the largest page may be asked for: it tells whether another page follows.
pub(crate) fn page(limit: usize) -> Arg<'static> {
    Arg::Integer(i64::try_from(limit.min(PAGE_MAX + 1)).unwrap_or(0))
}

/// One text for each combination, so that each walks its own index.
fn list(conn: &Conn<'_>, filter: &TaskFilter) -> Result<Vec<Task>> {
    let below = Arg::Text(filter.after.as_ref().map_or(NEWEST, TaskId::as_str));
    let limit = page(filter.limit);
    let state = filter.state.map(TaskState::as_str);
    if let Some(owner) = &filter.submitted_by {
        return list_owned(conn, filter, owner);
    }
    let records = match (&filter.agent, state) {
        (None, None) => conn.query(
            concat!("SELECT ", task_columns!(), " FROM task WHERE id < $1 ORDER BY id DESC LIMIT $2"),
            &[below, limit],
            Record::read,
        ),
        (Some(agent), None) => conn.query(
            concat!("SELECT ", task_columns!(), " FROM task WHERE agent = $3 AND id < $1 ORDER BY id DESC LIMIT $2"),
            &[below, limit, agent.into()],
            Record::read,
        ),
        (None, Some(state)) => conn.query(
            concat!("SELECT ", task_columns!(), " FROM task WHERE state = $3 AND id < $1 ORDER BY id DESC LIMIT $2"),
            &[below, limit, state.into()],
            Record::read,
        ),
        (Some(agent), Some(state)) => conn.query(
            concat!(
                "SELECT ",
                task_columns!(),
                " FROM task WHERE agent = $3 AND state = $4 AND id < $1 ORDER BY id DESC LIMIT $2"
            ),
            &[below, limit, agent.into(), state.into()],
            Record::read,
        ),
    }?;
    Ok(records.into_iter().map(|record| record.task).collect())
}

/// Walks the index of the owner; agent and state narrow what it finds there.
fn list_owned(conn: &Conn<'_>, filter: &TaskFilter, owner: &str) -> Result<Vec<Task>> {
    let records = conn.query(
        concat!(
            "SELECT ",
            task_columns!(),
            " FROM task WHERE submitted_by = $3 AND id < $1 AND (agent = $4 OR $4 IS NULL)
              AND (state = $5 OR $5 IS NULL) ORDER BY id DESC LIMIT $2"
        ),
        &[
            Arg::Text(filter.after.as_ref().map_or(NEWEST, TaskId::as_str)),
            page(filter.limit),
            owner.into(),
            filter.agent.as_ref().into(),
            filter.state.map(TaskState::as_str).into(),
        ],
        Record::read,
    )?;
    Ok(records.into_iter().map(|record| record.task).collect())
}

fn read_step(row: &Row<'_>) -> Result<Step> {
    let safety = row.text(4)?;
    let result = match (row.integer_or_null(5)?, row.bytes_or_null(6)?) {
        (Some(key_id), Some(bytes)) => Some(Envelope { key_id, bytes }.open_value()?),
        _ => None,
    };
    Ok(Step {
        key: row.text(0)?,
        seq: row.integer(1)?,
        syscall: row.text(2)?,
        status: row.text(3)?,
        safety: Safety::parse(&safety).ok_or_else(|| corrupt("safety", &safety))?,
        result,
        traceparent: row.text(7)?,
        started_at: row.time(8)?,
        finished_at: row.time_or_null(9)?,
    })
}
