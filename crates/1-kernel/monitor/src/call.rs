//! A call on its way through the monitor, and the port to what executes it.

use agentos_authority::Authorized;
use agentos_protocol::Syscall;
use agentos_store::Tx;
use agentos_tasks::Lease;
use agentos_types::Result;
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
    /// The hold on the task that the call belongs to.
    pub lease: Lease,
    pub step: String,
    /// Traceparent of the step's span.
    pub traceparent: String,
}

impl Call {
    /// The same for every attempt of the step: what a receiver needs to drop repeats. Visible ASCII whatever the step is
    /// called, because it travels as a header.
    pub fn idempotency_key(&self) -> String {
        let mut key = format!("{}/", self.lease.task);
        for byte in self.step.bytes() {
            match byte {
                b'%' => key.push_str("%25"),
                b'!'..=b'~' => key.push(char::from(byte)),
                _ => key.push_str(&format!("%{byte:02X}")),
            }
        }
        key
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

#[cfg(test)]
mod tests {
    use agentos_protocol::syscall::KvGet;
    use agentos_types::Timestamp;

    use super::*;

    #[test]
    fn an_idempotency_key_is_a_header_value_and_tells_steps_apart() {
        let key = |step: &str| {
            let lease = Lease {
                task: "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap(),
                agent: "a".parse().unwrap(),
                fence: 1,
                until: Timestamp::ZERO,
                traceparent: String::new(),
            };
            let syscall = Syscall::KvGet(KvGet { key: "k".into() });
            Call { syscall, lease, step: step.into(), traceparent: String::new() }.idempotency_key()
        };
        assert_eq!(key("deliver-1"), "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E/deliver-1");
        for step in ["é", "a b", "a\r\nx: y", "%C3%A9", "a%"] {
            assert!(key(step).bytes().all(|byte| byte.is_ascii_graphic()), "{step:?}");
        }
        assert_ne!(key("é"), key("%C3%A9"));
    }
}
