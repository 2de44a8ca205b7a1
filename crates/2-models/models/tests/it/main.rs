//! The engine behind the real monitor, journal and ledger, in front of providers that do what they are told.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod attempts;
mod budgets;
mod continuing;
mod failover;
mod hard;
mod hedges;
mod house;
mod plain;
mod probes;
mod provider;
mod streams;
mod tasks;
mod tls;
