//! What an SQLite database keeps beside records and checkpoints: days, the mark of pruning, changes of the key. A database
//! of an older program has none of these tables.

use agentos_types::{Code, Fault, Result};
use rusqlite::{Connection, OptionalExtension};

use super::{broken, read_count};
use crate::{
    day::StoredDay,
    finding::{Finding, FindingKind, VerifyError},
    life::Kept,
    merkle::Frontier,
    note::VerifierKey,
    rotation::KeyChain,
};

/// Tables that a database may lack.
pub(super) const OPTIONAL_TABLES: [&str; 3] = ["audit_day", "audit_prune", "audit_key"];
/// Days of a log: some thousand years of them, or a clock that was made to jump.
const DAYS_MAX: usize = 1_000_000;

/// The keys of the log that `trusted` names.
pub fn keys(connection: &Connection, log: &str, trusted: &VerifierKey) -> Result<KeyChain, VerifyError> {
    if !has_table(connection, "audit_key")? {
        return Ok(KeyChain::single(trusted.clone()));
    }
    let mut statement = connection.prepare("SELECT note FROM audit_key WHERE log = ?1 ORDER BY size")?;
    let notes = statement.query_map([log], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>();
    let notes = notes.map_err(|_| Finding::new(FindingKind::KeyChain, None, "a change of the key is not text"))?;
    Ok(KeyChain::new(trusted, &notes)?)
}

/// Days and mark, all empty for a log that has none.
pub fn kept(connection: &Connection, log: &str) -> Result<Kept, VerifyError> {
    for table in ["audit_day", "audit_prune"] {
        if !has_table(connection, table)? {
            return Ok(Kept::default());
        }
    }
    let mut statement = connection
        .prepare("SELECT number, date, first_seq, frontier, last_leaf FROM audit_day WHERE log = ?1 ORDER BY number")?;
    let mut rows = statement.query([log])?;
    let mut days = Vec::new();
    while let Some(row) = rows.next()? {
        if days.len() >= DAYS_MAX {
            let message = format!("the table of days has more than {DAYS_MAX} rows");
            return Err(Finding::new(FindingKind::DayTable, None, message).into());
        }
        days.push(StoredDay {
            number: read_count(row, 0)?,
            date: row.get(1)?,
            first_seq: read_count(row, 2)?,
            frontier: row.get(3)?,
            last_leaf: row.get(4)?,
        });
    }
    let first_kept = first_kept(connection, log)?;
    let divided = connection
        .query_row("SELECT divided FROM audit_frontier WHERE log = ?1", [log], |row| row.get::<_, Option<i64>>(0))
        .optional()?
        .flatten();
    Ok(Kept { days, first_kept, divided: divided.and_then(|size| u64::try_from(size).ok()).unwrap_or(0) })
}

/// Where the records begin that were not pruned.
pub fn first_kept(connection: &Connection, log: &str) -> Result<u64, VerifyError> {
    if !has_table(connection, "audit_prune")? {
        return Ok(0);
    }
    let mark: Option<i64> =
        connection.query_row("SELECT max(first_kept) FROM audit_prune WHERE log = ?1", [log], |row| row.get(0))?;
    u64::try_from(mark.unwrap_or(0))
        .map_err(|_| Finding::new(FindingKind::PruneUnsigned, None, "the mark of pruning is not a count").into())
}

/// The frontier where the last day before record `first` began: leaves from there on complete it.
pub(super) fn frontier_near(connection: &Connection, log: &str, first: i64) -> Result<Frontier> {
    if !has_table(connection, "audit_day").map_err(Fault::from)? {
        return Ok(Frontier::new());
    }
    let sql = "SELECT frontier FROM audit_day WHERE log = ?1 AND first_seq <= ?2 ORDER BY first_seq DESC LIMIT 1";
    let stored: Option<Vec<u8>> =
        connection.query_row(sql, (log, first), |row| row.get(0)).optional().map_err(broken)?;
    stored.map_or(Ok(Frontier::new()), |bytes| Frontier::from_bytes(&bytes))
}

fn has_table(connection: &Connection, table: &str) -> Result<bool, VerifyError> {
    let kind: Option<String> =
        connection.query_row("SELECT type FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0)).optional()?;
    match kind.as_deref() {
        None => Ok(false),
        Some("table") => Ok(true),
        // A view could show the verifier whatever it likes.
        Some(_) => Err(Fault::new(Code::STORE_CORRUPT, format!("'{table}' is not a table")).into()),
    }
}
