//! Migrations: numbered pairs of texts, applied in order, each in one transaction, remembered with the hash of its text.

use agentos_types::{Code, Fault, Result, Timestamp, hex};
use sha2::{Digest, Sha256};

use crate::{Arg, Conn};

#[derive(Debug)]
pub struct Migration {
    pub number: i64,
    pub name: &'static str,
    /// For both dialects.
    pub up: &'static str,
    /// What only SQLite can say.
    pub up_sqlite: &'static str,
    pub down: &'static str,
}

pub const MIGRATIONS: &[Migration] = &[Migration {
    number: 1,
    name: "first_light",
    up: include_str!("../migrations/0001_first_light.up.sql"),
    up_sqlite: include_str!("../migrations/0001_first_light.sqlite.up.sql"),
    down: include_str!("../migrations/0001_first_light.down.sql"),
}];

/// Applies what is missing. Runs inside the caller's transaction. Returns the schema's number.
pub(crate) fn up(conn: &Conn<'_>, now: Timestamp) -> Result<i64> {
    conn.execute_script(
        "CREATE TABLE IF NOT EXISTS schema_migration
           (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
    )?;
    let applied = applied(conn)?;
    refuse_newer(&applied)?;
    for migration in MIGRATIONS {
        match applied.iter().find(|(number, _)| *number == migration.number) {
            Some((_, hash)) if *hash == hash_of(migration) => {}
            Some(_) => {
                return Err(Fault::new(
                    Code::MIGRATION_CHANGED,
                    format!("migration {} was applied with another text", migration.number),
                ));
            }
            None => apply(conn, migration, now)?,
        }
    }
    Ok(MIGRATIONS.last().map_or(0, |migration| migration.number))
}

/// Reverts every migration above `target`, newest first. Inside the caller's transaction.
pub(crate) fn down(conn: &Conn<'_>, target: i64) -> Result<()> {
    let applied = applied(conn)?;
    refuse_newer(&applied)?;
    for migration in MIGRATIONS.iter().rev().filter(|migration| migration.number > target) {
        if applied.iter().any(|(number, _)| *number == migration.number) {
            conn.execute_script(migration.down)?;
            conn.execute("DELETE FROM schema_migration WHERE number = $1", &[migration.number.into()])?;
        }
    }
    Ok(())
}

fn apply(conn: &Conn<'_>, migration: &Migration, now: Timestamp) -> Result<()> {
    conn.execute_script(migration.up)?;
    conn.execute_script(migration.up_sqlite)?;
    conn.execute(
        "INSERT INTO schema_migration (number, name, sha256, applied_at) VALUES ($1, $2, $3, $4)",
        &[migration.number.into(), migration.name.into(), Arg::Text(&hash_of(migration)), now.into()],
    )?;
    Ok(())
}

fn applied(conn: &Conn<'_>) -> Result<Vec<(i64, String)>> {
    conn.query("SELECT number, sha256 FROM schema_migration ORDER BY number", &[], |row| {
        Ok((row.integer(0)?, row.text(1)?))
    })
}

fn refuse_newer(applied: &[(i64, String)]) -> Result<()> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    match applied.iter().map(|(number, _)| *number).max() {
        Some(newest) if newest > known => Err(Fault::new(
            Code::SCHEMA_NEWER,
            format!("the database has schema {newest}, this program knows up to {known}"),
        )),
        _ => Ok(()),
    }
}

fn hash_of(migration: &Migration) -> String {
    let mut hasher = Sha256::new();
    hasher.update(migration.up);
    hasher.update(migration.up_sqlite);
    hex::encode(&hasher.finalize())
}
