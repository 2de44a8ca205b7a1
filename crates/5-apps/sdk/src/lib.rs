//! Rust SDK for agent workers.
//!
//! A worker is a program that AgentOS starts in its own process. It holds no secret and needs no network and no files:
//! everything that it does to the world is a call on its [`TaskContext`], which the kernel checks, records and carries out.
//!
//! ```no_run
//! use agentos_sdk::{Fetch, TaskContext, TaskError, Value, json};
//!
//! async fn handle(context: TaskContext, input: Value) -> Result<Value, TaskError> {
//!     let url = input["url"].as_str().ok_or_else(|| TaskError::permanent("the input has no 'url'"))?;
//!     let page = context.fetch("fetch", Fetch::get(url)).await?;
//!     Ok(json!({"status": page.status, "bytes": page.bytes}))
//! }
//!
//! #[tokio::main]
//! async fn main() -> agentos_sdk::Result<()> {
//!     agentos_sdk::run(handle).await
//! }
//! ```
//!
//! Every call has a *step* key that is unique within the task and the same on every attempt: after a crash the task is
//! handed out again, and steps that were done answer from the journal instead of being done twice.
//!
//! What this crate does not do: it holds no credential, opens no connection, and knows nothing but the worker protocol
//! (`docs/src/reference/worker-protocol.md`).

mod calls;
mod context;
mod error;
mod link;
mod session;
mod socket;
mod tasks;

use std::{future::Future, sync::Arc};

use tokio::net::UnixStream;

pub use agentos_protocol::{
    Syscall,
    frame::CallError,
    syscall::{
        CodeRun, CommandEnd, CommandResult, Fetch, FetchResult, FileEntry, FileList, FileListResult, FileRead,
        FileReadResult, KvDelete, KvDeleteResult, KvGet, KvGetResult, KvList, KvListResult, KvPut, KvPutResult,
        Language, ModelCall, ModelCallResult, ModelProtocol, ModelUsage, NotifyEvent, NotifyEventResult, NotifyWebhook,
        NotifyWebhookResult, Output, ScheduleDelete, ScheduleDeleteResult, ScheduleEntry, ScheduleList,
        ScheduleListResult, SchedulePut, SchedulePutResult, ShellExec,
    },
};
pub use agentos_types::{
    AgentName, Code, Fault, InstanceId, Result, SecretName, TaskId, Timestamp,
    task::{Cadence, ErrorClass},
};
pub use context::TaskContext;
pub use error::TaskError;
pub use serde_json::{Value, json};

/// Serves the kernel on the inherited socket until it asks the worker to stop.
///
/// The handler runs in a tokio task of its own for every task of the kernel, at most as many at a time as the manifest's
/// `concurrent_tasks`. Return from `main` when this returns: `Ok` after a shutdown, `Err` when the protocol was broken.
pub async fn run<H, F>(handler: H) -> Result<()>
where
    H: Fn(TaskContext, Value) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, TaskError>> + Send + 'static,
{
    run_on(socket::inherited()?, handler).await
}

/// [`run`] on a socket of the caller's choice, for tests of handlers: the other end plays the kernel.
pub async fn run_on<H, F>(stream: UnixStream, handler: H) -> Result<()>
where
    H: Fn(TaskContext, Value) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, TaskError>> + Send + 'static,
{
    session::serve(stream, Arc::new(move |context, input| Box::pin(handler(context, input)))).await
}
