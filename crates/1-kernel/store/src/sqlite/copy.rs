//! A whole copy of the embedded database, made by the database itself.

use std::path::Path;

use agentos_types::{Code, Fault, Result};
use rusqlite::{Connection, OpenFlags};

use super::fault;

/// Bytes that a copy needs at most: what the file has now, the log beside it included.
pub(crate) fn bytes(database: &Path) -> u64 {
    let log = database.with_extension("db-wal");
    [database, &log].iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

/// Fills an empty file with a snapshot of the database, and reads it back whole.
pub(crate) fn copy(connection: &Connection, to: &Path) -> Result<()> {
    let failed = |detail: String| {
        Fault::new(Code::BACKUP_FAILED, format!("the backup before the migration failed: {}", to.display()))
            .detail(detail)
    };
    let target = to.to_str().ok_or_else(|| failed("the path is not text".into()))?;
    // It takes a file that is there only if it is empty: made before, so that nobody else can ever read it.
    connection.execute("VACUUM INTO ?1", [target]).map_err(|source| match fault(source) {
        corrupt if corrupt.code == Code::STORE_CORRUPT => corrupt,
        other => failed(other.detail.unwrap_or(other.message)),
    })?;
    let check = || {
        let copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
    };
    match check() {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(failed(verdict)),
        Err(source) => Err(failed(source.to_string())),
    }
}
