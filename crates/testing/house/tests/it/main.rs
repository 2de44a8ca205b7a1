//! The rules of the house, checked over `cargo metadata` and the source tree.
//!
//! Each test names every place that breaks its rule, and says what to do. An exception is written in the test, with its
//! reason, and a stale exception fails too: the lists can only describe what is there.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod coverage;
mod dependencies;
mod documents;
mod edges;
mod failpoints;
mod licence;
mod migrations;
mod scripts;
mod sources;
mod tree;
