//! Bounds of what an agent may use up.

use serde::{Deserialize, Serialize};

/// Resource limits of one agent with everything that it starts. A limit that this machine cannot enforce is reported, never
/// silently dropped; `enforcement` says whether the agent then starts at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of all processes together, in bytes (cgroup). Where no cgroup can be had: address space of each process.
    pub memory_bytes: u64,
    /// CPU seconds of one process life (RLIMIT_CPU); 0 means no limit.
    pub cpu_seconds: u64,
    /// Open files of each process (RLIMIT_NOFILE).
    pub open_files: u64,
    /// Largest single file that the agent may write, in bytes (RLIMIT_FSIZE).
    pub file_bytes: u64,
    /// Tasks that one instance works on at the same time.
    pub concurrent_tasks: u32,
    /// System calls a minute; more are refused with AOS-1404.
    pub calls_per_minute: u32,
    /// Processes and threads at once.
    #[serde(skip_serializing_if = "is_default_processes")]
    pub processes: u32,
    /// CPU time of all processes together, in percent of one core: 150 is a core and a half; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu_percent: u64,
    /// Bytes a second that it may read from, and as many that it may write to, the disk of its workspace; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub disk_bytes_per_second: u64,
    /// All files of its workspace together, in bytes.
    #[serde(skip_serializing_if = "is_default_workspace")]
    pub workspace_bytes: u64,
    /// What happens when this machine cannot enforce one of the limits. Absent: the setting `sandbox.enforcement` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<LimitEnforcement>,
}

/// What a limit that cannot be enforced on this machine means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitEnforcement {
    /// It does not start.
    Strict,
    /// It starts, and is shown as degraded.
    Degraded,
}

const PROCESSES_DEFAULT: u32 = 256;
const WORKSPACE_BYTES_DEFAULT: u64 = 1 << 30;

// Fields that came later are left out of what is signed while they say nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_default_processes(value: &u32) -> bool {
    *value == PROCESSES_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_default_workspace(value: &u64) -> bool {
    *value == WORKSPACE_BYTES_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            cpu_seconds: 0,
            open_files: 256,
            file_bytes: 64 << 20,
            concurrent_tasks: 1,
            calls_per_minute: 600,
            processes: PROCESSES_DEFAULT,
            cpu_percent: 0,
            disk_bytes_per_second: 0,
            workspace_bytes: WORKSPACE_BYTES_DEFAULT,
            enforcement: None,
        }
    }
}
