//! Tasks, steps, events, schedules as the API, the journal and the CLI show them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, Code, ScheduleId, TaskId, Timestamp};

/// A2A's task states. Terminal states are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    Submitted,
    Working,
    InputRequired,
    AuthRequired,
    Completed,
    Failed,
    Canceled,
    Rejected,
}

impl TaskState {
    pub const ALL: [TaskState; 8] = [
        TaskState::Submitted,
        TaskState::Working,
        TaskState::InputRequired,
        TaskState::AuthRequired,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Canceled,
        TaskState::Rejected,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Submitted => "submitted",
            TaskState::Working => "working",
            TaskState::InputRequired => "input-required",
            TaskState::AuthRequired => "auth-required",
            TaskState::Completed => "completed",
            TaskState::Failed => "failed",
            TaskState::Canceled => "canceled",
            TaskState::Rejected => "rejected",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, TaskState::Completed | TaskState::Failed | TaskState::Canceled | TaskState::Rejected)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it was; decides whether and how soon a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Network, upstream 5xx, busy: try again with back-off.
    Transient,
    /// The other side said "later": honours Retry-After, else the long back-off.
    RateLimited,
    /// The worker process died or hung while it held the task.
    Crash,
    /// The task's own deadline passed.
    Deadline,
    /// A grant, policy or limit refused it: trying again cannot help.
    Denied,
    /// The input or the agent is wrong: trying again cannot help.
    Permanent,
    /// An unsafe step was started and not finished: only a person can know whether it happened.
    InDoubt,
}

impl ErrorClass {
    pub const ALL: [ErrorClass; 7] = [
        ErrorClass::Transient,
        ErrorClass::RateLimited,
        ErrorClass::Crash,
        ErrorClass::Deadline,
        ErrorClass::Denied,
        ErrorClass::Permanent,
        ErrorClass::InDoubt,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Transient => "transient",
            ErrorClass::RateLimited => "rate-limited",
            ErrorClass::Crash => "crash",
            ErrorClass::Deadline => "deadline",
            ErrorClass::Denied => "denied",
            ErrorClass::Permanent => "permanent",
            ErrorClass::InDoubt => "in-doubt",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

/// Whether a step may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Safety {
    /// Reading, or writing the same thing again: may be repeated.
    Idempotent,
    /// The receiver gets an idempotency key (task and step) and drops repeats.
    Keyed,
    /// May not be repeated: after a crash in the middle a person decides.
    Unsafe,
}

impl Safety {
    pub fn as_str(self) -> &'static str {
        match self {
            Safety::Idempotent => "idempotent",
            Safety::Keyed => "keyed",
            Safety::Unsafe => "unsafe",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Safety::Idempotent, Safety::Keyed, Safety::Unsafe].into_iter().find(|safety| safety.as_str() == text)
    }
}

/// Why a task failed; `code` is an `AOS-` code where the kernel decided, absent where the agent did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    pub class: ErrorClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<Code>,
    pub message: String,
    /// Seconds that the other side asked to wait, for `rate-limited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A task as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Task {
    pub id: TaskId,
    pub agent: AgentName,
    pub state: TaskState,
    #[schema(value_type = Object)]
    pub input: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Attempts started so far.
    pub attempt: i64,
    pub attempts_max: i64,
    /// Label of its owner: `system`, `agent:NAME`, or `token:ID` with the first token of a line of rotations.
    pub submitted_by: String,
    pub submitted_at: Timestamp,
    pub updated_at: Timestamp,
    /// Not claimed before this instant.
    pub run_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_asked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    pub traceparent: String,
    /// How often a person sent the dead letter back to work.
    pub redrives: i64,
}

/// One journalled system call of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    pub key: String,
    pub seq: i64,
    pub syscall: String,
    /// `started`, `done` or `failed`.
    pub status: String,
    pub safety: Safety,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    pub traceparent: String,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// One entry of a task's event stream. `seq` starts at 1 and has no gaps within a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskEvent {
    pub task: TaskId,
    pub seq: i64,
    pub at: Timestamp,
    /// `state`, `progress`, `notify` or `step`.
    pub kind: String,
    #[schema(value_type = Object)]
    pub data: Value,
}

impl TaskEvent {
    /// The state that a `state` event reports; `None` for every other event.
    pub fn state(&self) -> Option<TaskState> {
        let state = self.data.get("state").filter(|_| self.kind == "state")?;
        TaskState::parse(state.as_str()?)
    }
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Cadence {
    /// Every `every_s` seconds from creation.
    Interval { every_s: u64 },
    /// Five-field cron expression in an IANA time zone.
    Cron { expression: String, timezone: String },
}

/// A schedule as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Schedule {
    pub id: ScheduleId,
    /// Unique per agent; creating the same name again replaces the cadence and input.
    pub name: String,
    pub agent: AgentName,
    pub cadence: Cadence,
    #[schema(value_type = Object)]
    pub input: Value,
    pub paused: bool,
    pub created_by: String,
    pub next_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    pub fired: i64,
}
