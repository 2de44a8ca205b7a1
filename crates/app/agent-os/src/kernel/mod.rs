//! The gateway's port bound to the real kernel. Each method is thin: check the words, call the component, map the answer.

mod agents;
mod audit;
pub mod budgets;
mod log_life;
mod metrics;
mod models;
pub mod packages;
pub mod retention;
mod status;
mod tokens;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentos_api::{
    Kernel,
    body::{
        AddAuditHold, AgentLogs, AuditCheckpoint, AuditFilter, AuditHold, AuditKeyRotated, AuditPruned, AuditRecord,
        AuditVerification, Check, Context, CreateSchedule, CreateToken, CreatedToken, DeployAgent, Health,
        Notification, Page, PruneAudit, RetentionRows, RetentionStatus, RotateToken, SecretInfo, SecretValue,
        SubmitTask, TokenInfo,
    },
    kernel::{AgentCommand, Principal, TaskQuery},
};
use agentos_audit::{AuditLog, Upkeep};
use agentos_base::Ambient;
use agentos_dialer::Dialer;
use agentos_egress::control::Egress;
use agentos_failpoint::{Point, hit};
use agentos_gateway::EdgeCounts;
use agentos_identity::Tokens;
use agentos_ledger::Ledger;
use agentos_secrets::{SecretRow, SecretString, Secrets};
use agentos_store::Store;
use agentos_supervisor::Supervisor;
use agentos_tasks::{NewSchedule, NewTask, ScheduleFilter, TaskFilter, Tasks, retention::Retention};
use agentos_trust::TrustRoot;
use agentos_types::{
    Actor, AgentName, LogName, Result, ScheduleId, SecretName, TaskId, Timestamp, TokenId,
    agent::Agent,
    audit::{AuditEvent, Decision},
    limits::PAGE_MAX,
    machine::Machine,
    notify::Notice,
    task::{Schedule, Step, Task, TaskEvent},
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessTarget, WitnessedLog, WitnessedLogDetail},
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{layout::Layout, log_key::LogKeyFiles, model_config::ModelDocument, witness::Witnesses};

/// Everything that the API reaches.
pub struct ServerKernel {
    pub store: Store,
    pub tasks: Tasks,
    pub tokens: Tokens,
    pub secrets: Secrets,
    pub retention: Retention,
    pub installing: packages::Installing,
    pub audit: AuditLog,
    pub upkeep: Upkeep,
    /// Held while the key of the log is changed.
    pub log_keys: tokio::sync::Mutex<LogKeyFiles>,
    /// Age from which a day of the log may be pruned.
    pub audit_retention: Duration,
    pub supervisor: Supervisor,
    pub ledger: Ledger,
    pub models: ModelDocument,
    /// For looks at providers; calls of models have their own way.
    pub dialer: Dialer,
    /// Absent where there are no walls.
    pub egress: Option<Egress>,
    /// What came through the doors to models inside of sandboxes.
    pub model_edge: Arc<EdgeCounts>,
    pub witnesses: Witnesses,
    pub trust: TrustRoot,
    pub ambient: Ambient,
    pub layout: Layout,
    pub node: String,
    pub started_at: Timestamp,
    /// Outcome of the startup checks.
    pub checks: Vec<Check>,
    /// What this machine enforces, as it was found at the start.
    pub machine: Arc<Machine>,
    /// False before everything runs and again while stopping.
    pub ready: Arc<AtomicBool>,
}

impl ServerKernel {
    fn event(&self, context: &Context, action: &str, resource: impl Into<String>) -> AuditEvent {
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), context.actor.clone(), action, resource)
            .correlation(context.request_id.as_str())
    }
}

/// One row more than asked was read: it tells whether there is a next page and is not part of this one.
fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = if more { items.last().map(cursor) } else { None };
    Page { items, next_cursor }
}

fn page_limit(limit: usize) -> usize {
    limit.clamp(1, PAGE_MAX)
}

#[async_trait]
impl Kernel for ServerKernel {
    async fn authenticate(&self, token: &str) -> Result<Option<Principal>> {
        Ok(self.tokens.authenticate(token).await?.map(tokens::principal))
    }

    async fn record_refusal(&self, context: &Context, route: &str, reason: &str) -> Result<()> {
        let event = self.event(context, "gateway.request", route).decision(Decision::Denied).fact("reason", reason);
        let event = match &context.actor {
            Actor::Anonymous { peer } => event.fact("peer", peer.clone()),
            _ => event,
        };
        self.store.record(event).await
    }

    async fn record_lockout(&self, context: &Context, wait: Duration) -> Result<()> {
        tokens::record_lockout(self, context, wait).await
    }

    async fn list_tokens(&self) -> Result<Vec<TokenInfo>> {
        Ok(self.tokens.list().await?.into_iter().map(tokens::info).collect())
    }

    async fn create_token(&self, context: &Context, body: CreateToken) -> Result<CreatedToken> {
        tokens::create(self, context, body).await
    }

    async fn rotate_token(&self, context: &Context, id: &TokenId, body: RotateToken) -> Result<CreatedToken> {
        tokens::rotate(self, context, id, body).await
    }

    async fn revoke_token(&self, context: &Context, id: &TokenId) -> Result<TokenInfo> {
        self.tokens.revoke(&context.actor, id).await.map(tokens::info)
    }

    async fn deploy_agent(&self, context: &Context, body: DeployAgent) -> Result<Agent> {
        agents::deploy(self, context, body).await
    }

    async fn list_agents(&self) -> Result<Vec<Agent>> {
        self.supervisor.list().await
    }

    async fn get_agent(&self, name: &AgentName) -> Result<Agent> {
        self.supervisor.get(name).await
    }

    async fn agent_logs(&self, name: &AgentName, lines: usize) -> Result<AgentLogs> {
        agents::logs(self, name, lines).await
    }

    async fn command_agent(&self, context: &Context, name: &AgentName, command: AgentCommand) -> Result<Agent> {
        agents::command(self, context, name, command).await
    }

    async fn list_notifications(
        &self,
        agent: Option<AgentName>,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<Notification>> {
        agents::notifications(self, agent, cursor, page_limit(limit)).await
    }

    async fn submit_task(
        &self,
        context: &Context,
        body: SubmitTask,
        idempotency_key: Option<String>,
    ) -> Result<(Task, bool)> {
        let new = NewTask {
            agent: body.agent,
            input: body.input,
            idempotency_key,
            run_at: body.run_at,
            deadline_at: body.deadline_at,
            attempts_max: body.attempts_max,
            traceparent: body.traceparent,
        };
        let submitted = self.tasks.submit_for(&context.actor, context.owner.clone(), new).await?;
        hit(Point::KernelSubmitDurable);
        Ok((submitted.task, submitted.replayed))
    }

    async fn list_tasks(&self, query: TaskQuery) -> Result<Page<Task>> {
        let limit = page_limit(query.limit);
        let filter = TaskFilter {
            agent: query.agent,
            state: query.state,
            submitted_by: query.submitted_by,
            after: query.cursor,
            limit: limit + 1,
        };
        Ok(page(self.tasks.list(filter).await?, limit, |task| task.id.to_string()))
    }

    async fn get_task(&self, id: &TaskId) -> Result<Task> {
        self.tasks.get(id).await
    }

    async fn task_steps(&self, id: &TaskId) -> Result<Vec<Step>> {
        self.tasks.steps(id).await
    }

    async fn task_events(&self, id: &TaskId, after_seq: i64, limit: usize) -> Result<Vec<TaskEvent>> {
        self.tasks.events(id, after_seq, page_limit(limit)).await
    }

    async fn cancel_task(&self, context: &Context, id: &TaskId) -> Result<Task> {
        let task = self.tasks.cancel(&context.actor, id).await?;
        hit(Point::KernelCancelDurable);
        Ok(task)
    }

    async fn retry_task(&self, context: &Context, id: &TaskId) -> Result<Task> {
        let task = self.tasks.retry(&context.actor, id).await?;
        hit(Point::KernelRetryDurable);
        Ok(task)
    }

    async fn redrive_task(&self, context: &Context, id: &TaskId, input: Option<Value>) -> Result<Task> {
        self.tasks.redrive(&context.actor, id, input).await
    }

    async fn list_schedules(&self) -> Result<Vec<Schedule>> {
        self.tasks.list_schedules(ScheduleFilter { limit: PAGE_MAX, ..ScheduleFilter::default() }).await
    }

    async fn get_schedule(&self, id: &ScheduleId) -> Result<Schedule> {
        self.tasks.get_schedule(id).await
    }

    async fn create_schedule(&self, context: &Context, body: CreateSchedule) -> Result<Schedule> {
        let new = NewSchedule { agent: body.agent, name: body.name, cadence: body.cadence, input: body.input };
        self.tasks.create_schedule(&context.actor, new).await
    }

    async fn pause_schedule(&self, context: &Context, id: &ScheduleId, paused: bool) -> Result<Schedule> {
        self.tasks.pause_schedule(&context.actor, id, paused).await
    }

    async fn delete_schedule(&self, context: &Context, id: &ScheduleId) -> Result<()> {
        self.tasks.remove_schedule(&context.actor, id).await
    }

    async fn list_secrets(&self) -> Result<Vec<SecretInfo>> {
        Ok(self.secrets.list().await?.into_iter().map(secret_info).collect())
    }

    async fn set_secret(&self, context: &Context, name: &SecretName, value: SecretValue) -> Result<SecretInfo> {
        let info = self.secrets.set(&context.actor, name, SecretString::from(value.value)).await?;
        self.models.router.forgive_key(name.as_str());
        Ok(secret_info(info))
    }

    async fn rotate_secret(&self, context: &Context, name: &SecretName, value: SecretValue) -> Result<SecretInfo> {
        let info = self.secrets.rotate(&context.actor, name, SecretString::from(value.value)).await?;
        self.models.router.forgive_key(name.as_str());
        Ok(secret_info(info))
    }

    async fn revoke_secret(&self, context: &Context, name: &SecretName) -> Result<()> {
        self.secrets.revoke(&context.actor, name).await
    }

    async fn query_audit(&self, filter: AuditFilter) -> Result<Page<AuditRecord>> {
        audit::query(self, filter).await
    }

    async fn verify_audit(&self) -> Result<AuditVerification> {
        audit::verify(self).await
    }

    async fn audit_checkpoint(&self) -> Result<AuditCheckpoint> {
        let note = self.audit.checkpoint().await?;
        Ok(AuditCheckpoint { note, verifier_key: self.audit.identity().verifier_key().to_string() })
    }

    async fn export_audit(&self, context: &Context, from_seq: i64, until_seq: Option<i64>) -> Result<Vec<u8>> {
        audit::export(self, context, from_seq, until_seq).await
    }

    async fn prune_audit(&self, context: &Context, body: PruneAudit) -> Result<AuditPruned> {
        log_life::prune(self, context, body).await
    }

    async fn list_audit_holds(&self) -> Result<Vec<AuditHold>> {
        log_life::holds(self).await
    }

    async fn add_audit_hold(&self, context: &Context, body: AddAuditHold) -> Result<AuditHold> {
        log_life::add_hold(self, context, body).await
    }

    async fn release_audit_hold(&self, context: &Context, name: &str) -> Result<()> {
        log_life::release_hold(self, context, name).await
    }

    async fn rotate_audit_key(&self, context: &Context) -> Result<AuditKeyRotated> {
        log_life::rotate_key(self, context).await
    }

    async fn audit_witnesses(&self) -> Result<Vec<WitnessTarget>> {
        self.witnesses.publisher.status().await
    }

    async fn submit_checkpoint(&self, context: &Context, body: SubmitCheckpoint) -> Result<HeldCheckpoint> {
        self.witnesses.witness.submit(&context.actor, body).await
    }

    async fn held_checkpoint(&self, log: &LogName) -> Result<HeldCheckpoint> {
        self.witnesses.witness.held(log).await
    }

    async fn list_witnessed_logs(&self) -> Result<Vec<WitnessedLog>> {
        self.witnesses.witness.list().await
    }

    async fn add_witnessed_log(&self, context: &Context, body: AddWitnessedLog) -> Result<WitnessedLog> {
        self.witnesses.witness.add(&context.actor, body).await
    }

    async fn get_witnessed_log(&self, name: &LogName) -> Result<WitnessedLogDetail> {
        self.witnesses.witness.get(name).await
    }

    async fn remove_witnessed_log(&self, context: &Context, name: &LogName) -> Result<()> {
        self.witnesses.witness.remove(&context.actor, name).await
    }

    async fn get_retention(&self) -> Result<RetentionStatus> {
        retention::status(self).await
    }

    async fn preview_retention(&self) -> Result<Vec<RetentionRows>> {
        retention::preview(self).await
    }

    async fn run_retention(&self, context: &Context) -> Result<RetentionStatus> {
        retention::run(self, context).await
    }

    async fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) && status::writable(self).await
    }

    async fn health(&self) -> Result<Health> {
        status::health(self).await
    }

    async fn metrics(&self) -> Result<String> {
        metrics::render(self).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.store.subscribe()
    }

    fn subscribe_audit(&self) -> broadcast::Receiver<Notice> {
        self.store.subscribe_audit()
    }
}

fn secret_info(row: SecretRow) -> SecretInfo {
    SecretInfo {
        name: row.name,
        version: row.version,
        state: row.state,
        created_by: row.created_by,
        created_at: row.created_at,
    }
}
