//! The embedded database: how a file is opened, and what its errors mean to a caller.

mod copy;

use std::{path::Path, time::Duration};

use agentos_types::{Code, Fault, Result};
pub(crate) use copy::{bytes, copy};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

/// Prepared statements kept by each connection; above the number of distinct statements of the product.
const STATEMENTS_CACHED: usize = 256;

pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(fault)?;
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

/// The caller can do three things about a database error: repair the disk, restore, or report a defect.
pub(crate) fn fault(source: rusqlite::Error) -> Fault {
    let code = source.sqlite_error_code();
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Fault::new(Code::STORE_CORRUPT, "the database file is damaged").detail(source)
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory,
        ) => Fault::new(Code::STORE_UNAVAILABLE, "the database cannot be used at the moment")
            .detail(source)
            .retry_after(Duration::from_secs(5)),
        _ => Fault::internal(source),
    }
}
