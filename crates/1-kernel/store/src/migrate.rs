//! Migrations: numbered pairs of texts, applied in order, all that are missing in one transaction.
//!
//! Each says which programs may still run on the schema after it, and the database remembers it. So a program can judge a
//! schema that was made by a later one, whose texts it does not have (`judge.rs`).

mod history;
mod judge;
mod run;
mod text;

pub use history::Applied;
pub(crate) use judge::{State, require_current, state};
pub(crate) use run::{down, to_revert, up};

/// One step of the schema. Released steps are never edited.
#[derive(Clone, Copy, Debug)]
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
    /// Reverts what is left of `up_sqlite` after `down`.
    pub down_sqlite: &'static str,
    /// Reverts what is left of `up_postgres` after `down`.
    pub down_postgres: &'static str,
    /// The oldest program that may run on the schema after this step, by the newest migration that it knows. A step that
    /// only expands (tables, indexes, columns with a default) names the one that its predecessor names; a step that takes
    /// something away names the first program that no longer used it.
    pub runs_from: i64,
    /// What is lost when it is reverted, for the person who decides.
    pub loses: &'static str,
}

/// In the order of their numbers, which may have gaps.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "first_light",
        up: include_str!("../migrations/0001_first_light.up.sql"),
        up_sqlite: include_str!("../migrations/0001_first_light.sqlite.up.sql"),
        up_postgres: include_str!("../migrations/0001_first_light.postgres.up.sql"),
        down: include_str!("../migrations/0001_first_light.down.sql"),
        down_sqlite: "",
        down_postgres: include_str!("../migrations/0001_first_light.postgres.down.sql"),
        runs_from: 1,
        loses: "everything: tasks, audit log, tokens, secrets",
    },
    Migration {
        number: 2,
        name: "log_life",
        up: include_str!("../migrations/0002_log_life.up.sql"),
        up_sqlite: include_str!("../migrations/0002_log_life.sqlite.up.sql"),
        up_postgres: include_str!("../migrations/0002_log_life.postgres.up.sql"),
        down: include_str!("../migrations/0002_log_life.down.sql"),
        down_sqlite: include_str!("../migrations/0002_log_life.sqlite.down.sql"),
        down_postgres: include_str!("../migrations/0002_log_life.postgres.down.sql"),
        runs_from: 1,
        loses: "legal holds; and the proof of an audit log that was pruned or whose key was changed",
    },
    Migration {
        number: 3,
        name: "witnesses",
        up: include_str!("../migrations/0003_witnesses.up.sql"),
        up_sqlite: "",
        up_postgres: "",
        down: include_str!("../migrations/0003_witnesses.down.sql"),
        down_sqlite: "",
        down_postgres: "",
        runs_from: 1,
        loses: "what this node holds of other nodes' logs, and how far witnesses have come with its own",
    },
    Migration {
        number: 4,
        name: "retention",
        up: include_str!("../migrations/0004_retention.up.sql"),
        up_sqlite: include_str!("../migrations/0004_retention.sqlite.up.sql"),
        up_postgres: include_str!("../migrations/0004_retention.postgres.up.sql"),
        down: include_str!("../migrations/0004_retention.down.sql"),
        down_sqlite: "",
        down_postgres: include_str!("../migrations/0004_retention.postgres.down.sql"),
        runs_from: 1,
        loses: "when retention ran last and what it took; steps and events of pruned tasks that were still to go stay for ever",
    },
    Migration {
        number: 5,
        name: "sandboxes",
        up: include_str!("../migrations/0005_sandboxes.up.sql"),
        up_sqlite: "",
        up_postgres: "",
        down: include_str!("../migrations/0005_sandboxes.down.sql"),
        down_sqlite: "",
        down_postgres: "",
        runs_from: 1,
        loses: "which user of the host each agent has, so that a later way up may give others; what was counted of processes, \
                memory kills, throttling, workspaces and egress",
    },
    Migration {
        number: 6,
        name: "models",
        up: include_str!("../migrations/0006_models.up.sql"),
        up_sqlite: "",
        up_postgres: "",
        down: include_str!("../migrations/0006_models.down.sql"),
        down_sqlite: "",
        down_postgres: "",
        runs_from: 1,
        loses: "budgets and what was used of them, the configuration of models, what they cost, and which of them a token may call",
    },
    Migration {
        number: 7,
        name: "model_answers",
        up: include_str!("../migrations/0007_model_answers.up.sql"),
        up_sqlite: "",
        up_postgres: "",
        down: include_str!("../migrations/0007_model_answers.down.sql"),
        down_sqlite: "",
        down_postgres: "",
        runs_from: 1,
        loses: "answers of models under idempotency keys and in caches, how targets were chosen, and how often a cache answered",
    },
];

/// Number of the newest of these migrations.
pub(crate) fn newest(known: &[Migration]) -> i64 {
    known.last().map_or(0, |migration| migration.number)
}
