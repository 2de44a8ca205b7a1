//! The world outside: it carries requests out, counts them, and stops before and after each, so that anything can happen
//! in between.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use agentos_authority::Authorized;
use agentos_monitor::{Call, Executors};
use agentos_protocol::Syscall;
use agentos_store::Tx;
use agentos_types::{Code, Fault, Result, TaskId, task::Safety};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::deed::Answer;

/// A request that stands still until it is told to go on.
#[derive(Debug)]
pub struct Stop {
    /// False before the act, true after it.
    pub acted: bool,
    pub go: oneshot::Sender<Answer>,
}

/// What the world has seen of one request.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub acts: u64,
    /// Acts under each decision of a person to send it again.
    pub by_decision: BTreeMap<u64, u64>,
    pub keys: Vec<String>,
}

/// A request: the task, its step, and what was asked.
pub type Request = (TaskId, String, String);

/// What outlives every crash.
#[derive(Clone, Default)]
pub struct World {
    pub seen: Arc<Mutex<BTreeMap<Request, Seen>>>,
    /// Decisions of a person about each task.
    pub decisions: Arc<Mutex<BTreeMap<TaskId, u64>>>,
}

impl World {
    pub fn decisions_of(&self, task: &TaskId) -> u64 {
        self.decisions.lock().unwrap().get(task).copied().unwrap_or(0)
    }

    pub fn decide(&self, task: &TaskId) {
        *self.decisions.lock().unwrap().entry(task.clone()).or_default() += 1;
    }
}

/// The executors of one life of the server.
pub struct Hands {
    pub world: World,
    pub stops: mpsc::UnboundedSender<Stop>,
}

impl Hands {
    async fn stop(&self, acted: bool) -> Answer {
        let (go, told) = oneshot::channel();
        // Whoever drops the other end has died together with this request.
        if self.stops.send(Stop { acted, go }).is_err() {
            return std::future::pending().await;
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Executors for Hands {
    /// Counts itself in the same transaction, so that a second time would show.
    fn local(&self, tx: &mut Tx<'_>, call: Authorized<Call>) -> Result<Value> {
        let call = call.get();
        let Syscall::KvPut(put) = &call.syscall else { return Err(Fault::internal("not a call of this world")) };
        let key = format!("{} {}", call.lease.task, put.key);
        let count = tx.query_one(
            "INSERT INTO kv (agent, key, version, value_key, value, updated_at) VALUES ('sim', $1, 1, 0, $2, 0)
             ON CONFLICT (agent, key) DO UPDATE SET version = kv.version + 1 RETURNING version",
            &[key.as_str().into(), b"1".as_slice().into()],
            |row| row.integer(0),
        )?;
        Ok(json!({"version": count}))
    }

    async fn outward(&self, call: Authorized<Call>) -> Result<Value> {
        let call = call.into_inner();
        let asked = serde_json::to_string(&call.syscall).map_err(Fault::internal)?;
        // What a person decides from here on is about a later request.
        let decision = self.world.decisions_of(&call.lease.task);
        if self.stop(false).await == Answer::Unreachable {
            return Err(Fault::new(Code::CONNECT_FAILED, "nobody listens"));
        }
        let acts = {
            let mut all = self.world.seen.lock().unwrap();
            let seen = all.entry((call.lease.task.clone(), call.step.clone(), asked)).or_default();
            seen.acts += 1;
            seen.keys.push(call.idempotency_key());
            let acts = seen.by_decision.entry(decision).or_default();
            *acts += 1;
            let (safety, times) = (call.syscall.safety(), *acts);
            assert!(
                safety != Safety::Unsafe || times == 1,
                "{} of {} was sent {times} times",
                call.step,
                call.lease.task
            );
            seen.acts
        };
        match self.stop(true).await {
            Answer::Silent => Err(Fault::new(Code::REMOTE_TIMEOUT, "no answer")),
            _ => Ok(json!({"acts": acts})),
        }
    }
}
