//! Migrations: numbered pairs of texts, applied in order, each in one transaction, remembered with the hash of its text.

use std::borrow::Cow;

use agentos_types::{Code, Fault, Result, Timestamp, hex};
use sha2::{Digest, Sha256};

use crate::{Arg, Conn, Dialect};

#[derive(Debug)]
pub struct Migration {
    pub number: i64,
    pub name: &'static str,
    /// For both dialects.
    pub up: &'static str,
    /// What only SQLite can say.
    pub up_sqlite: &'static str,
    /// What only Postgres can say.
    pub up_postgres: &'static str,
    pub down: &'static str,
    /// Reverts what is left of `up_postgres` after `down`.
    pub down_postgres: &'static str,
}

/// In the order in which they are applied; numbers grow, and may leave gaps.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "first_light",
        up: include_str!("../migrations/0001_first_light.up.sql"),
        up_sqlite: include_str!("../migrations/0001_first_light.sqlite.up.sql"),
        up_postgres: include_str!("../migrations/0001_first_light.postgres.up.sql"),
        down: include_str!("../migrations/0001_first_light.down.sql"),
        down_postgres: include_str!("../migrations/0001_first_light.postgres.down.sql"),
    },
    Migration {
        number: 3,
        name: "witnesses",
        up: include_str!("../migrations/0003_witnesses.up.sql"),
        up_sqlite: "",
        up_postgres: "",
        down: include_str!("../migrations/0003_witnesses.down.sql"),
        down_postgres: "",
    },
];

/// Applies what is missing. Runs inside the caller's transaction. Returns the schema's number.
pub(crate) fn up(conn: &Conn<'_>, now: Timestamp) -> Result<i64> {
    conn.execute_script(&common(
        conn,
        "CREATE TABLE IF NOT EXISTS schema_migration
           (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
    ))?;
    let applied = applied(conn)?;
    refuse_newer(&applied)?;
    for migration in MIGRATIONS {
        match applied.iter().find(|(number, _)| *number == migration.number) {
            Some((_, hash)) if *hash == hash_of(conn, migration) => {}
            Some(_) => return Err(altered(migration)),
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
            if conn.dialect() == Dialect::Postgres {
                conn.execute_script(migration.down_postgres)?;
            }
            conn.execute("DELETE FROM schema_migration WHERE number = $1", &[migration.number.into()])?;
        }
    }
    Ok(())
}

fn apply(conn: &Conn<'_>, migration: &Migration, now: Timestamp) -> Result<()> {
    conn.execute_script(&common(conn, migration.up))?;
    conn.execute_script(addendum(conn, migration))?;
    conn.execute(
        "INSERT INTO schema_migration (number, name, sha256, applied_at) VALUES ($1, $2, $3, $4)",
        &[migration.number.into(), migration.name.into(), Arg::Text(&hash_of(conn, migration)), now.into()],
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

fn addendum(conn: &Conn<'_>, migration: &Migration) -> &'static str {
    match conn.dialect() {
        Dialect::Sqlite => migration.up_sqlite,
        Dialect::Postgres => migration.up_postgres,
    }
}

/// The common text as the database reads it. Types are named as SQLite's strict tables name them; Postgres has other
/// words for them, and compares text byte by byte only where it is told to.
fn common<'t>(conn: &Conn<'_>, text: &'t str) -> Cow<'t, str> {
    match conn.dialect() {
        Dialect::Sqlite => Cow::Borrowed(text),
        Dialect::Postgres => Cow::Owned(text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(word).collect()),
    }
}

/// One word with the character that ends it.
fn word(text: &str) -> Cow<'_, str> {
    let bare = text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let end = text.get(bare.len()..).unwrap_or_default();
    match bare {
        "INTEGER" => format!("BIGINT{end}").into(),
        "BLOB" => format!("BYTEA{end}").into(),
        "TEXT" => format!("TEXT COLLATE \"C\"{end}").into(),
        "STRICT" => end.into(),
        _ => text.into(),
    }
}

fn hash_of(conn: &Conn<'_>, migration: &Migration) -> String {
    let mut hasher = Sha256::new();
    hasher.update(migration.up);
    hasher.update(addendum(conn, migration));
    hex::encode(&hasher.finalize())
}

/// Refuses a schema that misses a migration. For a role that may not migrate.
pub(crate) fn require_current(conn: &Conn<'_>) -> Result<i64> {
    let applied = applied(conn)?;
    refuse_newer(&applied)?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    match applied.last() {
        Some((newest, _)) if *newest == known => {}
        newest => return Err(older(newest.map_or(0, |(newest, _)| *newest))),
    }
    let changed =
        MIGRATIONS.iter().find(|m| !applied.iter().any(|(n, hash)| *n == m.number && *hash == hash_of(conn, m)));
    changed.map_or(Ok(known), |migration| Err(altered(migration)))
}

/// The schema is behind this program, and this role may not change that.
pub(crate) fn older(newest: i64) -> Fault {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    Fault::new(
        Code::SCHEMA_OLDER,
        format!("the database has schema {newest}, this program needs {known}, and the server's role may not migrate"),
    )
    .hint("set DATABASE_ADMIN_URL to the role that owns the tables, for this start or for agent-os init")
}

fn altered(migration: &Migration) -> Fault {
    Fault::new(Code::MIGRATION_CHANGED, format!("migration {} was applied with another text", migration.number))
}
