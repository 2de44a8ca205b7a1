//! Everything runs on the real launcher.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and say what they leave out"
)]

mod escape;
mod programs;
