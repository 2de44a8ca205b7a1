//! Tokens on both databases.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    mod house;
    mod remembered;
    mod suite;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    /// The embedded database has one node.
    mod hints;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod house;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod remembered;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod suite;
}
