//! What is simply too old: notifications of agents, and guard rows of schedules that are past their use.

use agentos_store::{Arg, Conn, Tx};
use agentos_types::{EventId, Result, Timestamp};

use super::{Policy, Rows, pass::counted};

/// With the notification goes the promise that its `dedupe_key` is published once.
pub(super) fn notifications(policy: &Policy) -> Rows {
    Rows { kind: "notifications", days: policy.event_days, count: count_notifications, take: take_notifications }
}

/// A firing needs its guard for as long as the clock could go back; a schedule that goes on firing clears its own.
pub(super) fn firings() -> Rows {
    Rows { kind: "schedule-firings", days: 1, count: count_firings, take: take_firings }
}

fn count_notifications(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    let first = EventId::generate(before, 0);
    conn.query_one("SELECT count(*) FROM notification WHERE id < $1", &[(&first).into()], |row| row.integer(0))
        .map(counted)
}

fn take_notifications(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let first = EventId::generate(before, 0);
    let taken = tx.execute(
        "DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE id < $1 ORDER BY id LIMIT $2)",
        &[(&first).into(), rows_max.into()],
    )?;
    Ok(taken as u64)
}

fn count_firings(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    conn.query_one("SELECT count(*) FROM schedule_fire WHERE fire_at < $1", &[before.into()], |row| row.integer(0))
        .map(counted)
}

fn take_firings(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let taken = tx.execute(
        "DELETE FROM schedule_fire WHERE (schedule, fire_at) IN
           (SELECT schedule, fire_at FROM schedule_fire WHERE fire_at < $1 LIMIT $2)",
        &[before.into(), Arg::Integer(rows_max)],
    )?;
    Ok(taken as u64)
}
