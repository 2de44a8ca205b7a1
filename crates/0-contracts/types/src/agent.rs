//! Agents as readers see them, and what this machine enforces on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    AgentName, Grant, InstanceId, Timestamp,
    manifest::{Limits, ModelBudget, TrustLevel},
};

/// States of the lifecycle table (the table itself lives in the supervisor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    Installed,
    Starting,
    Ready,
    Running,
    Paused,
    BackingOff,
    Quarantined,
    Failed,
    Terminated,
}

impl AgentState {
    pub const ALL: [AgentState; 9] = [
        AgentState::Installed,
        AgentState::Starting,
        AgentState::Ready,
        AgentState::Running,
        AgentState::Paused,
        AgentState::BackingOff,
        AgentState::Quarantined,
        AgentState::Failed,
        AgentState::Terminated,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AgentState::Installed => "installed",
            AgentState::Starting => "starting",
            AgentState::Ready => "ready",
            AgentState::Running => "running",
            AgentState::Paused => "paused",
            AgentState::BackingOff => "backing-off",
            AgentState::Quarantined => "quarantined",
            AgentState::Failed => "failed",
            AgentState::Terminated => "terminated",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Resources used over all lives of the agent's processes, unless a field says "now". From its cgroup where that counts it,
/// else from /proc while the process lives and from rusage when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Usage {
    pub cpu_ms: u64,
    /// Now.
    pub memory_bytes: u64,
    /// The highest of any life.
    pub memory_peak_bytes: u64,
    pub disk_read_bytes: u64,
    pub disk_write_bytes: u64,
    /// Processes and threads now.
    pub processes: u64,
    /// The highest of any life, as far as it was seen.
    pub processes_peak: u64,
    /// Processes that the kernel killed at `limits.memory_bytes`.
    pub oom_kills: u64,
    /// Time in which it wanted to run and `limits.cpu_percent` did not let it.
    pub throttled_ms: u64,
    /// Files of its workspace now.
    pub workspace_bytes: u64,
    /// Through the egress proxy, to the agent.
    pub egress_in_bytes: u64,
    /// Through the egress proxy, from the agent.
    pub egress_out_bytes: u64,
}

/// An agent as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Agent {
    pub name: AgentName,
    pub version: String,
    pub description: String,
    pub state: AgentState,
    /// Why it is in this state, when that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub trust_level: TrustLevel,
    pub grants: Vec<Grant>,
    pub limits: Limits,
    /// What its manifest lets it spend on models; an operator's budgets are shown by `/api/v1/budgets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<ModelBudget>,
    /// SHA-256 of the signed payload.
    pub manifest_sha256: String,
    /// Key id of the signature.
    pub signed_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub restarts: i64,
    pub deployed_at: Timestamp,
    pub state_since: Timestamp,
    pub usage: Usage,
    /// What protects the host from this agent on this machine.
    pub controls: Vec<Control>,
}

/// How far one control holds on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    Enforced,
    Degraded,
    NotEnforced,
}

/// One line of the honest status: a control, whether it holds here, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Control {
    /// For example `process isolation`, `memory limit`, `network wall`.
    pub name: String,
    pub enforcement: Enforcement,
    pub reason: String,
}
