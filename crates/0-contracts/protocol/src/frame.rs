//! The frames, in both directions. Identity is the socket: no frame carries a name or a token.

use std::fmt;

use agentos_types::{AgentName, Code, Fault, InstanceId, TaskId, Timestamp, task::ErrorClass};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the kernel to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum KernelFrame {
    /// Answer to `hello`; says who the worker is and what it must keep to.
    Welcome { protocol: u32, agent: AgentName, instance: InstanceId, heartbeat_ms: u64, frame_bytes_max: usize },
    /// Work. `attempt` starts at 1; calls whose step key was recorded by an earlier attempt answer from the journal.
    Task {
        task: TaskId,
        input: Value,
        attempt: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_at: Option<Timestamp>,
        traceparent: String,
    },
    /// Answer to `call`, by its id.
    Reply {
        id: u64,
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Stop working on the task and answer `canceled`; the process is killed when the grace time ends.
    Cancel { task: TaskId, grace_ms: u64 },
    /// Answer with `pong` and the same number within the heartbeat time.
    Ping { n: u64 },
    /// Finish or drop the work and exit; the process is killed when the grace time ends.
    Shutdown { grace_ms: u64 },
    /// The protocol was broken; the socket closes after this frame.
    Fatal { code: Code, message: String },
}

/// Result of a system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok(Value),
    Error(CallError),
}

/// Why a call failed, as the worker may know it. `class` tells whether a later attempt can succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    pub code: Code,
    pub message: String,
    pub class: ErrorClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl CallError {
    pub fn new(fault: &Fault, class: ErrorClass) -> Self {
        Self {
            code: fault.code,
            message: fault.message.clone(),
            class,
            retry_after_ms: fault.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for CallError {}

/// From a worker to the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum WorkerFrame {
    /// The first frame.
    Hello {
        protocol: u32,
        sdk: String,
    },
    /// The second frame: work may come, at most the manifest's `concurrent_tasks` at a time.
    Ready {},
    /// A system call. `id` is chosen by the worker and unique among its open calls; `step` names the call within the
    /// task and must be the same on every attempt.
    Call {
        id: u64,
        task: TaskId,
        step: String,
        syscall: String,
        args: Value,
    },
    /// Progress for people; lands in the task's event stream.
    Progress {
        task: TaskId,
        data: Value,
    },
    Done {
        task: TaskId,
        output: Value,
    },
    Failed {
        task: TaskId,
        class: ErrorClass,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    /// Answer to `cancel`.
    Canceled {
        task: TaskId,
    },
    Pong {
        n: u64,
    },
}
