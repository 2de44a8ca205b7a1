//! The port: what the gateway may ask of the kernel. Only the server binds it to an implementation.
//!
//! Every method that changes something takes the [`Context`] and writes its audit record in the same transaction.

use std::time::Duration;

use agentos_types::{
    AgentName, LogName, Result, Role, ScheduleId, Scope, SecretName, TaskId, TokenId,
    agent::Agent,
    notify::Notice,
    task::{Schedule, Step, Task, TaskEvent, TaskState},
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessTarget, WitnessedLog, WitnessedLogDetail},
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{
    Budgets, ModelAdmin,
    body::{
        AddAuditHold, AgentLogs, AuditCheckpoint, AuditFilter, AuditHold, AuditKeyRotated, AuditPruned, AuditRecord,
        AuditVerification, Context, CreateSchedule, CreateToken, CreatedToken, DeployAgent, Health, Notification, Page,
        PruneAudit, RetentionRows, RetentionStatus, RotateToken, SecretInfo, SecretValue, SubmitTask, TokenInfo,
    },
};

/// What an agent can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    Pause,
    Resume,
    Restart,
    Terminate,
}

impl AgentCommand {
    pub fn as_str(self) -> &'static str {
        match self {
            AgentCommand::Pause => "pause",
            AgentCommand::Resume => "resume",
            AgentCommand::Restart => "restart",
            AgentCommand::Terminate => "terminate",
        }
    }
}

/// Filter of a task listing; newest first, `cursor` is the id of the last task of the previous page.
#[derive(Clone, Debug, Default)]
pub struct TaskQuery {
    pub agent: Option<AgentName>,
    pub state: Option<TaskState>,
    /// Only tasks of this owner.
    pub submitted_by: Option<String>,
    pub cursor: Option<TaskId>,
    pub limit: usize,
}

/// A token that proved to be valid.
#[derive(Clone, Debug)]
pub struct Principal {
    pub token: TokenId,
    pub name: String,
    pub role: Option<Role>,
    pub scopes: Vec<Scope>,
    /// Agents that it may give work to by the scope `call`.
    pub agents: Vec<AgentName>,
    /// Names or patterns of the models that it may call by the scope `models`; empty: all.
    pub models: Vec<String>,
    /// First token of its line of rotations.
    pub family: TokenId,
}

#[async_trait]
pub trait Kernel: Budgets + ModelAdmin {
    // Identity
    /// `None` for an unknown, expired or revoked token. Does not say which.
    async fn authenticate(&self, token: &str) -> Result<Option<Principal>>;
    /// Records a refused request: wrong token, or a scope that is missing.
    async fn record_refusal(&self, context: &Context, route: &str, reason: &str) -> Result<()>;
    /// Records that an address is locked out for `wait` because of too many wrong tokens; the context names it.
    async fn record_lockout(&self, context: &Context, wait: Duration) -> Result<()>;
    async fn list_tokens(&self) -> Result<Vec<TokenInfo>>;
    async fn create_token(&self, context: &Context, body: CreateToken) -> Result<CreatedToken>;
    /// The successor; the old token ends after the overlap.
    async fn rotate_token(&self, context: &Context, id: &TokenId, body: RotateToken) -> Result<CreatedToken>;
    async fn revoke_token(&self, context: &Context, id: &TokenId) -> Result<TokenInfo>;

    // Agents
    async fn deploy_agent(&self, context: &Context, body: DeployAgent) -> Result<Agent>;
    async fn list_agents(&self) -> Result<Vec<Agent>>;
    async fn get_agent(&self, name: &AgentName) -> Result<Agent>;
    async fn agent_logs(&self, name: &AgentName, lines: usize) -> Result<AgentLogs>;
    async fn command_agent(&self, context: &Context, name: &AgentName, command: AgentCommand) -> Result<Agent>;
    /// Newest first, `cursor` is the id of the last one of the previous page.
    async fn list_notifications(
        &self,
        agent: Option<AgentName>,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<Notification>>;

    // Tasks. The flag of `submit_task` tells whether the answer repeats an earlier submit with the same key.
    async fn submit_task(
        &self,
        context: &Context,
        body: SubmitTask,
        idempotency_key: Option<String>,
    ) -> Result<(Task, bool)>;
    async fn list_tasks(&self, query: TaskQuery) -> Result<Page<Task>>;
    async fn get_task(&self, id: &TaskId) -> Result<Task>;
    async fn task_steps(&self, id: &TaskId) -> Result<Vec<Step>>;
    async fn task_events(&self, id: &TaskId, after_seq: i64, limit: usize) -> Result<Vec<TaskEvent>>;
    async fn cancel_task(&self, context: &Context, id: &TaskId) -> Result<Task>;
    async fn retry_task(&self, context: &Context, id: &TaskId) -> Result<Task>;
    async fn redrive_task(&self, context: &Context, id: &TaskId, input: Option<Value>) -> Result<Task>;

    // Schedules
    async fn list_schedules(&self) -> Result<Vec<Schedule>>;
    async fn get_schedule(&self, id: &ScheduleId) -> Result<Schedule>;
    async fn create_schedule(&self, context: &Context, body: CreateSchedule) -> Result<Schedule>;
    async fn pause_schedule(&self, context: &Context, id: &ScheduleId, paused: bool) -> Result<Schedule>;
    async fn delete_schedule(&self, context: &Context, id: &ScheduleId) -> Result<()>;

    // Secrets
    async fn list_secrets(&self) -> Result<Vec<SecretInfo>>;
    async fn set_secret(&self, context: &Context, name: &SecretName, value: SecretValue) -> Result<SecretInfo>;
    async fn rotate_secret(&self, context: &Context, name: &SecretName, value: SecretValue) -> Result<SecretInfo>;
    async fn revoke_secret(&self, context: &Context, name: &SecretName) -> Result<()>;

    // Audit
    async fn query_audit(&self, filter: AuditFilter) -> Result<Page<AuditRecord>>;
    async fn verify_audit(&self) -> Result<AuditVerification>;
    async fn audit_checkpoint(&self) -> Result<AuditCheckpoint>;
    /// The log from `from_seq`, up to the newest checkpoint at or below `until_seq`, as an export segment (JSON lines),
    /// recorded as an act of the actor.
    async fn export_audit(&self, context: &Context, from_seq: i64, until_seq: Option<i64>) -> Result<Vec<u8>>;
    async fn prune_audit(&self, context: &Context, body: PruneAudit) -> Result<AuditPruned>;
    async fn list_audit_holds(&self) -> Result<Vec<AuditHold>>;
    async fn add_audit_hold(&self, context: &Context, body: AddAuditHold) -> Result<AuditHold>;
    async fn release_audit_hold(&self, context: &Context, name: &str) -> Result<()>;
    async fn rotate_audit_key(&self, context: &Context) -> Result<AuditKeyRotated>;

    // Witnesses
    /// Where the checkpoints of this node's own log go.
    async fn audit_witnesses(&self) -> Result<Vec<WitnessTarget>>;
    /// A checkpoint of another node's log. Its acceptance leaves no record but itself, a refusal does.
    async fn submit_checkpoint(&self, context: &Context, body: SubmitCheckpoint) -> Result<HeldCheckpoint>;
    async fn held_checkpoint(&self, log: &LogName) -> Result<HeldCheckpoint>;
    async fn list_witnessed_logs(&self) -> Result<Vec<WitnessedLog>>;
    async fn add_witnessed_log(&self, context: &Context, body: AddWitnessedLog) -> Result<WitnessedLog>;
    async fn get_witnessed_log(&self, name: &LogName) -> Result<WitnessedLogDetail>;
    async fn remove_witnessed_log(&self, context: &Context, name: &LogName) -> Result<()>;

    // Retention
    async fn get_retention(&self) -> Result<RetentionStatus>;
    /// What a run would take now, by kind.
    async fn preview_retention(&self) -> Result<Vec<RetentionRows>>;
    /// Begins a run, durably, or joins the one that is under way.
    async fn run_retention(&self, context: &Context) -> Result<RetentionStatus>;

    // Status
    async fn ready(&self) -> bool;
    async fn health(&self) -> Result<Health>;
    /// Prometheus text, without the gateway's own series.
    async fn metrics(&self) -> Result<String>;
    /// What changes, for streams; readers then read by cursor.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;
    /// New audit records, which are not among the others.
    fn subscribe_audit(&self) -> broadcast::Receiver<Notice>;
}
