//! A call on its way through the monitor, and the port to what executes it.

use agentos_authority::Authorized;
use agentos_protocol::Syscall;
use agentos_store::Tx;
use agentos_types::{Result, TaskId};
use async_trait::async_trait;
use serde_json::Value;

/// What a worker asked for, as it came from the socket.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// Names the call within its task; the same on every attempt.
    pub step: String,
    pub syscall: String,
    pub args: Value,
}

/// A call with canonical arguments.
#[derive(Clone, Debug)]
pub struct Call {
    pub syscall: Syscall,
    pub task: TaskId,
    pub step: String,
    /// Traceparent of the step's span.
    pub traceparent: String,
}

impl Call {
    /// The same for every attempt of the step: what a receiver needs to drop repeats.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.task, self.step)
    }
}

/// What carries calls out. Implemented by the built-in tools; takes only what the monitor authorized.
#[async_trait]
pub trait Executors: Send + Sync {
    /// Effects on our own store run inside the transaction that records them, so they happen exactly once.
    fn local(&self, tx: &mut Tx<'_>, call: Authorized<Call>) -> Result<Value>;

    /// Effects on the world, after their intent is durable.
    async fn outward(&self, call: Authorized<Call>) -> Result<Value>;
}
