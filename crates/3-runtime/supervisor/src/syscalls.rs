//! The port to the monitor. The supervisor moves frames and decides nothing about them.

use agentos_authority::Caller;
use agentos_protocol::frame::CallError;
use agentos_tasks::Lease;
use async_trait::async_trait;
use serde_json::Value;

/// Carries out the system calls of workers. An implementation bounds its own time: a call that is under way is never
/// dropped in the middle, not even when its worker dies, because its outcome must still be recorded.
#[async_trait]
pub trait Syscalls: Send + Sync {
    /// `caller` is the agent behind the socket on which the call came, `lease` its hold on the task that the call names.
    async fn call(
        &self,
        caller: &Caller,
        lease: &Lease,
        step: String,
        syscall: String,
        args: Value,
    ) -> Result<Value, CallError>;
}
