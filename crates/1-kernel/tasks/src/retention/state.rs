//! What a run leaves behind: when it began and ended, who asked, how many rows of each kind. Kept in the database, so that
//! it outlives the server, as the run itself does.

use agentos_store::{Conn, Tx};
use agentos_types::{Code, Result, Timestamp};

use super::{Kind, Policy};

/// The newest run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Label of the actor.
    pub asked_by: String,
    pub started_at: Timestamp,
    /// `None` while it is under way.
    pub finished_at: Option<Timestamp>,
    /// What kept a part of it from being done.
    pub failure: Option<Code>,
}

/// Rows of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub kind: String,
    /// Taken by the newest run.
    pub rows_last: u64,
    /// Taken by all runs.
    pub rows_total: u64,
}

/// What there is to say about retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub policy: Policy,
    pub last_run: Option<Run>,
    pub counts: Vec<Count>,
    /// `None` before the server has planned its first run.
    pub next_at: Option<Timestamp>,
}

impl Status {
    pub fn is_running(&self) -> bool {
        self.last_run.as_ref().is_some_and(|run| run.finished_at.is_none())
    }
}

pub(super) fn load(conn: &Conn<'_>, policy: Policy) -> Result<Status> {
    let row = conn.query_one(
        "SELECT asked_by, started_at, finished_at, failure, next_at FROM retention_run WHERE slot = 1",
        &[],
        |row| {
            let run = row.time_or_null(1)?.map(|started_at| {
                Ok(Run {
                    asked_by: row.text_or_null(0)?.unwrap_or_default(),
                    started_at,
                    finished_at: row.time_or_null(2)?,
                    failure: row.parsed_or_null(3)?,
                })
            });
            Ok((run.transpose()?, row.time(4)?))
        },
    )?;
    let counts =
        conn.query("SELECT kind, rows_last, rows_total FROM retention_count ORDER BY kind LIMIT 100", &[], |row| {
            let number = |index| Ok(u64::try_from(row.integer(index)?).unwrap_or(0));
            Ok(Count { kind: row.text(0)?, rows_last: number(1)?, rows_total: number(2)? })
        })?;
    let (last_run, next_at) = row.map_or((None, None), |(run, next)| (run, Some(next)));
    Ok(Status { policy, last_run, counts, next_at })
}

pub(super) fn plan(tx: &Tx<'_>, next_at: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO retention_run (slot, next_at) VALUES (1, $1) ON CONFLICT (slot) DO UPDATE SET next_at = $1",
        &[next_at.into()],
    )?;
    Ok(())
}

pub(super) fn begin(tx: &Tx<'_>, asked_by: &str, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO retention_run (slot, asked_by, started_at, next_at) VALUES (1, $1, $2, $2)
         ON CONFLICT (slot) DO UPDATE SET asked_by = $1, started_at = $2, finished_at = NULL, failure = NULL",
        &[asked_by.into(), now.into()],
    )?;
    tx.execute("UPDATE retention_count SET rows_last = 0", &[])?;
    Ok(())
}

pub(super) fn finish(tx: &Tx<'_>, now: Timestamp, failure: Option<Code>, next_at: Timestamp) -> Result<()> {
    let failure = failure.map(|code| code.to_string());
    tx.execute(
        "UPDATE retention_run SET finished_at = $1, failure = $2, next_at = $3 WHERE slot = 1",
        &[now.into(), failure.as_ref().into(), next_at.into()],
    )?;
    Ok(())
}

/// Adds to the counts, in the transaction that takes the rows.
pub(super) fn count(tx: &Tx<'_>, taken: &[(Kind, u64)]) -> Result<()> {
    for (kind, rows) in taken.iter().filter(|(_, rows)| *rows > 0) {
        tx.execute(
            "INSERT INTO retention_count (kind, rows_last, rows_total) VALUES ($1, $2, $2) ON CONFLICT (kind) DO UPDATE
             SET rows_last = retention_count.rows_last + $2, rows_total = retention_count.rows_total + $2",
            &[(*kind).into(), i64::try_from(*rows).unwrap_or(i64::MAX).into()],
        )?;
    }
    Ok(())
}
