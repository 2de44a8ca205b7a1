//! One life of the server: store, audit log, journal of two nodes, monitor. A crash drops it and opens what is left.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use agentos_audit::{AuditLog, LogIdentity, LogWriter};
use agentos_authority::{Caller, GrantSet};
use agentos_base::{Ambient, redact::Redactor};
use agentos_monitor::{Monitor, Rules};
use agentos_scratch::{Backend, Scratch};
use agentos_store::{Database, Store, StoreOptions};
use agentos_tasks::{Tasks, TasksOptions};
use agentos_types::{Actor, AgentName, Grant, Timestamp, audit::AuditEvent};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    deed::Side,
    disk::{self, Trap, Trapped},
    world::{Hands, Stop, World},
};

pub const LEASE: Duration = Duration::from_secs(15);
/// 2026-11-23T00:00:00Z.
pub const START: Timestamp = Timestamp(1_795_392_000_000_000);
pub const ATTEMPTS_MAX: i64 = 4;
const LOG: &str = "node-1";

pub struct Node {
    pub store: Store,
    /// The same journal as the two nodes see it.
    pub tasks: [Tasks; 2],
    pub monitor: Monitor,
    pub log: AuditLog,
    pub trap: Trap,
    pub stops: mpsc::UnboundedReceiver<Stop>,
    pub directory: TempDir,
}

/// The database that a run uses, and how it begins.
pub struct Ground {
    pub backend: Backend,
    scratch: Scratch,
}

impl Ground {
    pub fn new(backend: Backend) -> Self {
        Self { backend, scratch: backend.scratch() }
    }

    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    /// A new installation with its agent.
    pub async fn begin(&self, ambient: &Ambient, world: &World) -> Node {
        let directory = disk::directory();
        if self.backend == Backend::Sqlite {
            std::fs::write(directory.path().join(Store::FILE_NAME), template()).unwrap();
        }
        let node = self.open(directory, ambient, world);
        if self.backend == Backend::Postgres {
            node.store.write(|tx| tx.execute(AGENT, &[])).await.unwrap();
        }
        // As after every installation, the log has a beginning.
        let event = AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "sim.begin", "sim");
        node.store.record(event).await.unwrap();
        node
    }

    /// The server starts on what it finds.
    pub fn open(&self, directory: TempDir, ambient: &Ambient, world: &World) -> Node {
        let identity = LogIdentity::new(LOG, &[5; 32]).unwrap();
        let trap = Trap::new(self.backend, directory.path());
        let log = LogWriter::new(identity.clone(), ambient.clone());
        let store = Store::open(StoreOptions {
            directory: directory.path().into(),
            database: self.database(),
            queue_max: 256,
            readers: 1,
            sequencer: Some(Box::new(Trapped { trap: trap.clone(), log })),
            ambient: ambient.clone(),
        })
        .unwrap();
        let tasks = ["node-a", "node-b"].map(|node| Tasks::new(store.clone(), ambient.clone(), options(node)));
        let (sender, stops) = mpsc::unbounded_channel();
        let hands = Hands { world: world.clone(), stops: sender };
        let monitor = Monitor::new(
            store.clone(),
            tasks[0].clone(),
            ambient.clone(),
            Box::new(hands),
            Redactor::default(),
            Rules::default(),
        );
        let log = AuditLog::new(identity, store.clone(), directory.path());
        Node { store, tasks, monitor, log, trap, stops, directory }
    }
}

impl Node {
    pub fn of(&self, side: Side) -> &Tasks {
        &self.tasks[side as usize]
    }
}

const AGENT: &str =
    "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
    VALUES ('sim', '1.0.0', 'x', 'y', 'running', 'running', 0, 0)";

/// The embedded database of an installation that has done nothing yet. Made once: migrations are not what is simulated.
fn template() -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let directory = disk::directory();
        let (ambient, _) = Ambient::fake(1, START);
        let path = directory.path();
        std::thread::scope(|scope| scope.spawn(|| make(path, ambient)).join().unwrap());
        std::fs::read(path.join(Store::FILE_NAME)).unwrap()
    })
}

fn make(directory: &Path, ambient: Ambient) {
    let options = StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 8,
        readers: 1,
        sequencer: None,
        ambient,
    };
    let store = Store::open(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.write(|tx| tx.execute(AGENT, &[]))).unwrap();
}

pub fn agent() -> AgentName {
    "sim".parse().unwrap()
}

fn options(node: &str) -> TasksOptions {
    TasksOptions {
        node: node.into(),
        attempts_max: ATTEMPTS_MAX,
        lease: LEASE,
        queue_max: 1_000,
        interval_min: Duration::from_secs(1),
    }
}

/// The agent with every grant that its script needs.
pub fn caller(ambient: &Ambient) -> Caller {
    let grants: Vec<Grant> = [
        ["kv", "write", "*"],
        ["net", "fetch", "https://world.test/*"],
        ["notify", "webhook", "https://world.test/*"],
        ["secret", "use", "hook@world.test"],
    ]
    .iter()
    .map(|[category, verb, resource]| {
        serde_json::from_value(json!({"category": category, "actions": [verb], "resources": [resource]})).unwrap()
    })
    .collect();
    Caller {
        agent: agent(),
        instance: ambient.instance_id(),
        grants: Arc::new(GrantSet::compile(&grants).unwrap()),
        calls_per_minute: 1_000_000,
    }
}
