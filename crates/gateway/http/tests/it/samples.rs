//! Values for the kernel in memory.

use std::time::Duration;

use agentos_api::{
    body::{AgentCounts, Health, RetentionPolicy, RetentionStatus, SecretInfo, TokenInfo},
    budgets::BudgetInfo,
};
use agentos_types::{
    AgentName, RequestId, ScheduleId, Scope, SecretName, TaskId, Timestamp, TokenId,
    agent::{Agent, AgentState, Usage},
    budget::{BudgetUnit, Period},
    machine::IsolationLevel,
    manifest::{Limits, TrustLevel},
    task::{Cadence, Schedule, Task, TaskEvent, TaskState},
    witness::{HeldCheckpoint, WitnessTarget, WitnessedLog},
};
use serde_json::{Value, json};

pub const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

pub fn task_id(number: u128) -> TaskId {
    TaskId::generate(NOW.after(Duration::from_millis(number as u64)), number)
}

pub fn token_id(number: u128) -> TokenId {
    TokenId::generate(NOW, number)
}

pub fn schedule_id() -> ScheduleId {
    ScheduleId::generate(NOW, 1)
}

pub fn request_id() -> RequestId {
    RequestId::generate(NOW, 7)
}

pub fn agent_name() -> AgentName {
    "echo".parse().unwrap()
}

pub fn agent() -> Agent {
    Agent {
        name: agent_name(),
        version: "1.0.0".into(),
        description: String::new(),
        state: AgentState::Ready,
        reason: None,
        trust_level: TrustLevel::Supervised,
        grants: Vec::new(),
        limits: Limits::default(),
        budget: None,
        manifest_sha256: String::new(),
        signed_by: String::new(),
        instance: None,
        pid: None,
        restarts: 0,
        deployed_at: NOW,
        state_since: NOW,
        usage: Usage::default(),
        controls: Vec::new(),
    }
}

pub fn task(id: TaskId, input: Value) -> Task {
    Task {
        id,
        agent: agent_name(),
        state: TaskState::Submitted,
        input,
        output: None,
        failure: None,
        attempt: 0,
        attempts_max: 3,
        submitted_by: "token".into(),
        submitted_at: NOW,
        updated_at: NOW,
        run_at: NOW,
        deadline_at: None,
        cancel_asked_at: None,
        schedule: None,
        traceparent: String::new(),
        redrives: 0,
    }
}

pub fn event(task: &TaskId, seq: i64, kind: &str, data: Value) -> TaskEvent {
    TaskEvent { task: task.clone(), seq, at: NOW, kind: kind.into(), data }
}

pub fn schedule() -> Schedule {
    Schedule {
        id: schedule_id(),
        name: "hourly".into(),
        agent: agent_name(),
        cadence: Cadence::Interval { every_s: 3600 },
        input: json!({}),
        paused: false,
        created_by: "token".into(),
        next_at: NOW,
        last_at: None,
        fired: 0,
    }
}

pub fn secret(name: &SecretName) -> SecretInfo {
    let state = "active".into();
    SecretInfo { name: name.clone(), version: 1, state, created_by: "token".into(), created_at: NOW }
}

pub fn token_info(id: &TokenId) -> TokenInfo {
    TokenInfo {
        id: id.clone(),
        name: "t".into(),
        role: None,
        scopes: vec![Scope::Read],
        agents: Vec::new(),
        models: Vec::new(),
        family: id.clone(),
        created_by: "token".into(),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    }
}

pub fn budget() -> BudgetInfo {
    BudgetInfo {
        scope: "agent:echo".parse().unwrap(),
        period: Period::Day,
        unit: BudgetUnit::NanoUsd,
        origin: "operator".into(),
        amount: 5,
        used: 1,
        reserved: 0,
        forfeited: 0,
        resets_at: None,
        set_by: "token".into(),
        set_at: NOW,
    }
}

pub fn retention() -> RetentionStatus {
    let policy = RetentionPolicy {
        task_days: 30,
        dead_letter_days: 90,
        event_days: 30,
        idempotency_days: 7,
        credential_days: 365,
        hour_utc: 3,
    };
    RetentionStatus { policy, running: false, last_run: None, next_at: Some(NOW), counts: Vec::new() }
}

pub fn health() -> Health {
    Health {
        status: "ok".into(),
        version: "0".into(),
        node: "n".into(),
        started_at: NOW,
        schema: 1,
        agents: AgentCounts::default(),
        isolation: IsolationLevel::Strong,
        checks: Vec::new(),
        controls: Vec::new(),
    }
}

pub fn held_checkpoint() -> HeldCheckpoint {
    HeldCheckpoint { log: "node-1".parse().unwrap(), size: 1, seen_at: NOW, note: "note".into(), rotations: Vec::new() }
}

pub fn witnessed_log() -> WitnessedLog {
    WitnessedLog {
        name: "other".parse().unwrap(),
        log: "node-1".parse().unwrap(),
        public_key: "key".into(),
        rotations: Vec::new(),
        added_by: "token".into(),
        added_at: NOW,
        size: Some(1),
        seen_at: Some(NOW),
        refused_at: None,
        refused_code: None,
        refused_note: None,
        refusals: 0,
    }
}

pub fn witness_target() -> WitnessTarget {
    WitnessTarget {
        target: "file".into(),
        size: Some(1),
        at: Some(NOW),
        failures: 0,
        failures_total: 0,
        refused: None,
        problem: None,
        note: None,
    }
}
