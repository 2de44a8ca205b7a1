//! The open system calls of one worker. A call that is under way outlives the worker: its outcome is recorded either way,
//! and the task is given back only after that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentos_protocol::{
    KernelFrame,
    frame::{CallError, Outcome},
    wire,
};
use agentos_types::{Code, Fault, Result, TaskId, task::ErrorClass};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

/// Calls that a worker may have open at the same time. More is a defect of the agent, and each costs a task of ours.
pub(crate) const OPEN_CALLS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Calls {
    open: Mutex<HashMap<u64, TaskId>>,
    /// Changes with every call that closes.
    closed: watch::Sender<u64>,
    replies: mpsc::Sender<Vec<u8>>,
}

/// One call. Dropped without an answer (its work panicked), it answers with an internal error.
#[derive(Debug)]
pub(crate) struct OpenCall {
    calls: Arc<Calls>,
    id: u64,
    answered: bool,
}

impl Calls {
    pub(crate) fn new(replies: mpsc::Sender<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), closed: watch::Sender::new(0), replies })
    }

    pub(crate) fn open(self: &Arc<Self>, id: u64, task: &TaskId) -> Result<OpenCall> {
        let mut open = self.lock();
        if open.len() >= OPEN_CALLS_MAX {
            return Err(Fault::new(
                Code::PROTOCOL_ORDER,
                format!("more than {OPEN_CALLS_MAX} calls are open at the same time"),
            ));
        }
        if open.contains_key(&id) {
            return Err(Fault::new(Code::PROTOCOL_ORDER, format!("call {id} is open already")));
        }
        open.insert(id, task.clone());
        Ok(OpenCall { calls: self.clone(), id, answered: false })
    }

    /// Returns when no call of the task is open.
    pub(crate) async fn settled(&self, task: &TaskId) {
        let mut closed = self.closed.subscribe();
        // The sender is ours, so the wait ends only when the condition holds.
        let _ = closed.wait_for(|_| !self.lock().values().any(|of| of == task)).await;
    }

    /// Before its answer is sent: the worker may use the number again as soon as it has it.
    fn close(&self, id: u64) {
        self.lock().remove(&id);
        self.closed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TaskId>> {
        // A map of ids is whole after any panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCall {
    pub(crate) async fn answer(mut self, outcome: std::result::Result<Value, CallError>) {
        self.answered = true;
        self.calls.close(self.id);
        // Fails when the worker is gone: then nobody waits.
        let _ = self.calls.replies.send(reply(self.id, outcome)).await;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.answered {
            self.calls.close(self.id);
            let fault = Fault::internal("the call ended without an answer");
            // A full queue is that of a worker that does not read; the watchdog has it in sight.
            let _ = self.calls.replies.try_send(reply(self.id, Err(CallError::new(&fault, ErrorClass::Transient))));
        }
    }
}

/// A result that does not fit into a frame becomes an error that says so.
fn reply(id: u64, outcome: std::result::Result<Value, CallError>) -> Vec<u8> {
    let outcome = outcome.map_or_else(Outcome::Error, Outcome::Ok);
    wire::encode(&KernelFrame::Reply { id, outcome })
        .or_else(|fault| {
            let outcome = Outcome::Error(CallError::new(&fault, ErrorClass::Permanent));
            wire::encode(&KernelFrame::Reply { id, outcome })
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;
    use serde_json::json;

    use super::*;

    fn task(n: u128) -> TaskId {
        TaskId::generate(Timestamp::ZERO, n)
    }

    fn decoded(bytes: &[u8]) -> Value {
        wire::decode(&bytes[4..]).unwrap()
    }

    #[tokio::test]
    async fn numbers_are_unique_while_open_and_free_once_answered() {
        let (replies, mut queue) = mpsc::channel(4);
        let calls = Calls::new(replies);
        let first = calls.open(7, &task(1)).unwrap();
        assert_eq!(calls.open(7, &task(1)).unwrap_err().code, Code::PROTOCOL_ORDER);
        first.answer(Ok(json!(1))).await;
        assert_eq!(decoded(&queue.recv().await.unwrap()), json!({"type": "reply", "id": 7, "ok": 1}));
        let _again = calls.open(7, &task(1)).unwrap();
    }

    #[tokio::test]
    async fn open_calls_are_bounded_and_a_panic_is_an_answer() {
        let (replies, mut queue) = mpsc::channel(OPEN_CALLS_MAX);
        let calls = Calls::new(replies);
        let limit = u64::try_from(OPEN_CALLS_MAX).unwrap();
        let open: Vec<_> = (0..limit).map(|id| calls.open(id, &task(1)).unwrap()).collect();
        assert_eq!(calls.open(limit, &task(1)).unwrap_err().code, Code::PROTOCOL_ORDER);
        drop(open);
        assert_eq!(decoded(&queue.recv().await.unwrap())["error"]["code"], "AOS-1000");
        calls.open(limit, &task(1)).unwrap();
    }

    #[tokio::test]
    async fn a_task_is_settled_when_its_own_calls_are() {
        let (replies, _queue) = mpsc::channel(4);
        let calls = Calls::new(replies);
        let (one, _other) = (calls.open(1, &task(1)).unwrap(), calls.open(2, &task(2)).unwrap());
        let settled = tokio::spawn({
            let calls = calls.clone();
            async move { calls.settled(&task(1)).await }
        });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        one.answer(Ok(Value::Null)).await;
        settled.await.unwrap();
    }

    #[test]
    fn a_result_above_the_frame_limit_becomes_an_error() {
        let huge = "x".repeat(agentos_types::limits::FRAME_BYTES_MAX);
        assert_eq!(decoded(&reply(1, Ok(json!(huge))))["error"]["code"], "AOS-1501");
    }
}
