//! The tasks that this worker works on: each in a tokio task of its own, each answered exactly once.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use agentos_protocol::WorkerFrame;
use agentos_types::{Code, Fault, Result, TaskId, task::ErrorClass};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::sleep,
};

use crate::{
    TaskError,
    context::{Assignment, TaskContext},
    link::Link,
};

/// What a handler's call yields once its type is erased.
pub type Handling = Pin<Box<dyn Future<Output = Result<Value, TaskError>> + Send>>;
pub type Handler = Arc<dyn Fn(TaskContext, Value) -> Handling + Send + Sync>;

/// The largest `concurrent_tasks` that a manifest may name. More is a defect of the kernel.
const TASKS_MAX: usize = 256;

/// What the kernel wants of a running task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    GoOn,
    /// The process is to exit; a result still counts.
    Finish,
    /// Answer `canceled` when the handler returns, or when it was dropped after this time.
    Cancel {
        within: Duration,
    },
}

/// The part of the kernel's grace time that a handler gets. The rest is for the answer to arrive before the kill.
pub fn usable(grace_ms: u64) -> Duration {
    Duration::from_millis(grace_ms).mul_f64(0.8)
}

pub struct Tasks {
    handler: Handler,
    link: Arc<Link>,
    running: JoinSet<(TaskId, i64)>,
    wishes: HashMap<TaskId, (i64, watch::Sender<Wish>)>,
}

impl Tasks {
    pub fn new(handler: Handler, link: Arc<Link>) -> Self {
        Self { handler, link, running: JoinSet::new(), wishes: HashMap::new() }
    }

    /// A later attempt replaces an earlier one, which may have answered a moment ago and not be reaped yet.
    pub fn start(&mut self, assignment: Assignment, input: Value) -> Result<()> {
        let (task, attempt) = (assignment.task.clone(), assignment.attempt);
        if self.wishes.get(&task).is_some_and(|(known, _)| *known >= attempt) {
            return Err(Fault::new(Code::PROTOCOL_ORDER, format!("task {task} was handed out twice")));
        }
        if self.running.len() >= TASKS_MAX {
            return Err(Fault::new(Code::PROTOCOL_ORDER, format!("more than {TASKS_MAX} tasks at the same time")));
        }
        let (wish, wished) = watch::channel(Wish::GoOn);
        let context = TaskContext::new(self.link.clone(), assignment, wished.clone());
        let (handler, given) = (self.handler.clone(), context.clone());
        // Called inside the task, so that a panic before the first await is the handler's as well.
        let handling = async move { handler(given, input).await };
        let link = self.link.clone();
        self.wishes.insert(task.clone(), (attempt, wish));
        self.running.spawn(async move {
            let end = attend(handling, wished).await;
            context.finish();
            answer(&link, &task, end).await;
            (task, attempt)
        });
        Ok(())
    }

    /// A task that is not here was answered before the frame came: the kernel has or gets that answer.
    pub fn cancel(&self, task: &TaskId, grace_ms: u64) {
        if let Some((_, wish)) = self.wishes.get(task) {
            wish.send_replace(Wish::Cancel { within: usable(grace_ms) });
        }
    }

    /// Asks all handlers to come to an end; a cancel that was asked before stays one.
    pub fn finish_all(&self) {
        for (_, wish) in self.wishes.values() {
            wish.send_if_modified(|wish| std::mem::replace(wish, wish.or_finish()) == Wish::GoOn);
        }
    }

    /// Waits until one more task is answered. Cancel-safe; never returns while no task runs.
    pub async fn reap(&mut self) {
        match self.running.join_next().await {
            Some(Ok((task, attempt))) => {
                if self.wishes.get(&task).is_some_and(|(known, _)| *known == attempt) {
                    self.wishes.remove(&task);
                }
            }
            // Handlers run in an inner task, so only the runtime's own end can bring this about.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

impl Wish {
    fn or_finish(self) -> Self {
        match self {
            Wish::GoOn => Wish::Finish,
            other => other,
        }
    }
}

/// How the work on a task ended.
enum End {
    Returned(Result<Value, TaskError>),
    Panicked,
    Canceled,
    /// A later attempt has taken its place, or the session is over.
    Replaced,
}

async fn attend<F>(handling: F, mut wished: watch::Receiver<Wish>) -> End
where
    F: Future<Output = Result<Value, TaskError>> + Send + 'static,
{
    // A task of its own: its panic is caught there, and dropping the set drops the handler.
    let mut inner = JoinSet::new();
    inner.spawn(handling);
    let returned = tokio::select! {
        returned = inner.join_next() => returned,
        end = patience_ends(wished.clone()) => return end,
    };
    // A wish that came before the result counts: the kernel waits for `canceled`.
    match (wished.has_changed(), *wished.borrow_and_update()) {
        (Err(_), _) => End::Replaced,
        (Ok(_), Wish::Cancel { .. }) => End::Canceled,
        (Ok(_), _) => {
            returned.map_or(End::Panicked, |joined: Result<_, JoinError>| joined.map_or(End::Panicked, End::Returned))
        }
    }
}

/// Resolves when a handler that has not returned must be dropped.
async fn patience_ends(mut wished: watch::Receiver<Wish>) -> End {
    let cancel = wished.wait_for(|wish| matches!(wish, Wish::Cancel { .. })).await.map(|wish| *wish);
    match cancel {
        Ok(Wish::Cancel { within }) => sleep(within).await,
        Ok(_) => {}
        Err(_) => return End::Replaced,
    }
    End::Canceled
}

async fn answer(link: &Link, task: &TaskId, end: End) {
    let task = task.clone();
    let failed = |task, error: TaskError| WorkerFrame::Failed {
        task,
        class: error.class,
        message: error.message,
        retry_after_s: error.retry_after_s,
    };
    let frame = match end {
        End::Returned(Ok(output)) => WorkerFrame::Done { task: task.clone(), output },
        End::Returned(Err(error)) => failed(task.clone(), error),
        End::Panicked => {
            failed(task.clone(), TaskError::new(ErrorClass::Crash, "the handler panicked; see the agent's log"))
        }
        End::Canceled => WorkerFrame::Canceled { task: task.clone() },
        End::Replaced => return,
    };
    if let Err(fault) = link.send(&frame).await {
        // Too large for a frame. Should the session be over instead, this fails too, and nobody waits for it.
        let refusal = TaskError::permanent(format!("the result cannot be sent: {}", fault.message));
        let _ = link.send(&failed(task, refusal)).await;
    }
}
