//! The programs that belong together: they are installed into one directory.

use std::path::PathBuf;

use agentos_types::{Fault, Result};

const LAUNCHER: &str = "agent-os-launch";
pub const EGRESS: &str = "agent-os-egress";

/// This program's own path. The kernel tells it with links resolved.
pub fn own_path() -> Result<PathBuf> {
    std::env::current_exe().map_err(Fault::internal)
}

/// `agent-os-launch` beside this program; whether it exists is a startup check.
pub fn launcher() -> Result<PathBuf> {
    Ok(own_path()?.with_file_name(LAUNCHER))
}

/// `agent-os-egress` beside this program.
pub fn egress() -> Result<PathBuf> {
    Ok(own_path()?.with_file_name(EGRESS))
}
