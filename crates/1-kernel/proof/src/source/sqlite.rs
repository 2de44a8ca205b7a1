//! The log in an SQLite database: tables `audit_record` and `audit_checkpoint`, and beside them what [`kept`] reads.
//!
//! Everything here only reads. [`verify`] and [`export`] take a connection, so that the server can use them on its own
//! reader; [`verify_file`] opens a file that may be hostile, and reads it in one transaction, so that a log that grows
//! meanwhile is still seen at one instant.

use std::{borrow::Cow, io::Write, num::NonZero, ops::Range, path::Path};

use agentos_types::{Code, Fault, Result, fault::OrFault};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, types::ValueRef};

mod kept;

pub use kept::{first_kept, kept, keys};

use super::{pruned, segment, unreadable};
use crate::{
    checkpoint,
    finding::{Finding, FindingKind, VerifyError},
    leaf::Indexed,
    merkle::{Frontier, Hash},
    note::VerifierKey,
    verify::{Report, Row, StoredCheckpoint, Verifier},
};

const RECORDS: &str = "SELECT seq, body, prev_hash, leaf_hash, at, actor, action, resource, phase, decision, task, correlation \
    FROM audit_record WHERE log = ?1 AND seq >= ?2 ORDER BY seq";
const CHECKPOINTS: &str = "SELECT size, note FROM audit_checkpoint WHERE log = ?1 ORDER BY size";
/// Names of other logs that a report lists; more would not help a reader.
const OTHER_LOGS_MAX: usize = 20;

/// Opens a database for reading only. Schema code of the file (views, triggers) is given no trust.
pub fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| unreadable(path, error))?;
    let pragmas = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;";
    connection.execute_batch(pragmas).map_err(|error| damaged_or_unreadable(path, &error))?;
    Ok(connection)
}

/// A file that was opened and is damaged is no missing file: what helps is another.
fn damaged_or_unreadable(path: &Path, error: &rusqlite::Error) -> Fault {
    let fault = unreadable(path, error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault { code: Code::STORE_CORRUPT, ..fault },
        _ => fault,
    }
}

/// Verifies the log that `key` names, and lists other logs of the file, which need keys of their own.
pub fn verify_file(path: &Path, key: &VerifierKey, held: &[String]) -> Result<(Report, Vec<String>), VerifyError> {
    let connection = open(path)?;
    let reading = |error: rusqlite::Error| damaged_or_unreadable(path, &error);
    let snapshot = connection.unchecked_transaction().map_err(|error| {
        damaged_or_unreadable(path, &error)
            .hint("a database needs its '-wal' file beside it, in a directory that you may write to")
    })?;
    for table in ["audit_record", "audit_checkpoint"] {
        let kind: Option<String> = snapshot
            .query_row("SELECT type FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
            .optional()
            .map_err(reading)?;
        if kind.as_deref() != Some("table") {
            return Err(unreadable(path, format!("it has no table '{table}'")).into());
        }
        check_table(&snapshot, table, path)?;
    }
    for table in kept::OPTIONAL_TABLES {
        check_table(&snapshot, table, path)?;
    }
    let report = verify_on(&snapshot, key, held, super::threads())?;
    let others = other_logs(&snapshot, &report.log).map_err(reading)?;
    Ok((report, others))
}

/// A crafted index could show the verifier other rows than a search finds. A table that is not there has none.
fn check_table(connection: &Connection, table: &str, path: &Path) -> Result<()> {
    let check = format!("PRAGMA integrity_check('{table}')");
    let there: bool = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1", [table], |row| row.get(0))
        .map_err(|error| damaged_or_unreadable(path, &error))?;
    if !there {
        return Ok(());
    }
    let health: String =
        connection.query_row(&check, [], |row| row.get(0)).map_err(|error| damaged_or_unreadable(path, &error))?;
    if health == "ok" {
        return Ok(());
    }
    Err(Fault::new(Code::STORE_CORRUPT, format!("the database is damaged: {health}")))
}

/// Verifies the log that `key` names, on the caller's thread.
pub fn verify(connection: &Connection, key: &VerifierKey, held: &[String]) -> Result<Report, VerifyError> {
    verify_on(connection, key, held, NonZero::<usize>::MIN)
}

fn verify_on(
    connection: &Connection,
    key: &VerifierKey,
    held: &[String],
    threads: NonZero<usize>,
) -> Result<Report, VerifyError> {
    let log = checkpoint::log_of(key.name()).unwrap_or_default();
    let mut checkpoints = connection.prepare(CHECKPOINTS)?;
    let checkpoints = checkpoints.query_and_then([log], read_checkpoint)?;
    let (keys, kept) = (kept::keys(connection, log, key)?, kept::kept(connection, log)?);
    let mut verifier = Verifier::of_store(&keys, &kept, checkpoints, held)?.threads(threads);
    let mut records = connection.prepare(RECORDS)?;
    // Of a log that begins at 0 also a sequence below it is to be found.
    let first = if kept.first_kept == 0 { i64::MIN } else { as_i64(kept.first_kept)? };
    let mut rows = records.query((log, first))?;
    while let Some(row) = rows.next()? {
        verifier.row(&read_row(row)?)?;
    }
    verifier.finish()
}

fn read_row<'r>(row: &'r rusqlite::Row<'_>) -> Result<Row<'r>, VerifyError> {
    let seq = read_count(row, 0)?;
    let fields = Fields { row, seq };
    let optional = |index| fields.optional_text(index).map(|text| text.map(Cow::Borrowed));
    Ok(Row {
        seq,
        body: fields.blob(1)?,
        prev: Some(fields.blob(2)?),
        leaf: fields.blob(3)?,
        indexed: Some(Indexed {
            at: fields.integer(4)?,
            actor: fields.text(5)?.into(),
            action: fields.text(6)?.into(),
            resource: fields.text(7)?.into(),
            phase: fields.text(8)?,
            decision: fields.text(9)?,
            task: optional(10)?,
            correlation: optional(11)?,
        }),
    })
}

fn read_checkpoint(row: &rusqlite::Row<'_>) -> Result<StoredCheckpoint, VerifyError> {
    let size = read_count(row, 0)?;
    let note = Fields { row, seq: size.saturating_sub(1) }.text(1)?.to_owned();
    Ok(StoredCheckpoint { size, note })
}

fn read_count(row: &rusqlite::Row<'_>, index: usize) -> Result<u64, VerifyError> {
    let count = match row.get_ref(index)? {
        ValueRef::Integer(count) => u64::try_from(count).ok(),
        _ => None,
    };
    let message = "a stored sequence or size is not a count";
    count.ok_or_else(|| Finding::new(FindingKind::Edited, None, message).into())
}

/// SQLite stores any type in any column of a hostile file: a value of another type is a finding.
struct Fields<'r, 's> {
    row: &'r rusqlite::Row<'s>,
    seq: u64,
}

impl<'r> Fields<'r, '_> {
    fn value(&self, index: usize) -> Result<ValueRef<'r>, VerifyError> {
        Ok(self.row.get_ref(index)?)
    }

    fn wrong_type(&self, index: usize) -> VerifyError {
        let column = self.row.as_ref().column_name(index).unwrap_or("?");
        Finding::new(FindingKind::Edited, Some(self.seq), format!("column '{column}' holds a value of a wrong type"))
            .into()
    }

    fn blob(&self, index: usize) -> Result<&'r [u8], VerifyError> {
        match self.value(index)? {
            ValueRef::Blob(bytes) => Ok(bytes),
            _ => Err(self.wrong_type(index)),
        }
    }

    fn integer(&self, index: usize) -> Result<i64, VerifyError> {
        match self.value(index)? {
            ValueRef::Integer(value) => Ok(value),
            _ => Err(self.wrong_type(index)),
        }
    }

    fn text(&self, index: usize) -> Result<&'r str, VerifyError> {
        self.optional_text(index)?.ok_or_else(|| self.wrong_type(index))
    }

    fn optional_text(&self, index: usize) -> Result<Option<&'r str>, VerifyError> {
        match self.value(index)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| self.wrong_type(index)),
            _ => Err(self.wrong_type(index)),
        }
    }
}

fn other_logs(connection: &Connection, log: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT DISTINCT quote(log) FROM audit_record WHERE log IS NOT ?1")?;
    statement.query_map([log], |row| row.get(0))?.take(OTHER_LOGS_MAX).collect()
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        broken(error).into()
    }
}

fn broken(error: rusqlite::Error) -> Fault {
    Fault::new(Code::STORE_UNAVAILABLE, "the audit log could not be read from the database").detail(error)
}

/// Writes the records from `from` up to the newest checkpoint at or below `until` (the newest of all without it) as one
/// segment, and returns their range. A segment ends at a checkpoint, because only a signed root proves it.
pub fn export(
    connection: &Connection,
    key: &VerifierKey,
    from: u64,
    until: Option<u64>,
    out: &mut impl Write,
) -> Result<Range<u64>> {
    let log = checkpoint::log_of(key.name()).unwrap_or_default();
    let first_kept = kept::first_kept(connection, log)?;
    if from < first_kept {
        return Err(pruned(from, first_kept));
    }
    let keys = kept::keys(connection, log, key)?;
    let until = until.and_then(|until| i64::try_from(until).ok()).unwrap_or(i64::MAX);
    let end: Option<i64> = connection
        .query_row("SELECT max(size) FROM audit_checkpoint WHERE log = ?1 AND size <= ?2", (log, until), |row| {
            row.get(0)
        })
        .map_err(broken)?;
    let end = end.and_then(|end| u64::try_from(end).ok()).filter(|end| *end > from).ok_or_else(|| {
        Fault::new(Code::AUDIT_QUERY_INVALID, format!("no checkpoint of log '{log}' lies after record {from}"))
            .hint("a segment ends at a checkpoint; export fewer records or wait for the next one")
    })?;
    let (first, last) = (as_i64(from)?, as_i64(end)?);

    let frontier = frontier_before(connection, log, first)?;
    let sql = "SELECT seq, body, leaf_hash FROM audit_record WHERE log = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq";
    let mut records = connection.prepare(sql).map_err(broken)?;
    let records = records
        .query_and_then((log, first, last), |row| -> Result<_, VerifyError> {
            Ok(segment::SegmentRecord { seq: read_count(row, 0)?, body: row.get(1)?, leaf: row.get(2)? })
        })
        .map_err(broken)?
        .map(|record| record.map_err(Fault::from));
    let sql = "SELECT note FROM audit_checkpoint WHERE log = ?1 AND size >= ?2 AND size <= ?3 ORDER BY size";
    let mut notes = connection.prepare(sql).map_err(broken)?;
    // A checkpoint of size `from` vouches for the frontier that the segment starts from.
    let notes = notes.query_map((log, first, last), |row| row.get(0)).map_err(broken)?;
    let notes = notes.map(|note| note.map_err(broken));
    segment::export(out, &keys, &frontier, records, notes)?;
    Ok(from..end)
}

/// The frontier before record `first`: that of the beginning of its day, and the stored leaf hashes after it.
fn frontier_before(connection: &Connection, log: &str, first: i64) -> Result<Frontier> {
    let mut frontier = kept::frontier_near(connection, log, first)?;
    let sql = "SELECT leaf_hash FROM audit_record WHERE log = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq";
    let mut statement = connection.prepare(sql).map_err(broken)?;
    let near = as_i64(frontier.size())?;
    let leaves = statement.query_map((log, near, first), |row| row.get::<_, Hash>(0)).map_err(broken)?;
    for leaf in leaves {
        frontier.append(leaf.map_err(broken)?);
    }
    if as_i64(frontier.size())? != first {
        return Err(Fault::new(Code::AUDIT_TAMPERED, format!("records before {first} are missing")));
    }
    Ok(frontier)
}

fn as_i64(count: u64) -> Result<i64> {
    i64::try_from(count).or_fault(Code::AUDIT_QUERY_INVALID, "a sequence is out of range")
}
