//! The corpus: bodies and streams of each protocol, through this crate and out again.

mod corpus;
mod gemini;
mod messages;
