//! One open connection of either database, and the life of a transaction on it. Everything above asks only this.

use std::path::Path;

use agentos_types::{Result, notify::Notice};

use crate::{
    Conn, postgres,
    sqlite::{self, Checkpointer},
};

#[derive(Debug)]
pub(crate) enum Link {
    Sqlite(rusqlite::Connection),
    Postgres(Box<postgres::Link>),
}

impl Link {
    pub(crate) fn sqlite_writer(path: &Path) -> Result<Self> {
        sqlite::open_writer(path).map(Self::Sqlite)
    }

    /// What is committed here reaches the database file by a thread of its own.
    pub(crate) fn checkpointer(&mut self, path: &Path) -> Result<Option<Checkpointer>> {
        match self {
            Self::Sqlite(connection) => Checkpointer::start(connection, path).map(Some),
            Self::Postgres(_) => Ok(None),
        }
    }

    pub(crate) fn sqlite_reader(path: &Path) -> Result<Self> {
        sqlite::open_reader(path).map(Self::Sqlite)
    }

    pub(crate) fn conn(&self) -> Conn<'_> {
        match self {
            Self::Sqlite(connection) => Conn::sqlite(connection),
            Self::Postgres(link) => Conn::postgres(link),
        }
    }

    /// Begins a write transaction. Nothing has happened yet when this fails: the caller may refuse all of its work.
    /// True when the connection is another one than at the last call, so that what was read before may be out of date.
    pub(crate) fn begin_write(&mut self) -> Result<bool> {
        match self {
            Self::Sqlite(connection) => cached(connection, "BEGIN IMMEDIATE").map(|()| false),
            Self::Postgres(link) => link.begin_write(),
        }
    }

    pub(crate) fn begin_read(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => cached(connection, "BEGIN"),
            Self::Postgres(link) => link.begin_read(),
        }
    }

    /// Durable when this returns `Ok`. Other nodes hear the notices with it; on SQLite there are none.
    pub(crate) fn commit(&mut self, notices: &[Notice]) -> Result<()> {
        match self {
            Self::Sqlite(connection) => cached(connection, "COMMIT"),
            Self::Postgres(link) => link.commit(notices),
        }
    }

    /// Ends a transaction that may or may not be open. A connection that cannot even do this is given up.
    pub(crate) fn roll_back(&mut self) {
        match self {
            Self::Sqlite(connection) if connection.is_autocommit() => {}
            Self::Sqlite(connection) => drop(batch(connection, "ROLLBACK")),
            Self::Postgres(link) => link.roll_back(),
        }
    }

    /// Marks the point to which [`Link::undo_operation`] returns.
    pub(crate) fn begin_operation(&self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => cached(connection, "SAVEPOINT operation"),
            Self::Postgres(link) => {
                link.begin_operation();
                Ok(())
            }
        }
    }

    pub(crate) fn undo_operation(&self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => cached(connection, "ROLLBACK TO operation"),
            Self::Postgres(link) => link.undo_operation(),
        }
    }

    pub(crate) fn end_operation(&self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => cached(connection, "RELEASE operation"),
            // Sent together with whatever comes next.
            Self::Postgres(_) => Ok(()),
        }
    }

    /// A statement of this operation failed on a database that can do nothing more in it, whatever the operation says.
    pub(crate) fn is_spoilt(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(link) => link.is_spoilt(),
        }
    }

    /// The orderly end of the writer.
    pub(crate) fn close(self) {
        match self {
            // Leaves a small file behind for backups and the next start; failing only costs them time.
            Self::Sqlite(connection) => drop(batch(&connection, "PRAGMA wal_checkpoint(TRUNCATE)")),
            Self::Postgres(link) => link.close(),
        }
    }
}

fn batch(connection: &rusqlite::Connection, sql: &str) -> Result<()> {
    connection.execute_batch(sql).map_err(sqlite::fault)
}

fn cached(connection: &rusqlite::Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map(drop).map_err(sqlite::fault)
}
