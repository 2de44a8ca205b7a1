//! The audit event: what is recorded before and after every security-relevant act.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Actor, EventId, TaskId, Timestamp};

/// Where in the act the record was written. `Intent` is durable before an effect starts; `Outcome` follows it.
/// `Fact` records something that needed no intent (a refusal, a transition, a change inside our own store).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Intent,
    Outcome,
    Fact,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Intent => "intent",
            Phase::Outcome => "outcome",
            Phase::Fact => "fact",
        }
    }
}

/// What was decided or what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allowed,
    Denied,
    Succeeded,
    Failed,
}

impl Decision {
    pub const ALL: [Decision; 4] = [Decision::Allowed, Decision::Denied, Decision::Succeeded, Decision::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
            Decision::Succeeded => "succeeded",
            Decision::Failed => "failed",
        }
    }
}

/// One event before it has a place in the log. The log adds sequence, previous hash and leaf hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub id: EventId,
    pub at: Timestamp,
    pub actor: Actor,
    /// `noun.verb`, for example `net.fetch`, `task.submit`, `agent.deploy`.
    pub action: String,
    /// What was acted on: a URL without its query, a path, a task id.
    pub resource: String,
    pub phase: Phase,
    pub decision: Decision,
    pub task: Option<TaskId>,
    /// Joins intent and outcome of one act: the step key or the request id.
    pub correlation: Option<String>,
    /// Facts a reviewer needs (error code, byte counts, hashes); never payloads, never secrets.
    pub facts: Map<String, Value>,
}

impl AuditEvent {
    /// A fact with no task and no extra facts; the builder methods add them.
    pub fn new(
        id: EventId,
        at: Timestamp,
        actor: Actor,
        action: impl Into<String>,
        resource: impl Into<String>,
    ) -> Self {
        Self {
            id,
            at,
            actor,
            action: action.into(),
            resource: resource.into(),
            phase: Phase::Fact,
            decision: Decision::Succeeded,
            task: None,
            correlation: None,
            facts: Map::new(),
        }
    }

    #[must_use]
    pub fn phase(mut self, phase: Phase, decision: Decision) -> Self {
        self.phase = phase;
        self.decision = decision;
        self
    }

    #[must_use]
    pub fn decision(mut self, decision: Decision) -> Self {
        self.decision = decision;
        self
    }

    #[must_use]
    pub fn task(mut self, task: Option<TaskId>) -> Self {
        self.task = task;
        self
    }

    #[must_use]
    pub fn correlation(mut self, correlation: impl Into<String>) -> Self {
        self.correlation = Some(correlation.into());
        self
    }

    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}
