//! The one thing that the Monitor needs of the outside: a way to make system calls for its task.
//!
//! A trait, so that the tests can put a kernel in its place that stops at any chosen call. Nothing else in this crate
//! touches the world; even "now" is read off the task's id.

use std::future::Future;

use agentos_sdk::{
    CallError, Code, ErrorClass, KvDelete, KvGet, KvGetResult, KvList, KvListResult, KvPut, KvPutResult, Syscall,
    TaskContext, TaskId, Timestamp, Value,
};
use serde::de::DeserializeOwned;

use crate::hash;

pub trait Kernel: Sync {
    fn task(&self) -> &TaskId;

    /// Starts at 1. Above 1, recorded steps answer from the journal up to the point where the earlier attempt ended.
    fn attempt(&self) -> i64;

    fn call(&self, step: String, call: Syscall) -> impl Future<Output = Result<Value, CallError>> + Send;
}

impl Kernel for TaskContext {
    fn task(&self) -> &TaskId {
        self.task_id()
    }

    fn attempt(&self) -> i64 {
        TaskContext::attempt(self)
    }

    async fn call(&self, step: String, call: Syscall) -> Result<Value, CallError> {
        TaskContext::call(self, step, call).await
    }
}

/// A call with its result's type.
pub async fn ask<R: DeserializeOwned>(
    kernel: &impl Kernel,
    step: impl Into<String>,
    call: Syscall,
) -> Result<R, CallError> {
    let name = call.name();
    let value = kernel.call(step.into(), call).await?;
    serde_json::from_value(value).map_err(|source| CallError {
        code: Code::FRAME_MALFORMED,
        message: format!("the result of {name} is not as expected: {source}"),
        class: ErrorClass::Permanent,
        retry_after_ms: None,
    })
}

pub async fn kv_get(kernel: &impl Kernel, step: impl Into<String>, key: String) -> Result<KvGetResult, CallError> {
    ask(kernel, step, Syscall::KvGet(KvGet { key })).await
}

pub async fn kv_list(
    kernel: &impl Kernel,
    step: impl Into<String>,
    prefix: String,
    after: Option<String>,
) -> Result<KvListResult, CallError> {
    ask(kernel, step, Syscall::KvList(KvList { prefix, after })).await
}

/// Writes a value. The step key carries a hash of what is written: a later attempt that came by another way to another
/// value makes another step, and never claims the recorded answer of the first.
pub async fn kv_put(
    kernel: &impl Kernel,
    step: &str,
    key: String,
    value: Value,
    if_version: Option<i64>,
) -> Result<KvPutResult, CallError> {
    let step = format!("{step}/{}", hash::short(&format!("{if_version:?} {value}")));
    ask(kernel, step, Syscall::KvPut(KvPut { key, value, if_version })).await
}

pub async fn kv_delete(kernel: &impl Kernel, step: impl Into<String>, key: String) -> Result<(), CallError> {
    kernel.call(step.into(), Syscall::KvDelete(KvDelete { key })).await.map(drop)
}

/// When the task was submitted, which is what this agent calls "now": the first 48 bits of the id's ULID.
pub fn submitted_at(task: &TaskId) -> Timestamp {
    const CROCKFORD: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let ulid = task.as_str().strip_prefix("task_").unwrap_or_default();
    let millis = ulid.bytes().take(10).fold(0_i64, |millis, digit| {
        let value = CROCKFORD.iter().position(|known| *known == digit).unwrap_or(0);
        (millis << 5) | i64::try_from(value).unwrap_or(0)
    });
    Timestamp::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_id_tells_when_the_task_was_submitted() {
        for millis in [0, 1, 1_795_392_000_123, 281_474_976_710_655] {
            let task = TaskId::generate(Timestamp::from_millis(millis), u128::MAX);
            assert_eq!(submitted_at(&task), Timestamp::from_millis(millis), "{task}");
        }
    }
}
