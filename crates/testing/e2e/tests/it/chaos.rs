//! Chaos on the real program: agents and connections come and go in every way that there is, in an order that a seed
//! decides, and the rules hold all the same.
//!
//! `AGENTOS_CHAOS_SEED` repeats a run; `AGENTOS_CHAOS_AGENTS` and `AGENTOS_CHAOS_CONNECTIONS` set its size. `make test-deep`
//! uses them.

#![expect(clippy::print_stdout, clippy::panic, reason = "a run says what it has measured, and how to repeat it")]

pub mod chance;
mod connections;
pub mod processes;
mod storm;
mod transitions;
mod watchdog;
