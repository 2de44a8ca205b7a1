//! What every test of the launcher needs to know.

use std::time::Duration;

/// Far above what any step needs; only a defect lets a test wait this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_agent-os-launch");

pub fn own_pid() -> String {
    std::process::id().to_string()
}
