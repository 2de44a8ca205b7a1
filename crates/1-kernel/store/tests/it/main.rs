//! The store on real databases: what it promises on both, and what only Postgres can break.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod future;
mod hints;
mod postgres;
mod sqlite;

use std::path::Path;

use agentos_scratch::{Backend, Scratch};
use agentos_store::Store;
use tempfile::TempDir;

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    pub(super) const NEXT_SCHEMA: bool = false;
    mod migrations;
    mod suite;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    pub(super) const NEXT_SCHEMA: bool = false;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod migrations;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod suite;
}

/// This program on the schema of the next release.
#[path = "."]
mod on_next_schema_of_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    pub(super) const NEXT_SCHEMA: bool = true;
    #[expect(clippy::duplicate_mod, reason = "the same promises on a schema that is ahead")]
    mod suite;
}

#[path = "."]
mod on_next_schema_of_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    pub(super) const NEXT_SCHEMA: bool = true;
    #[expect(clippy::duplicate_mod, reason = "the same promises on a schema that is ahead")]
    mod suite;
}

/// A place of its own in which nothing is but the backup, restored as the documentation says.
fn restored(of: &Scratch, backup: &Path) -> (TempDir, Scratch) {
    let directory = tempfile::tempdir().unwrap();
    if of.urls().is_none() {
        std::fs::copy(backup, directory.path().join(Store::FILE_NAME)).unwrap();
        return (directory, Backend::Sqlite.blank());
    }
    let scratch = Backend::Postgres.blank();
    scratch.postgres().restore(backup);
    (directory, scratch)
}
