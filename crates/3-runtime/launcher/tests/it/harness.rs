//! What every test of the launcher needs to know.

use std::time::Duration;

/// Far above what any step needs; only a defect lets a test wait this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_agent-os-launch");

pub fn own_pid() -> String {
    std::process::id().to_string()
}

/// Who puts up walls. `make test` installs bwrap; where that cannot be it says so, and only then its half is left out.
pub fn backends() -> &'static [&'static str] {
    let both = &["native", "bwrap"];
    if std::env::var_os("AGENTOS_WITHOUT_BWRAP").is_some() { &both[..1] } else { both }
}
