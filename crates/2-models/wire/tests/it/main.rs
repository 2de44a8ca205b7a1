//! The corpus: bodies and streams of each protocol, through this crate and out again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod chat;
mod corpus;
mod damaged;
mod gemini;
mod hostile;
mod messages;
mod responses;
