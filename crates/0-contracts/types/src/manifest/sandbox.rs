//! What an agent's sandbox has beyond the ordinary.

use serde::{Deserialize, Serialize};

/// What an agent needs of its sandbox beyond the ordinary. Nothing here opens a way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    pub profile: SandboxProfile,
    /// Show machine-wide files of /proc, masked as containers mask them: Node and the JVM count processors there.
    pub full_proc: bool,
    /// Listen and connect on its own loopback, at any port.
    pub loopback: bool,
    /// Run programs from memory files (memfd). Where false, only what is mounted runs.
    pub anonymous_programs: bool,
    /// Size of /tmp, in bytes of memory.
    pub tmp_bytes: u64,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            profile: SandboxProfile::Agent,
            full_proc: false,
            loopback: false,
            anonymous_programs: true,
            tmp_bytes: 64 << 20,
        }
    }
}

/// Which system calls of Linux there are inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxProfile {
    /// No new program, process or socket.
    Strict,
    #[default]
    Agent,
    /// As `agent`, and ptrace of its own processes.
    Dev,
}
