//! The ground floor of the kernel: time and randomness as arguments, configuration, files, logs, traces, background work.
//!
//! No SQL, no HTTP, no policy. Everything here may be used by every kernel crate.

pub mod ambient;
pub mod background;
pub mod config;
pub mod fs;
pub mod loops;
pub mod names;
pub mod redact;
pub mod room;
pub mod telemetry;
pub mod trace;
pub mod turns;

pub use ambient::{Ambient, Clock, Entropy};
pub use background::Background;
pub use loops::{Loops, Seat};
pub use room::{Room, Share};
pub use turns::Turns;
