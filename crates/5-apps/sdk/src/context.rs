//! What a handler knows about its task, and its way to the kernel.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agentos_protocol::{
    Syscall, WorkerFrame,
    frame::{CallError, Outcome},
};
use agentos_types::{Code, Fault, TaskId, Timestamp, task::ErrorClass};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use crate::{link::Link, tasks::Wish};

/// One attempt at one task. Cheap to clone; a clone that outlives the handler gets errors for its calls.
#[derive(Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    assignment: Assignment,
    wish: watch::Receiver<Wish>,
    over: AtomicBool,
}

/// The parts of the kernel's `task` frame that are not the input.
pub struct Assignment {
    pub task: TaskId,
    pub attempt: i64,
    pub deadline_at: Option<Timestamp>,
    pub traceparent: String,
}

impl TaskContext {
    pub(crate) fn new(link: Arc<Link>, assignment: Assignment, wish: watch::Receiver<Wish>) -> Self {
        Self { inner: Arc::new(Inner { link, assignment, wish, over: AtomicBool::new(false) }) }
    }

    pub fn task_id(&self) -> &TaskId {
        &self.inner.assignment.task
    }

    /// Starts at 1. A handler needs it only for messages: recorded steps answer by themselves.
    pub fn attempt(&self) -> i64 {
        self.inner.assignment.attempt
    }

    /// The kernel fails the task after this instant.
    pub fn deadline_at(&self) -> Option<Timestamp> {
        self.inner.assignment.deadline_at
    }

    /// W3C trace context of the task.
    pub fn traceparent(&self) -> &str {
        &self.inner.assignment.traceparent
    }

    /// Resolves when the handler should stop: the task was canceled, or the worker is to exit. It may still tidy up with
    /// calls that need no network; soon afterwards it is dropped. After a cancel the kernel is told `canceled` whatever the
    /// handler returns; before an exit the handler's result counts as usual.
    pub async fn canceled(&self) {
        let mut wish = self.inner.wish.clone();
        // An error means that the session is gone, which is a reason to stop as well.
        let _ = wish.wait_for(|wish| *wish != Wish::GoOn).await;
    }

    pub fn is_canceled(&self) -> bool {
        *self.inner.wish.borrow() != Wish::GoOn || self.inner.wish.has_changed().is_err()
    }

    /// Shows people how far the task is; lands in its event stream.
    pub async fn progress(&self, data: Value) -> Result<(), CallError> {
        self.still_open()?;
        let frame = WorkerFrame::Progress { task: self.task_id().clone(), data };
        self.inner.link.send(&frame).await.map_err(|fault| local(&fault))
    }

    /// A system call. `step` names it within the task and must be the same on every attempt; `R` is the result type of the
    /// call, or [`Value`].
    pub async fn call<R: DeserializeOwned>(&self, step: impl Into<String>, call: Syscall) -> Result<R, CallError> {
        self.still_open()?;
        let (syscall, step, task) = (call.name(), step.into(), self.task_id().clone());
        let args = arguments(&call).map_err(|fault| local(&fault))?;
        let frame = |id| WorkerFrame::Call { id, task, step, syscall: syscall.into(), args };
        match self.inner.link.call(frame).await {
            Ok(Outcome::Ok(value)) => serde_json::from_value(value).map_err(|source| {
                local(&Fault::new(
                    Code::FRAME_MALFORMED,
                    format!("the result of {syscall} is not as expected: {source}"),
                ))
            }),
            Ok(Outcome::Error(error)) => Err(error),
            Err(fault) => Err(local(&fault)),
        }
    }

    /// After the handler is done the task belongs to the kernel alone.
    pub(crate) fn finish(&self) {
        self.inner.over.store(true, Ordering::SeqCst);
    }

    fn still_open(&self) -> Result<(), CallError> {
        match self.inner.over.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(local(&Fault::new(Code::TASK_UNKNOWN_TO_WORKER, "the task's handler has returned"))),
        }
    }
}

impl std::fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskContext").field("task", self.task_id()).field("attempt", &self.attempt()).finish()
    }
}

fn arguments(call: &Syscall) -> Result<Value, Fault> {
    let mut tagged = serde_json::to_value(call).map_err(Fault::internal)?;
    Ok(tagged.get_mut("args").map(Value::take).unwrap_or_default())
}

/// An error that arose in this process. A closed session is the kernel's doing and worth another attempt; the rest is ours.
fn local(fault: &Fault) -> CallError {
    let class = if fault.code == Code::WORKER_EXITED { ErrorClass::Transient } else { ErrorClass::Permanent };
    CallError::new(fault, class)
}
