//! The durable journal: tasks, their leases, steps, events and schedules.
//!
//! Nothing acknowledged is lost, no step that is recorded is asked for again, and no late worker can write: every write of
//! a worker names the fence of its lease. All rules live in synchronous functions over one transaction, so that the
//! monitor can put a step, its effect and its audit record into one commit.
//!
//! Not here: processes (supervisor), permissions (monitor), the text of tasks for people (gateway, CLI).

pub mod cadence;
mod clock;
mod fire;
mod intake;
mod journal;
mod operate;
mod payload;
#[cfg(test)]
mod plans;
mod read;
pub mod retention;
mod retry;
mod schedule;
mod spans;
mod sweep;
mod transition;
mod watch;
mod worker;

pub use clock::ClockStep;
pub use read::STEP_RESULT_LISTED_BYTES_MAX;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_base::Ambient;
use agentos_store::Store;
use agentos_types::{
    AgentName, ScheduleId, TaskId, Timestamp,
    task::{Cadence, Failure, Safety, Task, TaskState},
};
use serde_json::Value;
use tokio::sync::Notify;

/// Settings of the journal; the binary reads them from the configuration.
#[derive(Clone, Debug)]
pub struct TasksOptions {
    /// Name of this node; leases carry it, and [`Tasks::recover`] gives back the leases of this name only.
    pub node: String,
    /// Attempts of a task that names no number itself.
    pub attempts_max: i64,
    /// How long a worker holds a task without renewing.
    pub lease: Duration,
    /// Tasks that may wait for one agent.
    pub queue_max: u64,
    /// Shortest interval of a schedule.
    pub interval_min: Duration,
}

/// The handle to the journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    store: Store,
    core: Arc<Core>,
}

/// What the rules need besides a transaction. Kept apart from the store, so that an operation that waits in the store's
/// queue does not keep the store open.
#[derive(Debug)]
struct Core {
    ambient: Ambient,
    options: TasksOptions,
    /// Rung when something will become due earlier than the sweeper believes.
    wake: Notify,
    /// Waiting tasks whose time came up to here were announced already.
    woken_until: Mutex<Timestamp>,
    /// When tasks that others have put there were last looked for.
    polled_at: Mutex<Timestamp>,
    /// Tasks that each agent may get before its queue is counted again.
    room: Mutex<BTreeMap<AgentName, u64>>,
}

/// What a caller submits.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    pub agent: AgentName,
    pub input: Value,
    pub idempotency_key: Option<String>,
    /// Not claimed before this instant.
    pub run_at: Option<Timestamp>,
    pub deadline_at: Option<Timestamp>,
    pub attempts_max: Option<i64>,
    /// W3C trace context of the request; the task becomes a child span of it.
    pub traceparent: Option<String>,
}

impl NewTask {
    /// A task to be done now, with the defaults.
    pub fn new(agent: AgentName, input: Value) -> Self {
        Self {
            agent,
            input,
            idempotency_key: None,
            run_at: None,
            deadline_at: None,
            attempts_max: None,
            traceparent: None,
        }
    }
}

/// Answer to a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    pub task: Task,
    /// True when the idempotency key had made this task before; nothing was written.
    pub replayed: bool,
}

/// Which tasks to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub agent: Option<AgentName>,
    pub state: Option<TaskState>,
    /// Only tasks of this owner.
    pub submitted_by: Option<String>,
    /// Keyset cursor: only tasks with a smaller id.
    pub after: Option<TaskId>,
    /// At most one more than [`agentos_types::limits::PAGE_MAX`] are returned.
    pub limit: usize,
}

/// A worker's hold on a task. Every write of the worker names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub task: TaskId,
    pub agent: AgentName,
    pub fence: i64,
    /// When it ends unless renewed, by the clock of leases ([`agentos_store::Conn::now`]); a renewal moves the stored end,
    /// not this copy.
    pub until: Timestamp,
    /// The span of this attempt; steps are its children.
    pub traceparent: String,
}

/// A task handed to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub task: Task,
    pub lease: Lease,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Completed(Value),
    Failed(Failure),
    /// The worker stopped because a cancel was asked for.
    Canceled,
}

/// A step that is about to act.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// Chosen by the agent, unique within the task, the same on each attempt.
    pub key: String,
    pub syscall: &'static str,
    pub safety: Safety,
    /// Hash of the canonical call; a key with another hash is refused.
    pub request_hash: String,
}

/// What the journal knows about a step that is about to act.
#[derive(Clone, Debug, PartialEq)]
pub enum StepStart {
    /// Act now, as this span.
    Fresh { seq: i64, traceparent: String },
    /// It was done before; this is its result, do not act.
    Recorded(Value),
}

/// A schedule to create or replace.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    pub agent: AgentName,
    /// Unique per agent.
    pub name: String,
    pub cadence: Cadence,
    pub input: Value,
}

/// Which schedules to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    pub agent: Option<AgentName>,
    /// Keyset cursor: only schedules with a smaller id.
    pub after: Option<ScheduleId>,
    /// At most one more than [`agentos_types::limits::PAGE_MAX`] are returned.
    pub limit: usize,
}

impl Tasks {
    pub fn new(store: Store, ambient: Ambient, options: TasksOptions) -> Self {
        let core = Core {
            ambient,
            options,
            wake: Notify::new(),
            woken_until: Mutex::new(Timestamp(i64::MIN)),
            polled_at: Mutex::new(Timestamp(i64::MIN)),
            room: Mutex::new(BTreeMap::new()),
        };
        Self { store, core: Arc::new(core) }
    }

    pub fn options(&self) -> &TasksOptions {
        &self.core.options
    }
}
