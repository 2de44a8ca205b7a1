//! What is judged, as plain rows. The database's own words for states and kinds; no type of the product.

use serde::Deserialize;
use serde_json::Value;

/// Everything that is known about one run after it has come to rest.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub promises: Vec<Promise>,
    pub requests: Vec<Request>,
    pub tasks: Vec<TaskRow>,
    pub events: Vec<EventRow>,
    pub steps: Vec<StepRow>,
    pub schedules: Vec<ScheduleRow>,
    pub fires: Vec<FireRow>,
    pub kv: Vec<KvRow>,
    pub notifications: Vec<NotificationRow>,
    /// What a provider of models was asked, and which of its answers clients of the gateway have whole.
    pub asks: Vec<Ask>,
    pub answers: Vec<String>,
    pub budgets: Vec<BudgetRow>,
    pub uses: Vec<UseRow>,
    pub log: Vec<Record>,
    /// What the separate verifier said about the exported log.
    pub log_verifies: bool,
    /// Ends of the server that were asked for and completed: only these may cost no attempt.
    pub orderly_stops: usize,
}

/// What a client asked for and was told.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// Idempotency key; unique among the clients.
    pub key: String,
    /// Set once the server has acknowledged it.
    pub id: Option<String>,
    /// Another id that the server gave for the same key.
    pub other_id: Option<String>,
    /// A cancel was acknowledged with the state canceled.
    pub canceled: bool,
    /// A final state that was read, unless the task was sent back to work since.
    pub seen_final: Option<String>,
    /// Step keys of the plan; a completed task has done each.
    pub steps: Vec<String>,
}

/// A request as the world outside received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `idempotent`, `keyed` or `unsafe`.
    pub safety: String,
    /// Idempotency key of the task, and key of the step.
    pub task_key: String,
    pub step: String,
    /// What the request carried for the receiver to drop repeats by.
    pub key: Option<String>,
}

/// A question as a provider of models received it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Idempotency key of the task that asked; empty for a client at the gateway.
    pub task_key: String,
    /// Key of the system call's step.
    pub step: String,
    /// It came through the listener inside of a sandbox, where no system call names a step.
    pub is_inside: bool,
    /// `token:ID` of a client.
    pub payer: Option<String>,
    /// What the provider bills for certain: it has sent the whole answer.
    pub cost_nano_usd: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct BudgetRow {
    pub scope: String,
    pub period: String,
    pub unit: String,
    pub amount: i64,
}

/// What is used and leased of one count.
#[derive(Clone, Debug, Deserialize)]
pub struct UseRow {
    pub scope: String,
    pub period: String,
    pub unit: String,
    pub used: i64,
    pub leased: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TaskRow {
    pub id: String,
    pub agent: String,
    pub state: String,
    pub attempt: i64,
    pub attempts_max: i64,
    pub fence: i64,
    pub event_seq: i64,
    pub idem_scope: Option<String>,
    pub idem_key: Option<String>,
    pub schedule: Option<String>,
    pub failure_class: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct EventRow {
    pub task: String,
    pub seq: i64,
    pub kind: String,
    /// The payload as text.
    pub data: String,
}

impl EventRow {
    /// A member of the payload.
    pub fn get(&self, name: &str) -> Value {
        let data: Value = serde_json::from_str(&self.data).unwrap_or_default();
        data.get(name).cloned().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct StepRow {
    pub task: String,
    pub key: String,
    pub seq: i64,
    pub syscall: String,
    pub status: String,
    pub safety: String,
    pub fence: i64,
}

impl StepRow {
    /// Whether the call leaves our own store.
    pub fn is_outward(&self) -> bool {
        self.syscall.starts_with("net.")
            || self.syscall.starts_with("file.")
            || ["notify.webhook", "model.call"].contains(&self.syscall.as_str())
    }

    /// Of a call of a model from inside of a sandbox: the hash of its request, in short, as its key has it.
    pub fn asked_inside(&self) -> Option<&str> {
        self.key.strip_prefix("model-")?.rsplit_once('-').map(|(hash, _)| hash)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct ScheduleRow {
    pub id: String,
    /// JSON text.
    pub cadence: String,
    pub fired: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FireRow {
    pub schedule: String,
    pub fire_at: i64,
    pub task: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct KvRow {
    pub agent: String,
    pub key: String,
    pub version: i64,
    /// The payload as text.
    pub value: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NotificationRow {
    pub task: String,
    pub dedupe_key: Option<String>,
}

/// A record of the exported log.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    #[serde(skip)]
    pub seq: u64,
    pub action: String,
    pub actor: Value,
    pub resource: String,
    pub phase: String,
    pub decision: String,
    pub task: Option<String>,
    pub correlation: Option<String>,
    pub facts: Value,
}

impl Record {
    /// Written at the door of models, which knows the operation of a protocol, and not as a system call.
    pub fn is_of_the_door(&self) -> bool {
        self.action == "model.call" && self.facts.get("operation").is_some()
    }

    pub fn request_sha256(&self) -> Option<&str> {
        self.facts.get("request_sha256")?.as_str()
    }

    /// The agent's process that acted, if one did.
    pub fn instance(&self) -> Option<&str> {
        self.actor.get("instance")?.as_str()
    }
}
