//! Migrations that a later release may bring: what a program of today must bear, and what it must refuse.

use agentos_store::{MIGRATIONS, Migration};

/// Number of the step that takes something away.
pub(crate) const CONTRACTED: i64 = 9_002;
/// The step before it, which expands as every step should.
pub(crate) const EXPANDED: i64 = 9_001;

const EXPAND: Migration = Migration {
    number: EXPANDED,
    name: "expand",
    up: "CREATE TABLE later (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
         ALTER TABLE task ADD COLUMN later_note TEXT;
         ALTER TABLE task ADD COLUMN later_count INTEGER NOT NULL DEFAULT 7;
         ALTER TABLE installation ADD COLUMN later_kind TEXT NOT NULL DEFAULT 'plain';
         CREATE INDEX task_by_later ON task (later_count, id);
         INSERT INTO later (name, value) SELECT name, 'x' FROM installation WHERE false;",
    up_sqlite: "CREATE TRIGGER later_sqlite AFTER INSERT ON later BEGIN SELECT 1; END;",
    up_postgres: "CREATE FUNCTION later_postgres() RETURNS integer LANGUAGE sql AS 'SELECT 1';",
    down: "DROP INDEX task_by_later;
           ALTER TABLE installation DROP COLUMN later_kind;
           ALTER TABLE task DROP COLUMN later_count;
           ALTER TABLE task DROP COLUMN later_note;
           DROP TABLE later;",
    down_sqlite: "",
    down_postgres: "DROP FUNCTION later_postgres();",
    runs_from: 1,
    loses: "what was noted",
};

/// Nobody who knows less than the step before may run on it.
const CONTRACT: Migration = Migration {
    number: CONTRACTED,
    name: "contract",
    up: "ALTER TABLE task DROP COLUMN later_note;",
    up_sqlite: "",
    up_postgres: "",
    down: "DROP INDEX task_by_later;
           ALTER TABLE task DROP COLUMN later_count;
           ALTER TABLE task ADD COLUMN later_note TEXT;
           ALTER TABLE task ADD COLUMN later_count INTEGER NOT NULL DEFAULT 7;
           CREATE INDEX task_by_later ON task (later_count, id);",
    down_sqlite: "",
    down_postgres: "",
    runs_from: EXPANDED,
    loses: "the notes, for good",
};

/// A step that does not get to its end.
const BROKEN: Migration = Migration {
    number: 9_003,
    name: "broken",
    up: "CREATE TABLE half (name TEXT PRIMARY KEY) STRICT; INSERT INTO nowhere (name) VALUES ('x');",
    up_sqlite: "",
    up_postgres: "",
    down: "",
    down_sqlite: "",
    down_postgres: "",
    runs_from: 1,
    loses: "",
};

/// What the next release knows.
pub(crate) fn next_release() -> &'static [Migration] {
    with(&[EXPAND])
}

/// What the one after it knows.
pub(crate) fn release_after_next() -> &'static [Migration] {
    with(&[EXPAND, CONTRACT])
}

pub(crate) fn broken_release() -> &'static [Migration] {
    with(&[EXPAND, BROKEN])
}

fn with(more: &[Migration]) -> &'static [Migration] {
    Box::leak(MIGRATIONS.iter().chain(more).copied().collect::<Vec<_>>().into_boxed_slice())
}
