//! What the database remembers of its migrations: one row each, kept by the migrator itself and not by a migration,
//! because it is read before anything is known about the schema.

use agentos_types::{Result, Timestamp};

use super::{Migration, text};
use crate::{Arg, Conn, Dialect};

/// A migration that was applied, by this program or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub number: i64,
    pub name: String,
    pub sha256: String,
    pub applied_at: Timestamp,
    /// None where the program that applied it did not say: then only programs that know it may run.
    pub runs_from: Option<i64>,
    /// Release of the program that applied it.
    pub applied_by: Option<String>,
}

impl Applied {
    /// The newest migration that a program must know to run after this one.
    pub fn runs_from(&self) -> i64 {
        self.runs_from.unwrap_or(self.number)
    }
}

/// Makes the table, and its later columns where an early program has made it. In two steps always, so that every database
/// has it in the same form.
pub(super) fn prepare(conn: &Conn<'_>) -> Result<()> {
    conn.execute_script(&text::common(
        conn.dialect(),
        "CREATE TABLE IF NOT EXISTS schema_migration
           (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
    ))?;
    if !declares(conn)? {
        conn.execute_script(&text::common(
            conn.dialect(),
            "ALTER TABLE schema_migration ADD COLUMN runs_from INTEGER;
             ALTER TABLE schema_migration ADD COLUMN applied_by TEXT",
        ))?;
    }
    Ok(())
}

/// All that was applied, in order of number. Empty where there is no schema yet, or none that this role may see.
pub(super) fn read(conn: &Conn<'_>) -> Result<Vec<Applied>> {
    let there = match conn.dialect() {
        Dialect::Sqlite => "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_migration'",
        Dialect::Postgres => "SELECT count(*) FROM pg_class WHERE oid = to_regclass('schema_migration')",
    };
    if conn.query_one(there, &[], |row| row.integer(0))? == Some(0) {
        return Ok(Vec::new());
    }
    let rows = if declares(conn)? {
        "SELECT number, name, sha256, applied_at, runs_from, applied_by FROM schema_migration ORDER BY number"
    } else {
        "SELECT number, name, sha256, applied_at, NULL, NULL FROM schema_migration ORDER BY number"
    };
    let declared = rows.contains("runs_from");
    conn.query(rows, &[], |row| {
        Ok(Applied {
            number: row.integer(0)?,
            name: row.text(1)?,
            sha256: row.text(2)?,
            applied_at: row.time(3)?,
            runs_from: if declared { row.integer_or_null(4)? } else { None },
            applied_by: if declared { row.text_or_null(5)? } else { None },
        })
    })
}

/// The rows say which programs may run.
fn declares(conn: &Conn<'_>) -> Result<bool> {
    let columns = match conn.dialect() {
        Dialect::Sqlite => "SELECT count(*) FROM pragma_table_info('schema_migration') WHERE name = 'runs_from'",
        Dialect::Postgres => {
            "SELECT count(*) FROM pg_attribute
             WHERE attrelid = to_regclass('schema_migration') AND attname = 'runs_from' AND NOT attisdropped"
        }
    };
    Ok(conn.query_one(columns, &[], |row| row.integer(0))? == Some(1))
}

pub(super) fn remember(conn: &Conn<'_>, migration: &Migration, now: Timestamp) -> Result<()> {
    conn.execute(
        "INSERT INTO schema_migration (number, name, sha256, applied_at, runs_from, applied_by)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            migration.number.into(),
            migration.name.into(),
            Arg::Text(&text::hash_of(conn.dialect(), migration)),
            now.into(),
            migration.runs_from.into(),
            env!("CARGO_PKG_VERSION").into(),
        ],
    )?;
    Ok(())
}

pub(super) fn forget(conn: &Conn<'_>, number: i64) -> Result<()> {
    conn.execute("DELETE FROM schema_migration WHERE number = $1", &[number.into()]).map(drop)
}
