//! The journal as it stands in the database: what the checks compare, and a print of everything for before and after.

use agentos_store::{Conn, Store};
use agentos_types::{ScheduleId, TaskId, Timestamp, task::TaskState};

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: TaskId,
    pub state: TaskState,
    pub fence: i64,
    pub events: i64,
    pub attempt: i64,
    pub attempts_max: i64,
    pub run_at: Timestamp,
    pub deadline_at: Option<Timestamp>,
    pub canceling: bool,
    pub lease_until: Option<Timestamp>,
    pub node: Option<String>,
    pub redrives: i64,
    pub schedule: Option<ScheduleId>,
    pub key: Option<String>,
}

/// Every task, oldest first, and the tasks whose events have a gap or another number than the row says.
pub async fn rows(store: &Store) -> (Vec<Row>, Vec<String>) {
    store.read(|conn| Ok((tasks(conn)?, gaps(conn)?))).await.unwrap()
}

fn tasks(conn: &Conn<'_>) -> agentos_types::Result<Vec<Row>> {
    conn.query(
        "SELECT id, state, fence, event_seq, attempt, attempts_max, run_at, deadline_at, cancel_asked_at, lease_until,
           lease_node, redrives, schedule, idem_key FROM task ORDER BY id",
        &[],
        |row| {
            Ok(Row {
                id: row.parsed(0)?,
                state: TaskState::parse(&row.text(1)?).unwrap(),
                fence: row.integer(2)?,
                events: row.integer(3)?,
                attempt: row.integer(4)?,
                attempts_max: row.integer(5)?,
                run_at: row.time(6)?,
                deadline_at: row.time_or_null(7)?,
                canceling: row.time_or_null(8)?.is_some(),
                lease_until: row.time_or_null(9)?,
                node: row.text_or_null(10)?,
                redrives: row.integer(11)?,
                schedule: row.parsed_or_null(12)?,
                key: row.text_or_null(13)?,
            })
        },
    )
}

fn gaps(conn: &Conn<'_>) -> agentos_types::Result<Vec<String>> {
    conn.query(
        "SELECT task.id FROM task LEFT JOIN (SELECT task, count(*) AS number, max(seq) AS last FROM task_event GROUP BY task)
           AS events ON events.task = task.id
         WHERE events.number IS NULL OR events.number <> event_seq OR events.last <> event_seq",
        &[],
        |row| row.text(0),
    )
}

/// Every table as lines of text.
const PRINT: &[&str] = &[
    "SELECT id || ' ' || state || ' ' || fence || ' ' || event_seq || ' ' || step_seq || ' ' || attempt || ' ' || run_at
       || ' ' || redrives || ' ' || input_fence || ' ' || updated_at || ' ' || coalesce(cancel_asked_at, 0)
       || ' ' || coalesce(lease_until, 0) || ' ' || coalesce(lease_node, '-') || ' ' || coalesce(length(output), 0)
       FROM task ORDER BY id",
    "SELECT task || ' ' || key || ' ' || seq || ' ' || status || ' ' || fence || ' ' || request_hash
       || ' ' || coalesce(length(result), -1) FROM step ORDER BY task, key",
    "SELECT task || ' ' || seq || ' ' || kind || ' ' || length(data) FROM task_event ORDER BY task, seq",
    "SELECT id || ' ' || cadence || ' ' || paused || ' ' || next_at || ' ' || fired FROM schedule ORDER BY id",
    "SELECT schedule || ' ' || fire_at || ' ' || task FROM schedule_fire ORDER BY schedule, fire_at",
    "SELECT key || ' ' || version FROM kv ORDER BY key",
    "SELECT seq || ' ' || action || ' ' || resource || ' ' || phase FROM audit_record ORDER BY seq",
    "SELECT log || ' ' || size FROM audit_frontier",
];

pub async fn print(store: &Store) -> Vec<String> {
    let read = |conn: &Conn<'_>| {
        let mut lines = Vec::new();
        for query in PRINT {
            lines.extend(conn.query(query, &[], |row| row.text(0))?);
        }
        Ok(lines)
    };
    store.read(read).await.unwrap()
}

/// Fails with the lines in which two prints differ.
#[track_caller]
pub fn same(one: &[String], other: &[String], what: &str) {
    if one != other {
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        panic!("{what}\nonly before: {:#?}\nonly after: {:#?}", only(one, other), only(other, one));
    }
}
