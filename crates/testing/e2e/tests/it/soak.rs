//! Weeks in a minute: work every day, a retention of two days, and at the end the installation holds and needs what it did
//! in its first week.
//!
//! `AGENTOS_SOAK_DAYS`, `AGENTOS_SOAK_TASKS` (a day) and `AGENTOS_SOAK_SEED` set the size; `make test-deep` uses them.

#![expect(clippy::print_stdout, reason = "a soak says what it has measured")]

pub mod clock;
mod gauge;

use agentos_kit::{Package, TestOs};
use agentos_scratch::{Backend, Scratch};
use agentos_types::task::TaskState;
use clock::ShiftedClock;
use futures_util::future::join_all;
use gauge::Gauge;
use serde_json::{Value, json};

use crate::chaos::chance::{Chance, setting};

const DAY_S: i64 = 86_400;
/// Kept two days by the settings below; after so many days as many rows go as come.
const SETTLED_AFTER: usize = 4;
const RETENTION: &[(&str, &str)] = &[
    ("TASK_RETENTION_DAYS", "2"),
    ("DEAD_LETTER_RETENTION_DAYS", "3"),
    ("EVENT_RETENTION_DAYS", "1"),
    ("IDEMPOTENCY_RETENTION_DAYS", "1"),
    ("CREDENTIAL_RETENTION_DAYS", "1"),
];
/// What one task may ask for, and how many of ten do.
const ACTIONS: [&str; 10] =
    ["publish", "publish", "publish", "count", "count", "echo", "echo", "echo", "echo", "break"];
const GRANTS: &str = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n\
    [[grants]]\ncategory = \"notify\"\nactions = [\"event\"]\nresources = [\"event:*\"]\n\
    [limits]\nconcurrent_tasks = 4\n";

#[tokio::test]
async fn weeks_of_work_leave_the_embedded_store_as_large_as_days_do() {
    soak(Backend::Sqlite).await;
}

#[tokio::test]
async fn weeks_of_work_leave_postgres_as_large_as_days_do() {
    soak(Backend::Postgres).await;
}

async fn soak(backend: Backend) {
    let days = usize::try_from(setting("AGENTOS_SOAK_DAYS", 9)).unwrap();
    let tasks = usize::try_from(setting("AGENTOS_SOAK_TASKS", 60)).unwrap();
    assert!((2 * SETTLED_AFTER..=300).contains(&days), "a soak has 8 to 300 days; the token lives one year");
    let mut chance = Chance::new(setting("AGENTOS_SOAK_SEED", 1));
    let (clock, scratch) = (ShiftedClock::new(), backend.blank());
    let os = installed(&clock, &scratch).await;
    let mut gauges = Vec::new();
    for day in 0..days {
        work(&os, &mut chance, day, tasks).await;
        clock.advance_s(DAY_S);
        let run = os.cli_json(&["retention", "run", "--wait"]).await;
        assert!(run["running"] == false && run["last_run"]["failure"] == Value::Null, "{run}");
        let gauge = Gauge::read(&os, &scratch);
        println!(
            "{backend:?} day {day}: {} tasks, {} steps, {} events, {} notifications, {} KiB, {} KiB with the audit log, \
             {} KiB resident, {} descriptors",
            gauge.rows_of("task"),
            gauge.rows_of("step"),
            gauge.rows_of("task_event"),
            gauge.rows_of("notification"),
            gauge.bytes / 1024,
            gauge.bytes_all / 1024,
            gauge.resident_kib,
            gauge.descriptors
        );
        gauges.push(gauge);
    }
    judge(&gauges, tasks);
    let taken = os.cli_json(&["retention", "show"]).await["counts"].clone();
    for kind in ["tasks", "dead-letters", "steps", "events", "notifications"] {
        let count = taken.as_array().unwrap().iter().find(|count| count["kind"] == kind);
        assert!(count.is_some_and(|count| count["rows_total"].as_i64() > Some(0)), "{kind}: {taken}");
    }
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

async fn installed(clock: &ShiftedClock, scratch: &Scratch) -> TestOs {
    let mut os = TestOs::bare(RETENTION);
    for (name, value) in clock.environment() {
        os.set_env(name, &value);
    }
    if let Some((url, admin)) = scratch.urls() {
        os.set_env("DATABASE_URL", url);
        os.set_env("DATABASE_ADMIN_URL", admin);
    }
    os.cli_ok(&["init"]).await;
    // From here on nobody has more rights than the server needs: days are opened and dropped without the owner's role.
    os.unset_env("DATABASE_ADMIN_URL");
    os.up().await;
    let echo = include_str!("../../../../../examples/python/echo/echo_agent.py");
    let worker = echo.replace(
        "    if action == \"count\":\n",
        "    if action == \"break\":\n        raise ValueError(\"on purpose\")\n    if action == \"publish\":\n        \
         return task.call(\"say\", \"notify.event\", kind=\"soak.tick\", data=task.input)\n    if action == \"count\":\n",
    );
    assert_ne!(worker, echo);
    os.deploy(&Package::python("echo", &worker, GRANTS)).await;
    os
}

/// A day's work, to its end.
async fn work(os: &TestOs, chance: &mut Chance, day: usize, tasks: usize) {
    let client = os.client();
    let mut numbers = (0..tasks).map(|number| {
        // Each tenth with a key, which holds its task no longer than a day.
        let key = (number % 10 == 0).then(|| format!("{day}-{number}"));
        (json!({"action": chance.pick(&ACTIONS), "text": "x".repeat(200)}), key)
    });
    loop {
        let batch: Vec<_> = numbers.by_ref().take(50).collect();
        if batch.is_empty() {
            return;
        }
        let submitted = join_all(batch.iter().map(|(input, key)| {
            let body = serde_json::from_value(json!({"agent": "echo", "input": input})).unwrap();
            let client = &client;
            async move { client.submit_task(&body, key.as_deref()).await.unwrap().id }
        }));
        for (id, (input, _)) in submitted.await.iter().zip(&batch) {
            let broken = input["action"] == "break";
            let expected = if broken { TaskState::Failed } else { TaskState::Completed };
            assert_eq!(os.finished(id).await.state, expected);
        }
    }
}

/// Nothing is larger at the end than it was when as many rows began to go as come.
fn judge(gauges: &[Gauge], tasks: usize) {
    let (first, last) = (&gauges[SETTLED_AFTER..SETTLED_AFTER + 3], &gauges[gauges.len() - 3..]);
    let most = |of: &[Gauge], value: &dyn Fn(&Gauge) -> i64| of.iter().map(value).max().unwrap_or(0);
    let flat = |what: &str, value: &dyn Fn(&Gauge) -> i64, slack: i64| {
        let (first, last) = (most(first, value), most(last, value));
        assert!(last <= first + slack, "{what} grew from {first} to {last}");
    };
    let tasks = i64::try_from(tasks).unwrap();
    for table in last[0].rows.keys() {
        // What a day draws by chance differs from day to day, and a count retries by chance.
        flat(table, &|gauge| gauge.rows_of(table), tasks);
    }
    assert!(most(last, &|gauge| gauge.rows_of("task")) <= 4 * tasks, "more tasks than the retention allows");
    flat("bytes", &|gauge| gauge.bytes, most(first, &|gauge| gauge.bytes) / 5 + 256 * 1024);
    flat("memory in KiB", &|gauge| i64::try_from(gauge.resident_kib).unwrap(), 16 * 1024);
    // A connection that is just being closed.
    flat("descriptors", &|gauge| i64::try_from(gauge.descriptors).unwrap(), 4);
}
