//! The engine behind the real monitor, journal and ledger, in front of providers that do what they are told.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;
    mod cache;
    mod decisions;
    mod idempotency;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod cache;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod decisions;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod idempotency;
}

mod attempts;
mod azure;
mod bedrock;
mod budgets;
mod continuing;
mod endings;
mod failover;
mod hard;
mod hedges;
mod house;
mod keys;
mod plain;
mod probes;
mod provider;
mod streams;
mod tasks;
mod tls;
