//! The ground floor of the kernel: time and randomness as arguments, configuration, files, logs, background work.
//!
//! No SQL, no HTTP, no policy. Everything here may be used by every kernel crate.

pub mod ambient;
pub mod background;
pub mod config;
pub mod fs;
pub mod redact;
pub mod telemetry;

pub use ambient::{Ambient, Clock, Entropy};
pub use background::Background;
