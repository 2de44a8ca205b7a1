//! The manifest: the signed statement of what an agent is, how it is started, and what it may ask for.

mod budget;
mod egress;
mod limits;
mod sandbox;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentName, Code, Fault, Grant, Result, Timestamp};

pub use budget::{ModelBudget, Usd};
pub use egress::{Egress, EgressCredential};
pub use limits::{LimitEnforcement, Limits};
pub use sandbox::{Sandbox, SandboxProfile};

/// Format version of the manifest itself.
pub const MANIFEST_SCHEMA: u32 = 1;

/// How much an agent may do without a person. Enforcement beyond grants comes with approvals; the level is signed today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrustLevel {
    #[default]
    Supervised,
    SemiAutonomous,
    MonitoredAutonomous,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Liveness and restart policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// The worker must answer a ping within this time or it counts as hung.
    pub heartbeat_ms: u64,
    /// Time from spawn to `ready`.
    pub start_timeout_ms: u64,
    /// Consecutive failures before the agent is quarantined.
    pub failures_max: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { heartbeat_ms: 5_000, start_timeout_ms: 10_000, failures_max: 10 }
    }
}

/// The payload under the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema: u32,
    pub name: AgentName,
    /// Semantic version; a deploy never goes back.
    pub version: String,
    #[serde(default)]
    pub description: String,
    /// Program and arguments. A first word without `/` is a file of the package; so is any later word listed in `files`.
    pub command: Vec<String>,
    /// Variables of the worker's otherwise empty environment. Secrets are refused here: they never reach a worker.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Package files that the command needs, path → SHA-256 in hex. `agent-os sign` fills in the digests.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    #[serde(default)]
    pub trust_level: TrustLevel,
    #[serde(default)]
    pub grants: Vec<Grant>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub health: Health,
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandbox: Sandbox,
    #[serde(default, skip_serializing_if = "is_default")]
    pub egress: Egress,
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: ModelBudget,
    /// After this instant the manifest no longer deploys or starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Manifest {
    /// Everything that the types alone do not rule out. Called on sign and again on deploy.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: String, hint: &str| Err(Fault::new(Code::MANIFEST_INVALID, what).hint(hint));
        if self.schema != MANIFEST_SCHEMA {
            return refuse(format!("manifest schema {} is not supported", self.schema), "write schema = 1");
        }
        if parse_version(&self.version).is_none() {
            return refuse(
                format!("version '{}' is not MAJOR.MINOR.PATCH", self.version),
                "write a semantic version such as 1.0.0",
            );
        }
        if self.command.first().is_none_or(String::is_empty) {
            return refuse("command is empty".into(), "name the program in command[0]");
        }
        if let Some(name) = self.files.keys().find(|name| !is_plain_relative(name)) {
            return refuse(format!("file '{name}' leaves the package"), "use relative paths without '..'");
        }
        for grant in &self.grants {
            validate_grant(grant)?;
        }
        self.budget.validate()?;
        self.validate_limits()
    }

    fn validate_limits(&self) -> Result<()> {
        let bounds = [
            ("limits.memory_bytes", self.limits.memory_bytes, 16 << 20, 1 << 40),
            ("limits.open_files", self.limits.open_files, 16, 65_536),
            ("limits.file_bytes", self.limits.file_bytes, 0, 1 << 40),
            ("limits.concurrent_tasks", u64::from(self.limits.concurrent_tasks), 1, 256),
            ("limits.calls_per_minute", u64::from(self.limits.calls_per_minute), 1, 1_000_000),
            ("limits.processes", u64::from(self.limits.processes), 1, 30_000),
            ("limits.cpu_percent", self.limits.cpu_percent, 0, 100_000),
            ("limits.disk_bytes_per_second", self.limits.disk_bytes_per_second, 0, 1 << 40),
            ("limits.workspace_bytes", self.limits.workspace_bytes, 1 << 20, 1 << 44),
            ("sandbox.tmp_bytes", self.sandbox.tmp_bytes, 64 << 10, 1 << 40),
            ("egress.connections", u64::from(self.egress.connections), 1, 10_000),
            ("egress.idle_ms", self.egress.idle_ms, 100, 86_400_000),
            ("egress.connection_ms", self.egress.connection_ms, 100, 86_400_000),
            ("health.heartbeat_ms", self.health.heartbeat_ms, 50, 600_000),
            ("health.start_timeout_ms", self.health.start_timeout_ms, 100, 600_000),
            ("health.failures_max", u64::from(self.health.failures_max), 1, 1_000),
        ];
        match bounds.into_iter().find(|(_, value, low, high)| value < low || value > high) {
            None => Ok(()),
            Some((name, value, low, high)) => {
                Err(Fault::new(Code::MANIFEST_INVALID, format!("{name} is {value}, outside {low}..={high}"))
                    .hint(format!("set {name} to a value in that range")))
            }
        }
    }

    /// Numeric order of MAJOR.MINOR.PATCH; an invalid version sorts first, and `validate` has refused it anyway.
    pub fn version_key(&self) -> (u64, u64, u64) {
        parse_version(&self.version).unwrap_or_default()
    }
}

fn validate_grant(grant: &Grant) -> Result<()> {
    let known = grant.category.actions();
    let refuse = |what: String, hint: String| Err(Fault::new(Code::MANIFEST_INVALID, what).hint(hint));
    if grant.actions.is_empty() || grant.resources.is_empty() {
        return refuse(
            format!("a grant of category '{}' names no action or no resource", grant.category),
            "an empty list grants nothing; write the actions and resources out".into(),
        );
    }
    match grant.actions.iter().find(|action| !known.contains(&action.as_str())) {
        None => Ok(()),
        Some(action) => refuse(
            format!("category '{}' has no action '{action}'", grant.category),
            format!("known actions: {}", known.join(", ")),
        ),
    }
}

fn is_plain_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split('.');
    let mut number = || {
        let part = parts.next()?;
        let plain =
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        plain.then(|| part.parse().ok()).flatten()
    };
    let version = (number()?, number()?, number()?);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(change: Value, expected: Option<&str>) {
        let mut manifest = json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["x"]});
        for (key, value) in change.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        let outcome = serde_json::from_value::<Manifest>(manifest)
            .map_err(|e| e.to_string())
            .and_then(|m| m.validate().map_err(|f| f.message));
        match expected {
            None => assert_eq!(outcome, Ok(())),
            Some(part) => assert!(outcome.clone().unwrap_err().contains(part), "{outcome:?} lacks {part}"),
        }
    }

    #[test]
    fn validation() {
        check(json!({}), None);
        check(json!({"surprise": 1}), Some("unknown field"));
        check(json!({"schema": 2}), Some("schema 2"));
        check(json!({"version": "1.0"}), Some("MAJOR.MINOR.PATCH"));
        check(json!({"version": "01.0.0"}), Some("MAJOR.MINOR.PATCH"));
        check(json!({"command": []}), Some("command is empty"));
        check(json!({"files": {"../x": ""}}), Some("leaves the package"));
        check(json!({"name": "A B"}), Some("agent name"));
        check(
            json!({"grants": [{"category": "net", "actions": ["post"], "resources": ["*"]}]}),
            Some("no action 'post'"),
        );
        check(json!({"grants": [{"category": "net", "actions": ["fetch"], "resources": []}]}), Some("no resource"));
        check(json!({"budget": {"team": "A B"}}), Some("budget.team"));
        check(json!({"budget": {"usd_per_day": "1,5"}}), Some("amount in USD"));
        check(json!({"limits": {"concurrent_tasks": 0}}), Some("limits.concurrent_tasks is 0"));
    }
}
