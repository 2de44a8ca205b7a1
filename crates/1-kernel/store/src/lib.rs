//! Durable state behind one writer. Kernel crates write plain functions over [`Tx`] and [`Conn`]; which database runs them
//! is decided here and nowhere else.
//!
//! All writes of a node pass one writer thread, which takes whatever waits, runs each operation in its own savepoint and
//! commits them together: one fsync serves many. Reads use a pool. Operations are synchronous closures, because a
//! transaction that awaits something else holds the writer for everybody.

mod backup;
mod bell;
mod conn;
mod link;
mod lock;
mod migrate;
mod migrator;
mod noted;
mod postgres;
mod sequencer;
mod spool;
mod sqlite;
mod store;
mod writer;

pub use backup::DIRECTORY as BACKUPS_DIRECTORY;
pub use conn::{Arg, Conn, Dialect, Row};
pub use migrate::{Applied, MIGRATIONS, Migration};
pub use migrator::{Backup, Migrated, Migrator, Schema, Way};
pub use noted::Noted;
pub use postgres::Database;
pub use sequencer::Sequencer;
pub use store::{Store, StoreOptions};
pub use writer::Tx;
