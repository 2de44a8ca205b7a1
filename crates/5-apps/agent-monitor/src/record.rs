//! What the Monitor remembers: one small record a watch, its texts, its history. All of it lives in the agent's durable
//! values; nothing is kept in the process.
//!
//! | key | value |
//! |---|---|
//! | `watch/NAME` | [`Watch`]: definition, state, what the text was when last seen, and what is still to be told |
//! | `snapshot/NAME/TASK` | the normalised text that the task `TASK` saw; the record names the valid one |
//! | `history/NAME/NUMBER` | one change as it was reported, number with 8 digits |
//!
//! The record is small, because every check reads it; texts are read only when something changed.

use agentos_sdk::{Cadence, CallError, SecretName, TaskError, Timestamp, Value, json};
use serde::{Deserialize, Serialize};

use crate::{
    failure::refuse,
    hash,
    kernel::{self, Kernel},
    text::Noise,
};

/// A `list` fits one task's steps and output.
pub const WATCHES_MAX: usize = 200;
/// Changes that `history` can show of one watch.
pub const HISTORY_MAX: u64 = 20;
/// Alerts of one watch that wait to be delivered. Reached only while deliveries fail.
pub const OUTBOX_MAX: usize = 8;

const WATCH_PREFIX: &str = "watch/";

/// Where a watch looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Url(String),
    File(String),
    Directory(String),
}

/// Where changes are sent to, beside the notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    /// Name of the secret that signs the body.
    pub secret: SecretName,
}

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub source: Source,
    pub cadence: Cadence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<Noise>,
}

/// Whether the source can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Ok,
    /// No answer, no such name, no such file.
    Unreachable,
    /// A grant or an exception of the operator is missing; the message names it.
    Denied,
    /// It answers, but not with something that can be compared: a status other than 2xx, too large.
    Error,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Ok => "ok",
            Standing::Unreachable => "unreachable",
            Standing::Denied => "denied",
            Standing::Error => "error",
        }
    }
}

/// The state of a watch and how long it has been so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub state: Standing,
    pub since: String,
    pub since_task: String,
    /// Reads that failed in a row.
    pub failures: u32,
    /// Scheduled checks left out since the last read.
    pub skipped: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Changes of `state` so far; part of the identity of their alerts.
    pub turns: u64,
}

/// What lets the next check see cheaply that nothing changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Size and time of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<(u64, Timestamp)>,
}

/// What was seen last; the next look is compared with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Of the whole normalised text, or of the bytes of binary content.
    pub hash: String,
    /// Of the content as it came.
    pub bytes: u64,
    /// The stored text is only the first part.
    pub cut: bool,
    /// Key of the text.
    pub snapshot: String,
    pub marker: Marker,
    pub taken_at: String,
}

/// Something that is decided and not yet told to everybody who must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity at the receivers: dedupe key of the notification, `id` in the body of the webhook.
    pub id: String,
    /// `watch.changed` or `watch.state`.
    pub kind: String,
    pub data: Value,
    pub published: bool,
    /// Where it is still to be sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The task that decided it: its own retries deliver, later checks try once each.
    pub task: String,
    /// For a change: its number in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// For a change: the text that nobody needs any more once it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The task that added it first. Makes alerts of a watch that was removed and added again new ones.
    pub id: String,
    pub definition: Definition,
    pub created_at: String,
    pub health: Health,
    /// Absent until the source was read once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Changes so far; the number of the newest.
    pub changes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<Alert>,
    /// Why the last webhook was not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_problem: Option<String>,
    /// Webhooks given up because too many waited.
    pub webhooks_dropped: u64,
}

impl Source {
    /// Short form for people: host and path, or the path.
    pub fn label(&self) -> String {
        match self {
            Source::Url(url) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                rest.split(['?', '#']).next().unwrap_or(rest).trim_end_matches('/').to_owned()
            }
            Source::File(path) => path.clone(),
            Source::Directory(path) => format!("{}/", path.trim_end_matches('/')),
        }
    }
}

impl Watch {
    /// What `list` and `add` show: everything but the texts of undelivered alerts.
    pub fn view(&self, name: &str) -> Value {
        let mut view = json!({
            "name": name,
            "source": self.definition.source,
            "cadence": self.definition.cadence,
            "created_at": self.created_at,
            "state": self.health,
            "changes": self.changes,
            "undelivered": self.outbox.len(),
        });
        let extra = [
            ("webhook", json!(self.definition.webhook), self.definition.webhook.is_some()),
            ("ignore", json!(self.definition.ignore), !self.definition.ignore.is_empty()),
            ("noise", json!(self.definition.noise), !self.definition.noise.is_empty()),
            ("webhook_problem", json!(self.webhook_problem), self.webhook_problem.is_some()),
            ("webhooks_dropped", json!(self.webhooks_dropped), self.webhooks_dropped > 0),
        ];
        for (field, value, present) in extra {
            if present {
                view[field] = value;
            }
        }
        if let Some(baseline) = &self.baseline {
            view["seen"] = json!({
                "at": baseline.taken_at, "bytes": baseline.bytes, "hash": baseline.hash, "cut": baseline.cut,
            });
        }
        view
    }

    /// Identity of an alert: unique for ever, equal only for the same decision.
    pub fn alert_id(&self, name: &str, kind: &str, number: u64, from: &str, to: &str) -> String {
        format!("{kind}/{name}/{number}/{}", hash::short(&format!("{} {number} {from} {to}", self.id)))
    }
}

pub fn watch_key(name: &str) -> String {
    format!("{WATCH_PREFIX}{name}")
}

pub fn snapshot_prefix(name: &str) -> String {
    format!("snapshot/{name}/")
}

pub fn history_prefix(name: &str) -> String {
    format!("history/{name}/")
}

pub fn history_key(name: &str, number: u64) -> String {
    format!("{}{number:08}", history_prefix(name))
}

/// The record and its version; `None` when there is no such watch.
pub async fn load(kernel: &impl Kernel, step: String, name: &str) -> Result<Option<(Watch, i64)>, TaskError> {
    let found = kernel::kv_get(kernel, step, watch_key(name)).await?;
    let Some(value) = found.value else { return Ok(None) };
    let watch = serde_json::from_value(value).map_err(|source| {
        refuse(format!("the stored watch '{name}' cannot be read: {source}; remove and add it again"))
    })?;
    Ok(Some((watch, found.version)))
}

/// Writes the record if nobody else did since `version` (0: if there is none).
pub async fn store(
    kernel: &impl Kernel,
    step: &str,
    name: &str,
    watch: &Watch,
    version: i64,
) -> Result<i64, CallError> {
    kernel::kv_put(kernel, step, watch_key(name), json!(watch), Some(version)).await.map(|put| put.version)
}

/// All names, sorted. One more than the limit is enough to know that it is passed.
pub async fn names(kernel: &impl Kernel, step: &str) -> Result<Vec<String>, TaskError> {
    // 500 keys a page are above the limit of watches, so the first page is all.
    let page = kernel::kv_list(kernel, step, WATCH_PREFIX.into(), None).await?;
    Ok(page.keys.iter().filter_map(|key| key.strip_prefix(WATCH_PREFIX)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let check = |source: Source, label: &str| assert_eq!(source.label(), label);
        check(Source::Url("https://example.com/pricing/?q=1#x".into()), "example.com/pricing");
        check(Source::Url("http://127.0.0.1:8899/".into()), "127.0.0.1:8899");
        check(Source::File("/srv/a.txt".into()), "/srv/a.txt");
        check(Source::Directory("/srv/".into()), "/srv/");
    }
}
