//! Partitions of steps and events on Postgres: those of the coming days are opened, those in which nothing lives are
//! dropped. Both are functions of the database that run with the rights of the tables' owner and check their own rule;
//! the server's role can call them and can neither make nor drop a table.

use agentos_store::{Arg, Conn, Dialect, Store, Tx};
use agentos_types::{Result, TaskId, Timestamp};
use async_trait::async_trait;

use super::{DAY, Kind, Pass, Pruner, Taken, pass::counted};

/// Opened before they are needed, so that a server which rests for a while still finds its day. Rows of a day that nobody
/// opened go to the net and move when it is opened.
const DAYS_AHEAD: i64 = 7;

const OPEN: &str = "SELECT history_open_day($1)";
const DROP: &str = "SELECT history_drop_day($1)";
/// Days that have partitions, and in how many of the two tables.
const OPENED: &str = "SELECT to_date(right(part.relname, 8), 'YYYYMMDD') - DATE '1970-01-01', count(*)
    FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
    WHERE inhparent IN ('step'::regclass, 'task_event'::regclass) AND part.relname NOT LIKE '%default'
    GROUP BY 1 ORDER BY 1";

pub(super) struct Days;

#[async_trait]
impl Pruner for Days {
    /// What a dropped day takes is counted as steps and events.
    async fn count(&self, _: &Store, _: Timestamp) -> Result<Vec<(Kind, u64)>> {
        Ok(Vec::new())
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        if pass.store.dialect() == Dialect::Sqlite {
            return Ok(false);
        }
        open_coming(&pass.store, pass.now).await?;
        let (today, cursor) = (day_of(pass.now), pass.cursor());
        let after = cursor.parse().unwrap_or(i64::MIN);
        let dead = pass
            .store
            .read(move |conn| {
                let past = opened(conn)?.into_iter().map(|(day, _)| day).filter(|day| *day < today && *day > after);
                for day in past {
                    if !is_held(conn, day)? {
                        return Ok(Some(day));
                    }
                }
                Ok(None)
            })
            .await?;
        let Some(day) = dead else { return Ok(false) };
        pass.advance(day.to_string());
        pass.write(move |tx| drop_day(tx, day)).await?;
        Ok(true)
    }
}

/// Opens the partitions of today and of the coming days. Nothing to do on SQLite.
pub(super) async fn open_coming(store: &Store, now: Timestamp) -> Result<()> {
    if store.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let there = store.read(opened).await?;
    let today = day_of(now);
    for day in (today..=today + DAYS_AHEAD).filter(|day| !there.contains(&(*day, 2))) {
        store.write(move |tx| tx.query(OPEN, &[Arg::Integer(day)], |_| Ok(()))).await?;
        tracing::info!(day = %start_of(day), "partitions opened");
    }
    Ok(())
}

fn opened(conn: &Conn<'_>) -> Result<Vec<(i64, i64)>> {
    conn.query(OPENED, &[], |row| Ok((row.integer(0)?, row.integer(1)?)))
}

/// Whether a task of the day exists, in whatever state.
fn is_held(conn: &Conn<'_>, day: i64) -> Result<bool> {
    let (first, next) = bounds(day);
    conn.query_one(
        "SELECT 1 FROM task WHERE id >= $1 AND id < $2 LIMIT 1",
        &[Arg::Text(&first), Arg::Text(&next)],
        |_| Ok(()),
    )
    .map(|found| found.is_some())
}

/// The database looks again whether the day is held, and then drops it with all that pruned tasks left in it.
fn drop_day(tx: &mut Tx<'_>, day: i64) -> Result<Taken> {
    let dropped = tx.query_one(DROP, &[Arg::Integer(day)], |row| row.integer(0))?;
    if counted(dropped) == 0 {
        return Ok(Vec::new());
    }
    let (first, next) = bounds(day);
    let range = [Arg::Text(&first), Arg::Text(&next)];
    let left = tx.query_one(
        "SELECT CAST(coalesce(sum(steps), 0) AS BIGINT), CAST(coalesce(sum(events), 0) AS BIGINT) FROM task_pruned
         WHERE task >= $1 AND task < $2",
        &range,
        |row| Ok((row.integer(0)?, row.integer(1)?)),
    )?;
    tx.execute("DELETE FROM task_pruned WHERE task >= $1 AND task < $2", &range)?;
    let (steps, events) = left.unwrap_or_default();
    Ok(vec![("steps", counted(Some(steps))), ("events", counted(Some(events))), ("days", 1)])
}

/// Days since 1970-01-01.
fn day_of(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX))
}

fn start_of(day: i64) -> Timestamp {
    Timestamp(day.saturating_mul(i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX)))
}

/// Ids of tasks that were made on the day.
fn bounds(day: i64) -> (String, String) {
    let first = |day| TaskId::generate(start_of(day), 0).to_string();
    (first(day), first(day + 1))
}
