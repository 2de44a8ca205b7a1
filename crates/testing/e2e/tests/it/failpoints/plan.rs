//! What the clients ask for: kinds of tasks that between them pass every point of the kernel.

use agentos_judge::Promise;
use agentos_types::{TaskId, Timestamp, task::TaskState};
use serde_json::{Value, json};

use super::sink::Sink;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts, tells, reads, fetches: all that may be repeated.
    Plain,
    /// Two payments, which may not be repeated.
    Pay,
    /// A payment whose receiver takes it and breaks off: only a person can go on.
    Dropped,
    /// A payment whose receiver is deaf every third time.
    Deaf,
    /// A signed webhook, refused the first time.
    Hook,
    /// Fails the first two attempts with a reason that may pass.
    Flaky,
    /// Fails for good, and is redriven once.
    Dead,
    /// Works until it is canceled.
    Wait,
    /// Works until its deadline.
    Late,
    /// Not before some moments have passed; canceled while it waits, or not.
    Later,
    /// Kills its worker at its first attempt. For the second agent.
    Die,
    /// Asks a model by system calls, for a stream too, until the budget of the run is used up.
    Think,
    /// Asks a model from inside of the sandbox. For the third agent, which does one thing at a time: only then it is known
    /// which task asks.
    Inside,
}

/// The order in which kinds come; what is dear comes seldom.
pub const MIX: [Kind; 19] = [
    Kind::Plain,
    Kind::Pay,
    Kind::Think,
    Kind::Inside,
    Kind::Wait,
    Kind::Hook,
    Kind::Die,
    Kind::Plain,
    Kind::Deaf,
    Kind::Late,
    Kind::Dead,
    Kind::Plain,
    Kind::Think,
    Kind::Dropped,
    Kind::Flaky,
    Kind::Pay,
    Kind::Wait,
    Kind::Plain,
    Kind::Later,
];

/// One task as its client remembers it.
#[derive(Debug)]
pub struct Ticket {
    pub kind: Kind,
    pub promise: Promise,
    pub id: Option<TaskId>,
    /// As it was seen last.
    pub state: Option<TaskState>,
    pub body: Value,
    /// Looks at it since it was acknowledged.
    pub age: u32,
    /// The dead letter was sent back.
    pub redriven: bool,
    pub is_final: bool,
}

/// Makes tickets with keys that never repeat.
pub struct Planner {
    pub seed: u64,
    pub next: usize,
    pub file: String,
    pub forbidden: String,
}

impl Planner {
    pub fn ticket(&mut self, sink: &Sink, now: Timestamp) -> Ticket {
        let number = self.next;
        self.next += 1;
        let kind = MIX[number % MIX.len()];
        let key = format!("k{}-{number}", self.seed);
        let url = |port: u16, way: &str, step: &str| format!("http://127.0.0.1:{port}/{way}/{key}/{step}");
        let get = |step: &str| json!(["get", step, url(sink.port, "get", step)]);
        let pay = |way: &str, step: &str| json!(["pay", step, url(sink.port, way, step)]);
        let think = |step: &str| json!(["think", step, key]);
        let steps = match kind {
            Kind::Plain => vec![
                json!(["count", "", null]),
                json!(["progress", "", {"at": number}]),
                get("fetch"),
                json!(["tell", "tell", {"number": number}]),
                json!(["read", "read", self.file]),
                json!(["forbidden", "forbidden", self.forbidden]),
            ],
            Kind::Pay => vec![get("before"), pay("pay", "first"), json!(["count", "", null]), pay("pay", "second")],
            Kind::Dropped => vec![pay("drop", "lost")],
            Kind::Deaf => vec![json!(["pay", "deaf", url(sink.deaf_port, "pay", "deaf")]), get("after")],
            Kind::Hook => vec![json!(["hook", "hook", url(sink.port, "flaky", "hook")]), get("after")],
            Kind::Flaky => vec![get("before"), json!(["fail", "", [2, "transient"]]), pay("pay", "after")],
            Kind::Dead => vec![get("before"), json!(["fail", "", [1, "permanent"]])],
            Kind::Wait => vec![get("before"), json!(["wait", "", null]), pay("pay", "never")],
            Kind::Late => vec![get("before"), json!(["wait", "", null])],
            Kind::Later => vec![pay("pay", "later")],
            Kind::Die => vec![get("before"), json!(["die", "", 1]), pay("pay", "after")],
            Kind::Think => ["whole", "stream", "more-1", "more-2", "more-3"].map(think).to_vec(),
            Kind::Inside => vec![json!(["inside", "inside-1", key]), json!(["inside", "inside-2", key])],
        };
        let agent = match kind {
            Kind::Die => "frail",
            Kind::Inside => "lone",
            _ => "steady",
        };
        let mut body = json!({"agent": agent, "input": {"steps": steps}});
        // A third keeps the default and may become dead letters of too many crashes.
        if !number.is_multiple_of(3) {
            body["attempts_max"] = json!(100);
        }
        let in_ms = |ms: i64| Timestamp(now.as_micros() + ms * 1_000);
        match kind {
            Kind::Late => body["deadline_at"] = json!(in_ms(400)),
            Kind::Later => body["run_at"] = json!(in_ms(700)),
            _ => {}
        }
        let promise = Promise { key, steps: asked_for(kind), ..Promise::default() };
        Ticket { kind, promise, id: None, state: None, body, age: 0, redriven: false, is_final: false }
    }
}

/// Keys of the steps that a completed task has done. A counter's keys depend on how often it was in somebody's way.
fn asked_for(kind: Kind) -> Vec<String> {
    let keys: &[&str] = match kind {
        Kind::Plain => &["fetch", "tell", "read"],
        Kind::Pay => &["before", "first", "second"],
        Kind::Dropped => &["lost"],
        Kind::Deaf => &["deaf", "after"],
        Kind::Hook => &["hook", "after"],
        Kind::Flaky | Kind::Die => &["before", "after"],
        Kind::Dead | Kind::Wait | Kind::Late => &["before"],
        Kind::Later => &["later"],
        // The door of models names its steps itself.
        Kind::Inside => &[],
        // One that no longer fits the budget is answered with that.
        Kind::Think => &["whole", "stream", "more-1", "more-2", "more-3"],
    };
    keys.iter().map(|key| (*key).to_owned()).collect()
}
