//! What every test needs: a store with a counting audit log, one agent, a journal, a clock.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_base::{Ambient, ambient::FakeClock};
use agentos_scratch::Scratch;
use agentos_store::{Arg, Conn, Database, Sequencer, Store, StoreOptions};
use agentos_tasks::{Claimed, Lease, NewStep, NewTask, StepStart, Tasks, TasksOptions};
use agentos_types::{
    Actor, AgentName, Fault, Result, TaskId, Timestamp,
    audit::AuditEvent,
    notify::Notice,
    task::{ErrorClass, Failure, Safety, Task, TaskState},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast;

pub const LEASE: Duration = Duration::from_secs(15);
/// 2026-11-23T00:00:00Z.
pub const START: Timestamp = Timestamp(1_795_392_000_000_000);

pub struct Bench {
    pub directory: TempDir,
    pub scratch: Scratch,
    pub store: Store,
    pub tasks: Tasks,
    pub ambient: Ambient,
    pub clock: Arc<FakeClock>,
    pub audited: Arc<Mutex<Vec<AuditEvent>>>,
}

/// An audit log that only remembers.
struct Remembering {
    sealed: Vec<AuditEvent>,
    durable: Arc<Mutex<Vec<AuditEvent>>>,
}

impl Sequencer for Remembering {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        self.sealed.extend_from_slice(events);
        Ok(())
    }
    fn settled(&mut self, durable: bool) {
        let events = std::mem::take(&mut self.sealed);
        if durable {
            self.durable.lock().unwrap().extend(events);
        }
    }
}

pub fn options(node: &str) -> TasksOptions {
    TasksOptions {
        node: node.into(),
        attempts_max: 3,
        lease: LEASE,
        queue_max: 10_000,
        interval_min: Duration::from_secs(1),
    }
}

pub fn database(scratch: &Scratch) -> Option<Database> {
    scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
}

pub fn open(directory: &Path, scratch: &Scratch, ambient: Ambient, audited: Arc<Mutex<Vec<AuditEvent>>>) -> Store {
    open_on(directory, database(scratch), ambient, audited)
}

pub fn open_on(
    directory: &Path,
    database: Option<Database>,
    ambient: Ambient,
    audited: Arc<Mutex<Vec<AuditEvent>>>,
) -> Store {
    let sequencer = Remembering { sealed: Vec::new(), durable: audited };
    Store::open(StoreOptions {
        directory: directory.into(),
        database,
        queue_max: 4_096,
        readers: 2,
        sequencer: Some(Box::new(sequencer)),
        ambient,
    })
    .unwrap()
}

pub async fn bench() -> Bench {
    bench_with(options("node-a")).await
}

pub async fn bench_with(options: TasksOptions) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let (ambient, clock) = Ambient::fake(7, START);
    let audited = Arc::new(Mutex::new(Vec::new()));
    let scratch = super::BACKEND.scratch();
    let store = open(directory.path(), &scratch, ambient.clone(), audited.clone());
    let tasks = Tasks::new(store.clone(), ambient.clone(), options);
    let bench = Bench { directory, scratch, store, tasks, ambient, clock, audited };
    bench.deploy("echo").await;
    bench
}

pub fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

pub fn echo() -> AgentName {
    agent("echo")
}

pub fn person() -> Actor {
    Actor::Token { token: "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap(), name: "anna".into() }
}

pub fn failure(class: ErrorClass) -> Failure {
    Failure { class, code: None, message: format!("{} on purpose", class.as_str()), retry_after_s: None }
}

pub fn step(key: &str, safety: Safety, hash: &str) -> NewStep {
    NewStep { key: key.into(), syscall: "net.fetch", safety, request_hash: hash.into() }
}

impl Bench {
    pub async fn deploy(&self, name: &str) {
        self.sql(
            "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
             VALUES ($1, '1.0.0', 'x', 'y', 'running', 'running', 0, 0)",
            name,
        )
        .await;
    }

    /// One statement with one text argument, behind the journal's back.
    pub async fn sql(&self, statement: &'static str, argument: &str) -> usize {
        let argument = argument.to_owned();
        self.store.write(move |tx| tx.execute(statement, &[Arg::Text(&argument)])).await.unwrap()
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        self.store.read(move |conn| conn.query_one(query, &[], |row| row.integer(0))).await.unwrap().unwrap()
    }

    pub async fn submit(&self) -> Task {
        self.tasks.submit(&person(), NewTask::new(echo(), json!({"n": 1}))).await.unwrap().task
    }

    pub async fn claim(&self) -> Claimed {
        self.tasks.claim(&echo(), 1).await.unwrap().pop().expect("nothing to claim")
    }

    pub async fn working(&self) -> Claimed {
        self.submit().await;
        self.claim().await
    }

    pub async fn begin(&self, lease: &Lease, step: NewStep) -> Result<StepStart> {
        let (tasks, lease) = (self.tasks.clone(), lease.clone());
        self.store.write(move |tx| tasks.begin_step(tx, &lease, &step)).await
    }

    pub async fn end(&self, lease: &Lease, key: &str, outcome: Result<Value, Fault>) -> Result<()> {
        let (tasks, lease, key) = (self.tasks.clone(), lease.clone(), key.to_owned());
        self.store.write(move |tx| tasks.finish_step(tx, &lease, &key, outcome.as_ref())).await
    }

    pub async fn state(&self, id: &TaskId) -> TaskState {
        self.tasks.get(id).await.unwrap().state
    }

    pub fn actions(&self) -> Vec<String> {
        self.audited.lock().unwrap().iter().map(|event| event.action.clone()).collect()
    }

    /// The last audit fact of an action.
    pub fn last(&self, action: &str) -> AuditEvent {
        let audited = self.audited.lock().unwrap();
        audited.iter().rfind(|event| event.action == action).unwrap_or_else(|| panic!("no {action}")).clone()
    }

    /// Every `state` event of a task, as the states that it went through.
    pub async fn history(&self, id: &TaskId) -> Vec<String> {
        let events = self.tasks.events(id, 0, 500).await.unwrap();
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event.seq, index as i64 + 1, "a gap in the events of {id}");
        }
        let states = events.iter().filter(|event| event.kind == "state");
        states.map(|event| event.data["state"].as_str().unwrap().to_owned()).collect()
    }
}

/// What was announced so far.
pub fn drain(notices: &mut broadcast::Receiver<Notice>) -> Vec<Notice> {
    std::iter::from_fn(|| notices.try_recv().ok()).collect()
}
