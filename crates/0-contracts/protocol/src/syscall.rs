//! The system calls: their names, arguments, results and safety. Arguments are validated here by type, by the monitor for
//! meaning. Adding a call means: a variant, a row of [`TABLE`], demands in the monitor, an executor, a line in the docs.

pub mod commands;
pub mod models;

use std::collections::BTreeMap;

use agentos_types::{
    Category, Code, Fault, Result, SecretName, Timestamp,
    task::{Cadence, Safety},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use commands::{CodeRun, CommandEnd, CommandResult, Language, Output, ShellExec};
pub use models::{ModelCall, ModelCallResult, ModelProtocol, ModelUsage};

/// A parsed call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "syscall", content = "args")]
pub enum Syscall {
    #[serde(rename = "net.fetch")]
    NetFetch(Fetch),
    #[serde(rename = "file.read")]
    FileRead(FileRead),
    #[serde(rename = "file.list")]
    FileList(FileList),
    #[serde(rename = "notify.event")]
    NotifyEvent(NotifyEvent),
    #[serde(rename = "notify.webhook")]
    NotifyWebhook(NotifyWebhook),
    #[serde(rename = "kv.get")]
    KvGet(KvGet),
    #[serde(rename = "kv.put")]
    KvPut(KvPut),
    #[serde(rename = "kv.delete")]
    KvDelete(KvDelete),
    #[serde(rename = "kv.list")]
    KvList(KvList),
    #[serde(rename = "schedule.put")]
    SchedulePut(SchedulePut),
    #[serde(rename = "schedule.delete")]
    ScheduleDelete(ScheduleDelete),
    #[serde(rename = "schedule.list")]
    ScheduleList(ScheduleList),
    #[serde(rename = "shell.exec")]
    ShellExec(ShellExec),
    #[serde(rename = "code.run")]
    CodeRun(CodeRun),
    #[serde(rename = "model.call")]
    ModelCall(ModelCall),
}

/// One row of the documented table.
#[derive(Debug)]
pub struct SyscallEntry {
    pub name: &'static str,
    pub category: Category,
    /// The verb that a grant must name.
    pub verb: &'static str,
    pub summary: &'static str,
}

const fn row(name: &'static str, category: Category, verb: &'static str, summary: &'static str) -> SyscallEntry {
    SyscallEntry { name, category, verb, summary }
}

/// Every system call, in the order of the docs.
pub const TABLE: &[SyscallEntry] = &[
    row("net.fetch", Category::Net, "fetch", "HTTP request to a granted URL"),
    row("file.read", Category::File, "read", "Bytes of a file beneath a granted root"),
    row("file.list", Category::File, "list", "Entries of a directory beneath a granted root"),
    row("notify.event", Category::Notify, "event", "Publish a notification, at most once per dedupe key"),
    row("notify.webhook", Category::Notify, "webhook", "POST a signed JSON body to a granted URL"),
    row("kv.get", Category::Kv, "read", "Read one durable value of the agent"),
    row("kv.put", Category::Kv, "write", "Write one durable value, optionally only if its version matches"),
    row("kv.delete", Category::Kv, "write", "Remove one durable value"),
    row("kv.list", Category::Kv, "read", "Keys with a prefix"),
    row(
        "schedule.put",
        Category::Schedule,
        "write",
        "Create or replace a schedule that submits tasks to the agent itself",
    ),
    row("schedule.delete", Category::Schedule, "write", "Remove a schedule of the agent"),
    row("schedule.list", Category::Schedule, "read", "Schedules of the agent"),
    row(
        "shell.exec",
        Category::Shell,
        "exec",
        "Programs joined by pipes, in a sandbox of their own over the workspace",
    ),
    row(
        "code.run",
        Category::Code,
        "run",
        "A piece of Python, JavaScript or bash, in a sandbox of its own over the workspace",
    ),
    row("model.call", Category::Model, "call", "Ask a model, in the protocol of OpenAI or Anthropic"),
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    pub url: String,
    /// GET, HEAD, POST, PUT, PATCH or DELETE.
    #[serde(default = "get")]
    pub method: String,
    /// Values may hold `${secret:NAME}`; the executor fills it in after the grant `secret:use NAME@HOST` was checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

impl Fetch {
    /// A plain GET with the kernel's default limits.
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), method: get(), headers: BTreeMap::new(), body: None, timeout_ms: None, max_bytes: None }
    }
}

/// Result of `net.fetch`. A non-2xx status is a result, not an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchResult {
    pub status: u16,
    /// After redirects.
    pub url: String,
    /// Lower-case names; repeated headers are joined with `, `.
    pub headers: BTreeMap<String, String>,
    /// UTF-8 text, or base64 when `encoding` says so.
    pub body: String,
    /// `utf-8` or `base64`.
    pub encoding: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// Absolute path beneath a granted root.
    pub path: String,
    #[serde(default)]
    pub offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReadResult {
    pub content: String,
    /// `utf-8` or `base64`.
    pub encoding: String,
    /// Bytes in `content` before encoding.
    pub bytes: u64,
    /// Size of the whole file.
    pub size: u64,
    pub modified_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileListResult {
    /// Sorted by name; at most 10,000.
    pub entries: Vec<FileEntry>,
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: String,
    pub size: u64,
    pub modified_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyEvent {
    /// For example `watch.changed`; the grant's resource is `event:KIND`.
    pub kind: String,
    pub data: Value,
    /// A second notification with the same key of the same agent is accepted and not published again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifyEventResult {
    /// False when the dedupe key was seen before.
    pub published: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyWebhook {
    pub url: String,
    pub body: Value,
    /// Secret for the HMAC-SHA-256 signature; needs `secret:use NAME@HOST`.
    pub secret: SecretName,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifyWebhookResult {
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvGet {
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvGetResult {
    pub value: Option<Value>,
    /// 0 when there is no value.
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvPut {
    pub key: String,
    pub value: Value,
    /// Write only if the stored version is this one; 0 means "only if absent".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvPutResult {
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvDelete {
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvDeleteResult {
    pub existed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvList {
    #[serde(default)]
    pub prefix: String,
    /// Keys after this one, for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvListResult {
    /// Sorted; at most 500.
    pub keys: Vec<String>,
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulePut {
    pub name: String,
    pub cadence: Cadence,
    pub input: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulePutResult {
    pub next_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleDelete {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDeleteResult {
    pub existed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleList {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleListResult {
    pub schedules: Vec<ScheduleEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleEntry {
    pub name: String,
    pub cadence: Cadence,
    pub next_at: Timestamp,
}

fn get() -> String {
    "GET".into()
}

impl Syscall {
    /// From a worker's frame. Unknown names and unknown or missing arguments are refused.
    pub fn parse(name: &str, args: Value) -> Result<Self> {
        if !TABLE.iter().any(|entry| entry.name == name) {
            let known: Vec<_> = TABLE.iter().map(|entry| entry.name).collect();
            return Err(Fault::new(Code::SYSCALL_UNKNOWN, format!("'{}' is not a system call", name.escape_debug()))
                .hint(format!("known: {}", known.join(", "))));
        }
        serde_json::from_value(serde_json::json!({"syscall": name, "args": args}))
            .map_err(|source| Fault::new(Code::SYSCALL_INVALID, format!("arguments of {name}: {source}")))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Syscall::NetFetch(_) => "net.fetch",
            Syscall::FileRead(_) => "file.read",
            Syscall::FileList(_) => "file.list",
            Syscall::NotifyEvent(_) => "notify.event",
            Syscall::NotifyWebhook(_) => "notify.webhook",
            Syscall::KvGet(_) => "kv.get",
            Syscall::KvPut(_) => "kv.put",
            Syscall::KvDelete(_) => "kv.delete",
            Syscall::KvList(_) => "kv.list",
            Syscall::SchedulePut(_) => "schedule.put",
            Syscall::ScheduleDelete(_) => "schedule.delete",
            Syscall::ScheduleList(_) => "schedule.list",
            Syscall::ShellExec(_) => "shell.exec",
            Syscall::CodeRun(_) => "code.run",
            Syscall::ModelCall(_) => "model.call",
        }
    }

    /// Whether the call may be sent again after a crash in its middle.
    pub fn safety(&self) -> Safety {
        match self {
            Syscall::NetFetch(fetch) if matches!(fetch.method.as_str(), "GET" | "HEAD") => Safety::Idempotent,
            Syscall::NetFetch(_) => Safety::Unsafe,
            Syscall::NotifyWebhook(_) => Safety::Keyed,
            Syscall::ShellExec(ShellExec { repeatable: false, .. })
            | Syscall::CodeRun(CodeRun { repeatable: false, .. }) => Safety::Unsafe,
            // Asked again it may cost again, and changes nothing.
            Syscall::ModelCall(_) => Safety::Idempotent,
            // Reads, and writes to our own store, whose effect commits together with its record.
            _ => Safety::Idempotent,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_table_row_parses_to_the_variant_of_its_name() {
        let args = json!({
            "net.fetch": {"url": "https://a/"}, "file.read": {"path": "/a"}, "file.list": {"path": "/a"},
            "notify.event": {"kind": "k", "data": 1}, "notify.webhook": {"url": "https://a/", "body": 1, "secret": "s"},
            "kv.get": {"key": "k"}, "kv.put": {"key": "k", "value": 1}, "kv.delete": {"key": "k"}, "kv.list": {},
            "schedule.put": {"name": "n", "cadence": {"kind": "interval", "every_s": 60}, "input": {}},
            "schedule.delete": {"name": "n"}, "schedule.list": {},
            "shell.exec": {"pipeline": [["ls"]]}, "code.run": {"language": "python", "code": "1"},
            "model.call": {"model": "fast"},
        });
        for entry in TABLE {
            let call = Syscall::parse(entry.name, args[entry.name].clone()).unwrap();
            assert_eq!(call.name(), entry.name);
            assert!(entry.category.actions().contains(&entry.verb), "{} has an unknown verb", entry.name);
            let mut extra = args[entry.name].clone();
            extra["surprise"] = json!(1);
            assert_eq!(Syscall::parse(entry.name, extra).unwrap_err().code, Code::SYSCALL_INVALID, "{}", entry.name);
        }
        assert_eq!(Syscall::parse("os.exec", json!({})).unwrap_err().code, Code::SYSCALL_UNKNOWN);
    }
}
