//! Budgets on both databases.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    mod budgets;
    mod crash;
    mod hostile;
    mod house;
    mod interleaving;
    mod nodes;
    mod periods;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod budgets;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod crash;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod hostile;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod house;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod interleaving;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod nodes;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod periods;
}
