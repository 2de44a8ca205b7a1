//! Applies and reverts. Runs inside the caller's transaction, which both databases take back whole.

use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, Result, Timestamp};

use super::{Migration, State, history, judge, state, text};
use crate::{Conn, Dialect};

/// Applies what is missing. Returns the numbers that were applied, and where the schema stands then.
pub(crate) fn up(conn: &Conn<'_>, known: &'static [Migration], now: Timestamp) -> Result<(Vec<i64>, State)> {
    let before = state(conn, known)?;
    // Not for an old program on a newer schema: what there is to remember, the newer one has remembered.
    if before.unknown.is_empty() {
        history::prepare(conn)?;
    }
    for migration in &before.pending {
        let dialect = conn.dialect();
        conn.execute_script(&text::common(dialect, migration.up))?;
        conn.execute_script(text::addendum(dialect, migration))?;
        history::remember(conn, migration, now)?;
        hit(Point::StoreMigrationApplied);
    }
    let applied = before.pending.iter().map(|migration| migration.number).collect();
    Ok((applied, state(conn, known)?))
}

/// What a way down to `target` reverts, newest first.
pub(crate) fn to_revert(state: &State, known: &'static [Migration], target: i64) -> Result<Vec<&'static Migration>> {
    let schema = state.schema();
    if target < 0 || target > schema {
        return Err(Fault::new(Code::USAGE, format!("the schema is {schema}, there is no way down to {target}")));
    }
    if let Some(foreign) = state.unknown.iter().rev().find(|number| **number > target) {
        return Err(judge::newer(known, &state.applied, *foreign));
    }
    let above = |migration: &&Migration| {
        migration.number > target && state.applied.iter().any(|applied| applied.number == migration.number)
    };
    Ok(known.iter().rev().filter(above).collect())
}

/// Reverts every migration above `target`, newest first. Returns their numbers.
pub(crate) fn down(conn: &Conn<'_>, known: &'static [Migration], target: i64) -> Result<Vec<i64>> {
    let state = state(conn, known)?;
    let steps = to_revert(&state, known, target)?;
    for migration in &steps {
        conn.execute_script(&text::common(conn.dialect(), migration.down))?;
        conn.execute_script(match conn.dialect() {
            Dialect::Sqlite => migration.down_sqlite,
            Dialect::Postgres => migration.down_postgres,
        })?;
        history::forget(conn, migration.number)?;
        hit(Point::StoreMigrationReverted);
    }
    Ok(steps.iter().map(|migration| migration.number).collect())
}
