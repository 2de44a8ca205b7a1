//! The system calls as methods. Each is [`TaskContext::call`] with the right types; `step` is explained there.

use agentos_protocol::{
    Syscall,
    frame::CallError,
    syscall::{
        CodeRun, CommandResult, Fetch, FetchResult, FileList, FileListResult, FileRead, FileReadResult, KvDelete,
        KvDeleteResult, KvGet, KvGetResult, KvList, KvListResult, KvPut, KvPutResult, ModelCall, ModelCallResult,
        NotifyEvent, NotifyEventResult, NotifyWebhook, NotifyWebhookResult, ScheduleDelete, ScheduleDeleteResult,
        ScheduleList, ScheduleListResult, SchedulePut, SchedulePutResult, ShellExec,
    },
};
use serde_json::Value;

use crate::TaskContext;

type Answer<R> = Result<R, CallError>;

impl TaskContext {
    /// HTTP request to a granted URL. A status other than 2xx is a result, not an error.
    pub async fn fetch(&self, step: impl Into<String>, fetch: Fetch) -> Answer<FetchResult> {
        self.call(step, Syscall::NetFetch(fetch)).await
    }

    /// Bytes of a file beneath a granted root.
    pub async fn file_read(&self, step: impl Into<String>, read: FileRead) -> Answer<FileReadResult> {
        self.call(step, Syscall::FileRead(read)).await
    }

    /// Entries of a directory beneath a granted root.
    pub async fn file_list(&self, step: impl Into<String>, path: impl Into<String>) -> Answer<FileListResult> {
        self.call(step, Syscall::FileList(FileList { path: path.into() })).await
    }

    /// Publishes a notification, at most once per dedupe key.
    pub async fn notify_event(&self, step: impl Into<String>, event: NotifyEvent) -> Answer<NotifyEventResult> {
        self.call(step, Syscall::NotifyEvent(event)).await
    }

    /// POSTs a signed JSON body to a granted URL.
    pub async fn notify_webhook(&self, step: impl Into<String>, webhook: NotifyWebhook) -> Answer<NotifyWebhookResult> {
        self.call(step, Syscall::NotifyWebhook(webhook)).await
    }

    /// Reads one durable value; version 0 means that there is none.
    pub async fn kv_get(&self, step: impl Into<String>, key: impl Into<String>) -> Answer<KvGetResult> {
        self.call(step, Syscall::KvGet(KvGet { key: key.into() })).await
    }

    /// Writes one durable value; with `if_version` only if the stored version is that one (0: only if absent).
    pub async fn kv_put(
        &self,
        step: impl Into<String>,
        key: impl Into<String>,
        value: Value,
        if_version: Option<i64>,
    ) -> Answer<KvPutResult> {
        self.call(step, Syscall::KvPut(KvPut { key: key.into(), value, if_version })).await
    }

    /// Removes one durable value.
    pub async fn kv_delete(&self, step: impl Into<String>, key: impl Into<String>) -> Answer<KvDeleteResult> {
        self.call(step, Syscall::KvDelete(KvDelete { key: key.into() })).await
    }

    /// Keys with a prefix, at most 500; `after` is the last key of the page before.
    pub async fn kv_list(
        &self,
        step: impl Into<String>,
        prefix: impl Into<String>,
        after: Option<String>,
    ) -> Answer<KvListResult> {
        self.call(step, Syscall::KvList(KvList { prefix: prefix.into(), after })).await
    }

    /// Creates or replaces a schedule that submits tasks to this agent.
    pub async fn schedule_put(&self, step: impl Into<String>, schedule: SchedulePut) -> Answer<SchedulePutResult> {
        self.call(step, Syscall::SchedulePut(schedule)).await
    }

    /// Removes a schedule of this agent.
    pub async fn schedule_delete(
        &self,
        step: impl Into<String>,
        name: impl Into<String>,
    ) -> Answer<ScheduleDeleteResult> {
        self.call(step, Syscall::ScheduleDelete(ScheduleDelete { name: name.into() })).await
    }

    /// Schedules of this agent.
    pub async fn schedule_list(&self, step: impl Into<String>) -> Answer<ScheduleListResult> {
        self.call(step, Syscall::ScheduleList(ScheduleList {})).await
    }

    /// Programs joined by pipes, in a sandbox of their own over the workspace. A program that fails is a result, not an error.
    pub async fn shell_exec(&self, step: impl Into<String>, exec: ShellExec) -> Answer<CommandResult> {
        self.call(step, Syscall::ShellExec(exec)).await
    }

    /// A piece of code, in a sandbox of its own over the workspace. Code that fails is a result, not an error.
    pub async fn code_run(&self, step: impl Into<String>, run: CodeRun) -> Answer<CommandResult> {
        self.call(step, Syscall::CodeRun(run)).await
    }

    /// Asks a model. A status other than 2xx is a result, not an error.
    pub async fn model_call(&self, step: impl Into<String>, call: ModelCall) -> Answer<ModelCallResult> {
        self.call(step, Syscall::ModelCall(call)).await
    }
}
