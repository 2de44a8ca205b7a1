//! A kernel in memory, with the levers that the tests pull.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_api::{
    body::*,
    budgets::{BudgetFilter, BudgetInfo, BudgetKey, Budgets, SetBudget, SpendFilter, SpendInfo},
    kernel::{AgentCommand, Kernel, Principal, TaskQuery},
    model_admin::*,
};
use agentos_types::{
    AgentName, Code, Fault, LogName, RequestId, Result, Role, ScheduleId, Scope, SecretName, TaskId, Timestamp,
    TokenId,
    agent::Agent,
    notify::Notice,
    task::{Schedule, Step, Task, TaskEvent, TaskState},
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessTarget, WitnessedLog, WitnessedLogDetail},
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, broadcast};

use crate::samples;

/// Agent whose `get_agent` panics, waits for [`FakeKernel::gate`], or fails with a detail.
pub const PANICKING: &str = "panicking";
pub const SLOW: &str = "slow";
pub const FAILING: &str = "failing";
pub const DETAIL: &str = "/var/lib/agent-os/private-path";

#[derive(Default)]
pub struct State {
    pub revoked: Vec<String>,
    pub refusals: Vec<(Context, String, String)>,
    pub lockouts: Vec<(Context, Duration)>,
    pub tasks: Vec<Task>,
    pub keys: Vec<(String, Value, TaskId)>,
    pub events: Vec<TaskEvent>,
    pub audit_records: i64,
    pub submitted: Vec<SubmitTask>,
    pub commands: Vec<(String, AgentCommand)>,
    pub authentications: usize,
    pub is_ready: bool,
}

pub struct FakeKernel {
    pub state: Mutex<State>,
    pub notices: broadcast::Sender<Notice>,
    pub gate: Notify,
    /// Fires when somebody waits at the gate.
    pub waiting: Notify,
}

impl FakeKernel {
    pub fn new() -> Arc<Self> {
        let state = State { is_ready: true, ..State::default() };
        // A small channel, so that receivers lag in the tests as they can in the server.
        let (notices, _) = broadcast::channel(8);
        Arc::new(Self { state: state.into(), notices, gate: Notify::new(), waiting: Notify::new() })
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub fn add_task(&self, number: u128) -> TaskId {
        let task = samples::task(samples::task_id(number), json!(number as u64));
        let id = task.id.clone();
        self.with(|state| state.tasks.push(task));
        id
    }

    pub fn add_event(&self, task: &TaskId, kind: &str, data: Value) {
        self.with(|state| {
            let seq = 1 + state.events.iter().filter(|event| event.task == *task).count() as i64;
            if let Some(reached) = data.get("state").and_then(Value::as_str).and_then(TaskState::parse) {
                state.tasks.iter_mut().filter(|known| known.id == *task).for_each(|known| known.state = reached);
            }
            state.events.push(samples::event(task, seq, kind, data));
        });
        let _ = self.notices.send(Notice::TaskEvents(task.clone()));
    }

    pub fn add_audit_records(&self, count: i64) {
        self.with(|state| state.audit_records += count);
        let _ = self.notices.send(Notice::Audit);
    }

    fn find(&self, id: &TaskId) -> Result<Task> {
        let found = self.with(|state| state.tasks.iter().find(|task| task.id == *id).cloned());
        found.ok_or_else(|| Fault::new(Code::TASK_NOT_FOUND, "no such task"))
    }
}

/// The token that holds exactly this scope.
pub fn token_of(scope: Scope) -> String {
    format!("{}-token", scope.as_str())
}

/// The token that was made with this role. That of an agent-caller names the agent `echo`.
pub fn token_of_role(role: Role) -> String {
    format!("{}-role-token", role.as_str())
}

/// Label of whom the tasks of that token belong to.
pub fn owner_of_role(role: Role) -> String {
    format!("token:{}", family_of_role(role))
}

/// Each role's token is the second of its line, so that family and token differ.
fn family_of_role(role: Role) -> TokenId {
    samples::token_id(200 + role as u128)
}

fn principal_of_role(role: Role) -> Principal {
    Principal {
        token: samples::token_id(100 + role as u128),
        name: token_of_role(role),
        role: Some(role),
        scopes: role.scopes().to_vec(),
        agents: if role == Role::AgentCaller { vec![samples::agent_name()] } else { Vec::new() },
        models: Vec::new(),
        family: family_of_role(role),
    }
}

#[async_trait]
impl Budgets for FakeKernel {
    async fn list_budgets(&self, _: BudgetFilter) -> Result<Vec<BudgetInfo>> {
        Ok(vec![samples::budget()])
    }

    async fn set_budget(&self, _: &Context, _: SetBudget) -> Result<BudgetInfo> {
        Ok(samples::budget())
    }

    async fn remove_budget(&self, _: &Context, _: BudgetKey) -> Result<()> {
        Ok(())
    }

    async fn spend(&self, _: SpendFilter) -> Result<Vec<SpendInfo>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ModelAdmin for FakeKernel {
    async fn model_config(&self) -> Result<ModelConfig> {
        Ok(ModelConfig { revision: 7, document: json!({}), set_by: None, set_at: None })
    }

    async fn set_model_config(&self, _: &Context, revision: Option<i64>, _: SetModelConfig) -> Result<ModelConfig> {
        Ok(ModelConfig { revision: revision.unwrap_or(0) + 1, document: json!({}), set_by: None, set_at: None })
    }

    async fn list_models(&self) -> Result<ModelList> {
        let prices = PriceSource { date: "2026-11-23".into(), sha256: "00".into() };
        Ok(ModelList { items: vec![ModelEntry::default()], revision: 7, prices })
    }

    async fn get_model(&self, id: &str) -> Result<ModelEntry> {
        Ok(ModelEntry { id: id.to_owned(), ..ModelEntry::default() })
    }

    async fn switch_model(&self, _: &Context, id: &str, disabled: bool) -> Result<ModelEntry> {
        Ok(ModelEntry { id: id.to_owned(), disabled, ..ModelEntry::default() })
    }

    async fn explain_model(&self, _: &str, query: ExplainModel) -> Result<ModelExplanation> {
        Ok(ModelExplanation { text: query.needs.unwrap_or_default(), record: json!({}) })
    }

    async fn replay_model(&self, _: ReplayModel) -> Result<ModelReplay> {
        Ok(ModelReplay { same: true, text: String::new() })
    }

    async fn model_call_decision(&self, id: &RequestId) -> Result<ModelCallDecision> {
        let (at, record) = (Timestamp::ZERO, json!({}));
        Ok(ModelCallDecision { id: id.to_string(), at, node: "a".into(), same: true, text: String::new(), record })
    }

    async fn list_providers(&self) -> Result<Vec<ProviderInfo>> {
        Ok(Vec::new())
    }

    async fn set_provider(
        &self,
        _: &Context,
        name: &str,
        revision: Option<i64>,
        _: SetProvider,
    ) -> Result<ProviderInfo> {
        Ok(ProviderInfo {
            name: name.to_owned(),
            kind: format!("{revision:?}"),
            base_url: String::new(),
            disabled: false,
            keys: Vec::new(),
            models: Vec::new(),
        })
    }

    async fn remove_provider(&self, _: &Context, _: &str, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    async fn test_provider(&self, _: &Context, _: &str) -> Result<ProviderTest> {
        Ok(ProviderTest { ok: true, keys: Vec::new() })
    }
}

#[async_trait]
impl Kernel for FakeKernel {
    async fn authenticate(&self, token: &str) -> Result<Option<Principal>> {
        let is_revoked = self.with(|state| {
            state.authentications += 1;
            state.revoked.iter().any(|revoked| revoked == token)
        });
        if let Some(role) = Role::ALL.into_iter().find(|role| token_of_role(*role) == token) {
            return Ok((!is_revoked).then(|| principal_of_role(role)));
        }
        let scope = Scope::ALL.into_iter().enumerate().find(|(_, scope)| token_of(*scope) == token);
        Ok(scope.filter(|_| !is_revoked).map(|(number, scope)| Principal {
            token: samples::token_id(number as u128),
            name: token.into(),
            role: None,
            scopes: vec![scope],
            agents: if scope == Scope::Call { vec![samples::agent_name()] } else { Vec::new() },
            models: if scope == Scope::Models { vec!["fast".to_owned()] } else { Vec::new() },
            family: samples::token_id(number as u128),
        }))
    }

    async fn record_refusal(&self, context: &Context, route: &str, reason: &str) -> Result<()> {
        self.with(|state| state.refusals.push((context.clone(), route.into(), reason.into())));
        Ok(())
    }

    async fn record_lockout(&self, context: &Context, wait: Duration) -> Result<()> {
        self.with(|state| state.lockouts.push((context.clone(), wait)));
        Ok(())
    }

    async fn list_tokens(&self) -> Result<Vec<TokenInfo>> {
        Ok(vec![samples::token_info(&samples::token_id(1))])
    }

    async fn create_token(&self, _: &Context, _: CreateToken) -> Result<CreatedToken> {
        Ok(CreatedToken { token: "new".into(), info: samples::token_info(&samples::token_id(2)) })
    }

    async fn rotate_token(&self, _: &Context, id: &TokenId, _: RotateToken) -> Result<CreatedToken> {
        Ok(CreatedToken { token: "new".into(), info: samples::token_info(id) })
    }

    async fn revoke_token(&self, _: &Context, id: &TokenId) -> Result<TokenInfo> {
        Ok(samples::token_info(id))
    }

    async fn deploy_agent(&self, _: &Context, _: DeployAgent) -> Result<Agent> {
        Ok(samples::agent())
    }

    async fn list_agents(&self) -> Result<Vec<Agent>> {
        Ok(vec![samples::agent()])
    }

    async fn get_agent(&self, name: &AgentName) -> Result<Agent> {
        match name.as_str() {
            PANICKING => panic!("planted"),
            FAILING => Err(Fault::internal(DETAIL)),
            SLOW => {
                self.waiting.notify_one();
                self.gate.notified().await;
                Ok(samples::agent())
            }
            "echo" => Ok(samples::agent()),
            _ => Err(Fault::new(Code::AGENT_NOT_FOUND, "no such agent")),
        }
    }

    async fn agent_logs(&self, _: &AgentName, _: usize) -> Result<AgentLogs> {
        Ok(AgentLogs { lines: Vec::new() })
    }

    async fn command_agent(&self, _: &Context, name: &AgentName, command: AgentCommand) -> Result<Agent> {
        self.with(|state| state.commands.push((name.to_string(), command)));
        Ok(samples::agent())
    }

    async fn list_notifications(
        &self,
        _: Option<AgentName>,
        cursor: Option<String>,
        _: usize,
    ) -> Result<Page<Notification>> {
        Ok(Page { items: Vec::new(), next_cursor: cursor.or(Some("evt_1".into())) })
    }

    async fn submit_task(&self, context: &Context, body: SubmitTask, key: Option<String>) -> Result<(Task, bool)> {
        self.with(|state| {
            state.submitted.push(body.clone());
            let known = state.keys.iter().find(|(known, ..)| Some(known) == key.as_ref());
            if let Some((_, input, id)) = known {
                if *input != body.input {
                    return Err(Fault::new(Code::IDEMPOTENCY_CONFLICT, "the key was used before"));
                }
                return Ok((samples::task(id.clone(), body.input), true));
            }
            let mut task = samples::task(samples::task_id(1000 + state.tasks.len() as u128), body.input.clone());
            task.submitted_by = context.owner.clone();
            state.keys.extend(key.map(|key| (key, body.input, task.id.clone())));
            state.tasks.push(task.clone());
            Ok((task, false))
        })
    }

    async fn list_tasks(&self, query: TaskQuery) -> Result<Page<Task>> {
        let mut tasks = self.with(|state| state.tasks.clone());
        tasks.sort_by(|a, b| b.id.cmp(&a.id));
        tasks.retain(|task| query.cursor.as_ref().is_none_or(|cursor| task.id < *cursor));
        tasks.retain(|task| query.submitted_by.as_ref().is_none_or(|owner| task.submitted_by == *owner));
        tasks.retain(|task| query.state.is_none_or(|state| task.state == state));
        let has_more = tasks.len() > query.limit;
        tasks.truncate(query.limit);
        let next_cursor = tasks.last().filter(|_| has_more).map(|task| task.id.to_string());
        Ok(Page { items: tasks, next_cursor })
    }

    async fn get_task(&self, id: &TaskId) -> Result<Task> {
        self.find(id)
    }

    async fn task_steps(&self, id: &TaskId) -> Result<Vec<Step>> {
        self.find(id).map(|_| Vec::new())
    }

    async fn task_events(&self, id: &TaskId, after_seq: i64, limit: usize) -> Result<Vec<TaskEvent>> {
        self.find(id)?;
        let is_wanted = |event: &&TaskEvent| event.task == *id && event.seq > after_seq;
        Ok(self.with(|state| state.events.iter().filter(is_wanted).take(limit).cloned().collect()))
    }

    async fn cancel_task(&self, _: &Context, id: &TaskId) -> Result<Task> {
        self.find(id)
    }

    async fn retry_task(&self, _: &Context, id: &TaskId) -> Result<Task> {
        self.find(id)
    }

    async fn redrive_task(&self, _: &Context, id: &TaskId, input: Option<Value>) -> Result<Task> {
        self.find(id).map(|task| Task { input: input.unwrap_or(task.input.clone()), ..task })
    }

    async fn list_schedules(&self) -> Result<Vec<Schedule>> {
        Ok(vec![samples::schedule()])
    }

    async fn get_schedule(&self, _: &ScheduleId) -> Result<Schedule> {
        Ok(samples::schedule())
    }

    async fn create_schedule(&self, _: &Context, _: CreateSchedule) -> Result<Schedule> {
        Ok(samples::schedule())
    }

    async fn pause_schedule(&self, _: &Context, _: &ScheduleId, paused: bool) -> Result<Schedule> {
        Ok(Schedule { paused, ..samples::schedule() })
    }

    async fn delete_schedule(&self, _: &Context, _: &ScheduleId) -> Result<()> {
        Ok(())
    }

    async fn list_secrets(&self) -> Result<Vec<SecretInfo>> {
        Ok(Vec::new())
    }

    async fn set_secret(&self, _: &Context, name: &SecretName, _: SecretValue) -> Result<SecretInfo> {
        Ok(samples::secret(name))
    }

    async fn rotate_secret(&self, _: &Context, name: &SecretName, _: SecretValue) -> Result<SecretInfo> {
        Ok(samples::secret(name))
    }

    async fn revoke_secret(&self, _: &Context, _: &SecretName) -> Result<()> {
        Ok(())
    }

    async fn query_audit(&self, filter: AuditFilter) -> Result<Page<AuditRecord>> {
        let count = self.with(|state| state.audit_records);
        let after = filter.cursor.unwrap_or(-1);
        let seqs: Vec<i64> = if filter.ascending { (after + 1..count).collect() } else { (0..count).rev().collect() };
        let items = seqs.into_iter().take(filter.limit.unwrap_or(50)).map(record).collect();
        Ok(Page { items, next_cursor: None })
    }

    async fn verify_audit(&self) -> Result<AuditVerification> {
        Ok(AuditVerification { valid: true, records: 0, checkpoints: 0, root: String::new(), finding: None })
    }

    async fn audit_checkpoint(&self) -> Result<AuditCheckpoint> {
        Ok(AuditCheckpoint { note: String::new(), verifier_key: String::new() })
    }

    async fn export_audit(&self, _: &Context, from_seq: i64, _: Option<i64>) -> Result<Vec<u8>> {
        Ok(format!("{{\"seq\":{from_seq}}}\n").into_bytes())
    }

    async fn prune_audit(&self, _: &Context, body: PruneAudit) -> Result<AuditPruned> {
        let (dry_run, held) = (body.dry_run, Vec::new());
        let (first_kept, first_kept_before, before) = (body.keep_from.unwrap_or(0), 0, samples::NOW);
        Ok(AuditPruned { dry_run, before, days: 0, records: 0, first_kept, first_kept_before, held })
    }

    async fn list_audit_holds(&self) -> Result<Vec<AuditHold>> {
        Ok(Vec::new())
    }

    async fn add_audit_hold(&self, _: &Context, body: AddAuditHold) -> Result<AuditHold> {
        let AddAuditHold { name, reason, from } = body;
        Ok(AuditHold { name, reason, from, placed_by: "token".into(), placed_at: samples::NOW })
    }

    async fn release_audit_hold(&self, _: &Context, _: &str) -> Result<()> {
        Ok(())
    }

    async fn rotate_audit_key(&self, _: &Context) -> Result<AuditKeyRotated> {
        Ok(AuditKeyRotated { old_key: String::new(), new_key: String::new() })
    }

    async fn audit_witnesses(&self) -> Result<Vec<WitnessTarget>> {
        Ok(vec![samples::witness_target()])
    }

    async fn submit_checkpoint(&self, _: &Context, body: SubmitCheckpoint) -> Result<HeldCheckpoint> {
        Ok(HeldCheckpoint { note: body.note, ..samples::held_checkpoint() })
    }

    async fn held_checkpoint(&self, log: &LogName) -> Result<HeldCheckpoint> {
        Ok(HeldCheckpoint { log: log.clone(), ..samples::held_checkpoint() })
    }

    async fn list_witnessed_logs(&self) -> Result<Vec<WitnessedLog>> {
        Ok(vec![samples::witnessed_log()])
    }

    async fn add_witnessed_log(&self, _: &Context, body: AddWitnessedLog) -> Result<WitnessedLog> {
        Ok(WitnessedLog { name: body.name, ..samples::witnessed_log() })
    }

    async fn get_witnessed_log(&self, name: &LogName) -> Result<WitnessedLogDetail> {
        let log = WitnessedLog { name: name.clone(), ..samples::witnessed_log() };
        Ok(WitnessedLogDetail { log, checkpoints: vec![samples::held_checkpoint()] })
    }

    async fn remove_witnessed_log(&self, _: &Context, _: &LogName) -> Result<()> {
        Ok(())
    }

    async fn get_retention(&self) -> Result<RetentionStatus> {
        Ok(samples::retention())
    }

    async fn preview_retention(&self) -> Result<Vec<RetentionRows>> {
        Ok(vec![RetentionRows { kind: "tasks".into(), rows: 3 }])
    }

    async fn run_retention(&self, _: &Context) -> Result<RetentionStatus> {
        Ok(samples::retention())
    }

    async fn ready(&self) -> bool {
        self.with(|state| state.is_ready)
    }

    async fn health(&self) -> Result<Health> {
        Ok(samples::health())
    }

    async fn metrics(&self) -> Result<String> {
        Ok("# TYPE kernel_things counter\nkernel_things_total 3\n# EOF\n".into())
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn subscribe_audit(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

fn record(seq: i64) -> AuditRecord {
    AuditRecord {
        seq,
        id: agentos_types::EventId::generate(Timestamp::ZERO, seq as u128),
        at: Timestamp::ZERO,
        actor: agentos_types::Actor::System,
        action: "test.act".into(),
        resource: String::new(),
        phase: agentos_types::audit::Phase::Fact,
        decision: agentos_types::audit::Decision::Succeeded,
        task: None,
        correlation: None,
        facts: Map::new(),
        leaf_hash: String::new(),
    }
}
