//! The supervisor's port bound to the monitor.

use agentos_authority::Caller;
use agentos_monitor::{CallRequest, Monitor};
use agentos_protocol::frame::CallError;
use agentos_supervisor::Syscalls;
use agentos_tasks::Lease;
use async_trait::async_trait;
use serde_json::Value;

pub struct MonitoredSyscalls(pub Monitor);

#[async_trait]
impl Syscalls for MonitoredSyscalls {
    async fn call(
        &self,
        caller: &Caller,
        lease: &Lease,
        step: String,
        syscall: String,
        args: Value,
    ) -> Result<Value, CallError> {
        self.0.call(caller, lease, CallRequest { step, syscall, args }).await
    }
}
