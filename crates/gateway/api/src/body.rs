//! Request and response bodies that are not already part of the shared vocabulary.

mod retention;

use agentos_types::{
    Actor, AgentName, EventId, RequestId, Role, Scope, SecretName, TaskId, Timestamp, TokenId,
    agent::Control,
    audit::{Decision, Phase},
    machine::IsolationLevel,
    task::Cadence,
};
pub use retention::{RetentionCount, RetentionPolicy, RetentionRows, RetentionRun, RetentionStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use crate::log_life::{AddAuditHold, AuditHold, AuditKeyRotated, AuditPruned, PruneAudit};

/// One page of a listing. `next_cursor` is absent on the last page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /api/v1/agents`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployAgent {
    /// The signed manifest: a DSSE envelope as JSON text, exactly as `agent-os sign` wrote it.
    pub envelope: String,
    /// Absolute directory on the server's machine that holds the package's files.
    pub package: String,
}

/// `GET /api/v1/agents/{name}/logs`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentLogs {
    pub lines: Vec<LogLine>,
}

/// One line that an agent wrote to its standard output or error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    pub at: Timestamp,
    /// `stdout`, `stderr` or `kernel`.
    pub stream: String,
    pub text: String,
}

/// `POST /api/v1/tasks`; the `Idempotency-Key` header makes a repeat safe.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTask {
    pub agent: AgentName,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: Value,
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Fails with AOS-1209 after this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// `POST /api/v1/tasks/{id}/redrive`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedriveTask {
    /// Replaces the input; absent keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub input: Option<Value>,
}

/// `POST /api/v1/schedules`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    pub agent: AgentName,
    pub name: String,
    pub cadence: Cadence,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: Value,
}

/// What an agent published with `notify.event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Notification {
    pub id: EventId,
    pub agent: AgentName,
    pub task: TaskId,
    pub at: Timestamp,
    pub kind: String,
    #[schema(value_type = Object)]
    pub data: Value,
}

/// One audit record with its place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    pub seq: i64,
    pub id: EventId,
    pub at: Timestamp,
    #[schema(value_type = Object)]
    pub actor: Actor,
    pub action: String,
    pub resource: String,
    pub phase: Phase,
    pub decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    #[schema(value_type = Object)]
    pub facts: Map<String, Value>,
    /// Hex.
    pub leaf_hash: String,
}

/// Filter of `GET /api/v1/audit`; all given parts must hold. Newest first unless `ascending`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AuditFilter {
    /// Actor label: `system`, `token:tok_…`, `agent:NAME`, `anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Microseconds since the epoch, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Microseconds since the epoch, exclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Sequence number of the last record of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    pub ascending: bool,
}

/// `GET /api/v1/audit/verify`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerification {
    pub valid: bool,
    pub records: u64,
    pub checkpoints: u64,
    /// Base64 of the Merkle root.
    pub root: String,
    /// What is wrong, when it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
}

/// `GET /api/v1/audit/checkpoint`: keep it elsewhere; a later log must extend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    /// Signed note in C2SP checkpoint form.
    pub note: String,
    /// Key that verifies it, in C2SP vkey form.
    pub verifier_key: String,
}

/// `PUT /api/v1/secrets/{name}` and `POST /api/v1/secrets/{name}/rotate`
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    pub value: String,
}

/// Never prints the value.
impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue")
    }
}

/// A secret without its value, which no API returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    pub name: SecretName,
    pub version: i64,
    /// `active`, `retiring` or `revoked`.
    pub state: String,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// `POST /api/v1/tokens`: either a role or scopes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// Agents that the token may give work to, 1 to 100; with the scope `call` or the role `agent-caller`, and only then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentName>,
    /// Names or patterns of the models that the token may call, such as `fast` or `openai/*`, at most 100; with the scope
    /// `models` or the role `model-caller`, and only then. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Absent: 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// `POST /api/v1/tokens/{id}/rotate`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateToken {
    /// How long the old token goes on working, at most 30 days and never beyond its own end. Absent: one hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
    /// Life of the successor. Absent: as long as the old token's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// Answer to `POST /api/v1/tokens` and to a rotation: the only time that the token is shown.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    pub token: String,
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub id: TokenId,
    pub name: String,
    /// The role that it was made with, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The first token of its line of rotations; its own id if it is the first.
    pub family: TokenId,
    pub created_by: String,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// `GET /live` and `GET /ready`: a status and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `ok` or `unavailable`.
    pub status: String,
}

/// `GET /health`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    pub version: String,
    pub node: String,
    pub started_at: Timestamp,
    pub schema: i64,
    pub agents: AgentCounts,
    /// How much of the wall around agents stands on this machine; `doctor` has the parts.
    pub isolation: IsolationLevel,
    /// Startup checks with their outcome.
    pub checks: Vec<Check>,
    /// What this machine enforces on agents.
    pub controls: Vec<Control>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentCounts {
    pub deployed: u64,
    pub ready: u64,
    pub unhealthy: u64,
}

/// One startup check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub outcome: CheckOutcome,
    pub message: String,
}

/// Name of the check of the places that the audit log's checkpoints go to.
pub const CHECK_PUBLISHED: &str = "checkpoints reach witnesses";
/// The check of the one way out of sandboxes: at the start whether its program is there, later whether it answers.
pub const CHECK_EGRESS: &str = "egress proxy answers";
/// Name of the check of the logs that this node witnesses.
pub const CHECK_WITNESSED: &str = "witnessed logs are consistent";
/// Checks whose outcome only the running server knows; in its health they stand for the present moment.
pub const LIVE_CHECKS: [&str; 3] = [CHECK_PUBLISHED, CHECK_EGRESS, CHECK_WITNESSED];

/// `fail` always refuses the start; `warn` refuses it under ENFORCE_PRODUCTION_HARDENING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    Pass,
    Warn,
    Fail,
}

/// What the gateway knows about the request when it calls the kernel.
#[derive(Clone, Debug)]
pub struct Context {
    pub actor: Actor,
    pub request_id: RequestId,
    /// Label of whom a new task belongs to: for a token, the first one of its line of rotations.
    pub owner: String,
}
