//! Witnesses on both databases: what is held against a log, and what the log's own side makes of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    mod house;
    mod publishing;
    mod rotating;
    mod witnessing;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod house;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod publishing;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod rotating;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod witnessing;
}

mod receiver;
