//! The embedded database: how a file is opened, and what its errors mean to a caller.

mod checkpoint;
mod copy;

use std::{path::Path, time::Duration};

use agentos_types::{Code, Fault, Result};
pub(crate) use checkpoint::Checkpointer;
pub(crate) use copy::{bytes, copy};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

/// Prepared statements kept by each connection; above the number of distinct statements of the product.
const STATEMENTS_CACHED: usize = 256;

pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(fault)?;
    refuse_foreign(&connection)?;
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(fault)?;
    if pages == 0 {
        // Pages that pruning frees can be given back. Takes effect in a new file only, and writes to any other.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(fault)?;
    }
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(fault)?;
    prepare(connection)
}

pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepare(Connection::open_with_flags(path, flags).map_err(fault)?)
}

fn prepare(connection: Connection) -> Result<Connection> {
    // Only a backup or a foreign reader can hold the file for a moment; our own writers never compete.
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // A plan holds for all arguments. Else every statement with a range is planned anew at each call.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fault)?;
    Ok(connection)
}

/// Refuses a database of another program before anything is written to it: a path that leads elsewhere must not turn that
/// into an installation.
fn refuse_foreign(connection: &Connection) -> Result<()> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(fault);
    let tables = count("SELECT count(*) FROM sqlite_schema WHERE type = 'table'")?;
    let ours = count("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration'")?;
    if tables > 0 && ours == 0 {
        return Err(Fault::new(Code::STORE_CORRUPT, "the database file belongs to another program").hint(RESTORE));
    }
    Ok(())
}

/// The caller can do three things about a database error: repair the disk, restore, or report a defect.
pub(crate) fn fault(source: rusqlite::Error) -> Fault {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Fault::new(Code::STORE_CORRUPT, "the database file is damaged, or is no database at all")
                .hint(RESTORE)
                .detail(source)
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            Fault::new(Code::STORE_CORRUPT, "the database file is damaged").hint(RESTORE).detail(source)
        }
        Some(code) if unavailable_because(code).is_some() => {
            let (message, hint) = unavailable_because(code).unwrap_or_default();
            let fault = Fault::new(Code::STORE_UNAVAILABLE, message).detail(source);
            let fault = fault.retry_after(Duration::from_secs(5));
            if hint.is_empty() { fault } else { fault.hint(hint) }
        }
        _ if is_damaged_schema(&source) => {
            Fault::new(Code::STORE_CORRUPT, "the database file is damaged: its schema cannot be read")
                .hint(RESTORE)
                .detail(source)
        }
        // Strict tables hold what their columns say; text that is none was changed on the disk.
        _ if matches!(source, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::Utf8Error(..)) => {
            Fault::new(Code::STORE_CORRUPT, "a stored value cannot be read").hint(RESTORE).detail(source)
        }
        _ => Fault::internal(source),
    }
}

const RESTORE: &str = "stop the server, keep the file and what lies beside it, and restore the newest verified backup";

/// What the machine cannot do at the moment, and what helps.
fn unavailable_because(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    Some(match code {
        ErrorCode::DiskFull => ("the disk of the database is full", "free space; no restart is needed"),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => (
            "the database file cannot be written",
            "is the file system mounted read-only, and may the server's user write the file and its directory?",
        ),
        ErrorCode::CannotOpen => (
            "the database file cannot be opened",
            "is it a file, and may the server's user read and write it and its directory?",
        ),
        ErrorCode::SystemIoFailure => ("the disk of the database fails", "look at the kernel's log; repair the disk"),
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OutOfMemory => ("the database cannot be used at the moment", ""),
        _ => return None,
    })
}

/// Our statements name tables that every migrated database has: one that misses them, or types their values otherwise,
/// has lost its schema.
fn is_damaged_schema(source: &rusqlite::Error) -> bool {
    let text = source.to_string();
    ["no such table", "no such column", "malformed database schema", "has no column named"]
        .iter()
        .any(|sign| text.contains(sign))
}
