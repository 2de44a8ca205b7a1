//! The journal on a real database in a temporary directory, with a clock and randomness that the tests own.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken expectation is how a test fails")]

mod bench;
mod claiming;
mod intake;
mod operations;
mod outcomes;
mod reading;
mod recovery;
mod scheduling;
mod steps;
mod timing;
