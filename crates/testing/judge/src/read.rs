//! From the database and the exported log to rows. Every query gives one text of JSON, so that both databases are read by
//! the same few lines.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{History, Record};

/// Table, columns, and which of them are payloads (bytes that hold JSON text).
struct Table(&'static str, &'static [&'static str], &'static [&'static str]);

const TASK: Table = Table(
    "task",
    &[
        "id",
        "agent",
        "state",
        "attempt",
        "attempts_max",
        "fence",
        "event_seq",
        "idem_scope",
        "idem_key",
        "schedule",
        "failure_class",
    ],
    &[],
);
const EVENT: Table = Table("task_event", &["task", "seq", "kind"], &["data"]);
const STEP: Table = Table("step", &["task", "key", "seq", "syscall", "status", "safety", "fence"], &[]);
const SCHEDULE: Table = Table("schedule", &["id", "cadence", "fired"], &[]);
const FIRE: Table = Table("schedule_fire", &["schedule", "fire_at", "task"], &[]);
const KV: Table = Table("kv", &["agent", "key", "version"], &["value"]);
const BUDGET: Table = Table("budget", &["scope", "period", "unit", "amount"], &[]);
const USE: Table = Table("budget_use", &["scope", "period", "unit", "used", "leased"], &[]);
const NOTIFICATION: Table = Table("notification", &["task", "dedupe_key"], &[]);

impl Table {
    fn sqlite(&self) -> String {
        let plain = self.1.iter().map(|column| format!("'{column}', {column}"));
        let payloads = self.2.iter().map(|column| format!("'{column}', CAST({column} AS TEXT)"));
        let members: Vec<String> = plain.chain(payloads).collect();
        format!("SELECT json_group_array(json_object({})) FROM {}", members.join(", "), self.0)
    }

    fn postgres(&self) -> String {
        let plain = self.1.iter().map(|column| format!("'{column}', {column}"));
        let payloads = self.2.iter().map(|column| format!("'{column}', convert_from({column}, 'UTF8')"));
        let members: Vec<String> = plain.chain(payloads).collect();
        let object = format!("json_build_object({})", members.join(", "));
        format!("SELECT coalesce(json_agg({object}), '[]'::json)::text FROM agent_os.{}", self.0)
    }
}

/// The tables of the embedded database, opened directly and only for reading.
pub fn read_sqlite(path: &Path, history: &mut History) {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database opens");
    read(history, |table| connection.query_row(&table.sqlite(), [], |row| row.get(0)).expect("the table is read"));
}

/// The tables in Postgres. `ask` runs a query and gives its one text.
pub fn read_postgres(history: &mut History, ask: impl Fn(&str) -> Option<String>) {
    read(history, |table| ask(&table.postgres()).expect("the query has an answer"));
}

fn read(history: &mut History, ask: impl Fn(&Table) -> String) {
    history.tasks = rows(&ask(&TASK));
    history.events = rows(&ask(&EVENT));
    history.steps = rows(&ask(&STEP));
    history.schedules = rows(&ask(&SCHEDULE));
    history.fires = rows(&ask(&FIRE));
    history.kv = rows(&ask(&KV));
    history.notifications = rows(&ask(&NOTIFICATION));
    history.budgets = rows(&ask(&BUDGET));
    history.uses = rows(&ask(&USE));
}

fn rows<T: DeserializeOwned>(text: &str) -> Vec<T> {
    serde_json::from_str(text).expect("rows as they were asked for")
}

/// The records of an exported segment. Whether it is genuine, the verifier says.
pub fn parse_segment(text: &str) -> Vec<Record> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let bodies = lines.filter_map(|line| line.get("body").and_then(Value::as_str).map(str::to_owned));
    bodies.map(|body| parse_record(&body)).collect()
}

fn parse_record(body: &str) -> Record {
    let mut body: Value = serde_json::from_str(body).expect("a body of JSON");
    let seq = body.get("seq").and_then(Value::as_u64).expect("a record has its place");
    let event = body.get_mut("event").map(Value::take).expect("a record has its event");
    Record { seq, ..serde_json::from_value(event).expect("an event as documented") }
}
