//! Stories on the real program: what a user sees, what an attacker tries, what a crash leaves behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod chaos;
mod command_line;
mod commands;
mod crash;
mod damage;
mod disk;
mod doors;
mod egress;
mod failpoints;
mod first_light;
mod gateway;
mod hardening;
mod honest_status;
mod log_life;
mod models;
mod models_admin;
mod monitor;
mod outage;
mod postgres;
mod readme;
mod retention;
mod rogue;
mod schema;
mod secrets;
mod soak;
mod tracing;
mod trust;
mod walls;
mod witnesses;
