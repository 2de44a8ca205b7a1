//! Stories on the real program: what a user sees, what an attacker tries, what a crash leaves behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod chaos;
mod command_line;
mod crash;
mod first_light;
mod gateway;
mod honest_status;
mod log_life;
mod monitor;
mod postgres;
mod readme;
mod rogue;
mod schema;
mod secrets;
mod tracing;
mod trust;
mod witnesses;
