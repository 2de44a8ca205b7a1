//! The audit log on both databases.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod damage;
mod spool;

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    mod attacks;
    mod life;
    mod suite;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod attacks;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod life;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod suite;
}
