//! Everything behind the door, put together as the binary does, on a clock and randomness that the tests own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex},
};

use agentos_audit::{AuditLog, Filter, LogIdentity, LogWriter, query};
use agentos_authority::{Caller, GrantSet};
use agentos_base::{Ambient, ambient::FakeClock, redact::Redactor};
use agentos_dialer::{Dialer, DialerOptions, Resolve};
use agentos_monitor::{Bounds, CallRequest, Executors, Monitor, Rules, egress::EgressRules};
use agentos_protocol::{
    frame::CallError,
    syscall::{CommandEnd, ModelCallResult},
};
use agentos_secrets::{SecretString, Secrets, SecretsKey};
use agentos_store::{Arg, Conn, Sequencer, Store, StoreOptions};
use agentos_tasks::{Lease, NewTask, Tasks, TasksOptions};
use agentos_tools::{BuiltinTools, Captured, Finished, Job, ModelAccess, ModelAsk, Outgoing, Workshop};
use agentos_types::{
    Actor, AgentName, Code, Fault, Grant, Result, Timestamp,
    audit::AuditEvent,
    task::{Step, TaskEvent},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::server::Server;

const LOG: &str = "node-1";
pub const START: Timestamp = Timestamp(1_800_000_000_000_000);
/// Names that all lead to the test's server, so that one server can be several hosts.
pub const HOSTS: [&str; 2] = ["api.test", "evil.test"];

/// A worker with a task in its hands.
#[derive(Clone, Debug)]
pub struct Worker {
    pub caller: Caller,
    pub lease: Lease,
}

pub struct House {
    pub store: Store,
    pub tasks: Tasks,
    pub secrets: Secrets,
    pub monitor: Monitor,
    pub log: AuditLog,
    pub clock: Arc<FakeClock>,
    pub audit: Gate,
    pub jobs: Arc<Jobs>,
    pub asked: Arc<Asked>,
    pub directory: tempfile::TempDir,
}

/// Remembers what was asked of models, says the words of its script and what they came to, or breaks off after them.
#[derive(Default)]
pub struct Asked {
    pub asks: Mutex<Vec<ModelAsk>>,
    pub words: Mutex<Vec<&'static str>>,
    pub breaks: Mutex<bool>,
    /// Fires when a call was dropped before its end.
    pub dropped: Arc<Notify>,
    pub hangs: Mutex<bool>,
}

#[async_trait]
impl ModelAccess for Asked {
    async fn ask(&self, ask: ModelAsk, pieces: mpsc::Sender<String>) -> Result<ModelCallResult> {
        self.asks.lock().unwrap().push(ask);
        let words = self.words.lock().unwrap().clone();
        let until_end = Dropped(Some(self.dropped.clone()));
        for word in &words {
            pieces.send((*word).to_owned()).await.unwrap();
        }
        while *self.hangs.lock().unwrap() {
            let _ = pieces.send("more".into()).await;
            tokio::task::yield_now().await;
        }
        until_end.disarm();
        if *self.breaks.lock().unwrap() {
            return Err(Fault::new(Code::CONNECTION_LOST, "the stream broke off"));
        }
        Ok(ModelCallResult { status: 200, body: json!({"said": words.concat()}), usage: None })
    }
}

struct Dropped(Option<Arc<Notify>>);

impl Dropped {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(notify) = &self.0 {
            notify.notify_one();
        }
    }
}

/// Remembers what it was to run, and says that it went well. The real one is tried on the real launcher.
#[derive(Default)]
pub struct Jobs(pub Mutex<Vec<Job>>);

#[async_trait]
impl Workshop for Jobs {
    async fn run(&self, job: Job) -> Result<Finished> {
        let stdout = Captured { kept: b"done".to_vec(), bytes: 4 };
        self.0.lock().unwrap().push(job);
        Ok(Finished {
            end: CommandEnd::Exited { status: 0 },
            stdout,
            stderr: Captured::default(),
            wall: std::time::Duration::from_millis(5),
            cpu: std::time::Duration::from_millis(2),
            memory_peak_bytes: 1 << 20,
        })
    }
}

/// What stands between the tools and the monitor; most stories need nothing there.
pub type Wrap = fn(BuiltinTools) -> Box<dyn Executors>;

impl House {
    /// The dialer's exceptions open the port of `server` and nothing else.
    pub async fn open(server: &Server) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), server, |tools| Box::new(tools)).await
    }

    /// The exceptions open another port too.
    pub async fn open_beside(server: &Server, other_port: u16) -> Self {
        let ports = [server.port(), other_port];
        Self::open_with(tempfile::tempdir().unwrap(), &ports, |tools| Box::new(tools), EgressRules::default(), &[])
            .await
    }

    /// What the operator decides about the network.
    pub async fn open_ruled(server: &Server, rules: EgressRules) -> Self {
        Self::open_with(tempfile::tempdir().unwrap(), &[server.port()], |tools| Box::new(tools), rules, &[]).await
    }

    pub async fn open_in(directory: tempfile::TempDir, server: &Server, wrap: Wrap) -> Self {
        Self::open_with(directory, &[server.port()], wrap, EgressRules::default(), &[]).await
    }

    /// With ALLOWED_COMMANDS.
    pub async fn open_bounded(server: &Server, commands: &[&str]) -> Self {
        let rules = EgressRules::default();
        Self::open_with(tempfile::tempdir().unwrap(), &[server.port()], |tools| Box::new(tools), rules, commands).await
    }

    async fn open_with(
        directory: tempfile::TempDir,
        ports: &[u16],
        wrap: Wrap,
        rules: EgressRules,
        commands: &[&str],
    ) -> Self {
        let (jobs, asked) = (Arc::new(Jobs::default()), Arc::new(Asked::default()));
        let (ambient, clock) = Ambient::fake(11, START);
        let identity = LogIdentity::new(LOG, &[5; 32]).unwrap();
        let audit = Gate::default();
        let writer = LogWriter::new(identity.clone(), ambient.clone());
        let store = Store::open(StoreOptions {
            directory: directory.path().into(),
            database: None,
            queue_max: 1_024,
            readers: 2,
            sequencer: Some(Box::new(Gated { gate: audit.clone(), writer })),
            ambient: ambient.clone(),
        })
        .unwrap();
        let tasks = Tasks::new(store.clone(), ambient.clone(), tasks_options());
        let redactor = Redactor::default();
        let key = SecretsKey::new([9; 32]);
        let secrets = Secrets::open(store.clone(), ambient.clone(), key, redactor.clone()).await.unwrap();
        let tools = BuiltinTools {
            outgoing: Outgoing { dialer: dialer(ports), ambient: ambient.clone(), propagate_to: Vec::new() },
            secrets: secrets.clone(),
            tasks: tasks.clone(),
            ambient: ambient.clone(),
            workshop: jobs.clone(),
            models: asked.clone(),
        };
        let commands: Vec<String> = commands.iter().map(|text| (*text).to_owned()).collect();
        let bounds = Bounds::new((!commands.is_empty()).then_some(commands.as_slice())).unwrap();
        // Long enough for a second try, short enough for a test in which none succeeds.
        let monitor =
            Monitor::new(store.clone(), tasks.clone(), ambient, wrap(tools), redactor, Rules { bounds, egress: rules })
                .holding(std::time::Duration::from_millis(400));
        let log = AuditLog::new(identity, store.clone(), directory.path());
        Self { store, tasks, secrets, monitor, log, clock, audit, jobs, asked, directory }
    }

    /// The server ends; its files stay.
    pub fn close(self) -> tempfile::TempDir {
        self.directory
    }

    /// An agent with these grants, as `[["category", "verb", "resource"], …]`.
    pub async fn agent(&self, name: &str, grants: &[[&str; 3]]) -> Caller {
        let row = name.to_owned();
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
                     VALUES ($1, '1.0.0', '00', 'key', 'running', 'running', 0, 0)",
                    &[Arg::Text(&row)],
                )
            })
            .await
            .unwrap();
        caller(name, grants)
    }

    /// A new task of the agent, in the hands of a worker.
    pub async fn claim(&self, caller: &Caller) -> Worker {
        let new = NewTask::new(caller.agent.clone(), json!({}));
        self.tasks.submit(&Actor::System, new).await.unwrap();
        self.take(caller).await
    }

    pub async fn worker(&self, name: &str, grants: &[[&str; 3]]) -> Worker {
        let caller = self.agent(name, grants).await;
        self.claim(&caller).await
    }

    /// The oldest waiting task of the agent.
    pub async fn take(&self, caller: &Caller) -> Worker {
        let claimed = self.tasks.claim(&caller.agent, 1).await.unwrap().remove(0);
        Worker { caller: caller.clone(), lease: claimed.lease }
    }

    /// The server died and came back: the task is given to the next worker under a higher fence.
    pub async fn crash(&self, worker: &Worker) -> Worker {
        self.tasks.recover().await.unwrap();
        self.take(&worker.caller).await
    }

    /// Another attempt takes the task over, whatever its steps look like: the case that parking normally prevents.
    pub async fn take_over(&self, worker: &Worker) -> Worker {
        let (task, fence) = (worker.lease.task.clone(), worker.lease.fence + 1);
        self.store
            .write(move |tx| tx.execute("UPDATE task SET fence = $2 WHERE id = $1", &[(&task).into(), fence.into()]))
            .await
            .unwrap();
        Worker { lease: Lease { fence, ..worker.lease.clone() }, ..worker.clone() }
    }

    pub async fn call(&self, worker: &Worker, step: &str, syscall: &str, args: Value) -> Result<Value, CallError> {
        let request = CallRequest { step: step.into(), syscall: syscall.into(), args };
        self.monitor.call(&worker.caller, &worker.lease, request).await
    }

    #[track_caller]
    pub fn refused<T: std::fmt::Debug>(&self, outcome: Result<T, CallError>, code: Code) -> CallError {
        let error = outcome.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        error
    }

    pub async fn secret(&self, name: &str, value: &str) {
        let value = SecretString::from(value.to_owned());
        self.secrets.set(&Actor::System, &name.parse().unwrap(), value).await.unwrap();
    }

    /// The records of one step, in the order of the log.
    pub async fn records_of(&self, worker: &Worker, step: &str) -> Vec<AuditEvent> {
        let task = worker.lease.task.clone();
        let filter = Filter { task: Some(task), limit: 500, ascending: true, ..Filter::default() };
        let found = self.store.read(move |conn| query(conn, LOG, &filter)).await.unwrap();
        let of_step = |event: &AuditEvent| event.correlation.as_deref() == Some(step);
        found.into_iter().map(|stored| stored.record.event).filter(of_step).collect()
    }

    pub async fn step(&self, worker: &Worker, key: &str) -> Option<Step> {
        let steps = self.tasks.steps(&worker.lease.task).await.unwrap();
        steps.into_iter().find(|step| step.key == key)
    }

    pub async fn events(&self, worker: &Worker) -> Vec<TaskEvent> {
        self.tasks.events(&worker.lease.task, 0, 500).await.unwrap()
    }

    /// One number from the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        self.store.read(move |conn| conn.query_one(sql, &[], |row| row.integer(0))).await.unwrap().unwrap()
    }

    /// The end of every story: the whole log verifies.
    pub async fn verified(&self) {
        let seen = self.log.verify().await.unwrap();
        assert_eq!(seen.finding, None);
        assert!(seen.records > 0);
    }
}

pub fn caller(name: &str, grants: &[[&str; 3]]) -> Caller {
    let grants: Vec<Grant> = grants
        .iter()
        .map(|[category, verb, resource]| {
            serde_json::from_value(json!({"category": category, "actions": [verb], "resources": [resource]})).unwrap()
        })
        .collect();
    Caller {
        agent: name.parse::<AgentName>().unwrap(),
        instance: Ambient::fake(1, START).0.instance_id(),
        grants: Arc::new(GrantSet::compile(&grants).unwrap()),
        calls_per_minute: 600,
    }
}

pub fn tasks_options() -> TasksOptions {
    TasksOptions {
        node: LOG.into(),
        attempts_max: 5,
        lease: std::time::Duration::from_secs(30),
        queue_max: 1_000,
        interval_min: std::time::Duration::from_secs(1),
    }
}

fn dialer(ports: &[u16]) -> Dialer {
    let hosts = HOSTS.iter().copied().chain(["127.0.0.1"]);
    let targets = hosts.flat_map(|host| ports.iter().map(move |port| format!("{host}:{port}")));
    let private_exceptions = targets.map(|target| target.parse().unwrap()).collect();
    let options = DialerOptions { private_exceptions, ..DialerOptions::default() };
    Dialer::with_resolver(options, Arc::new(Loopback)).unwrap()
}

struct Loopback;

#[async_trait]
impl Resolve for Loopback {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

type Rule = Box<dyn Fn(&AuditEvent) -> bool + Send>;

/// Decides which records the audit log refuses to take.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Option<Rule>>>);

impl Gate {
    pub fn refuse(&self, rule: impl Fn(&AuditEvent) -> bool + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(rule));
    }

    pub fn open(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// The real log behind the gate.
struct Gated {
    gate: Gate,
    writer: LogWriter,
}

impl Sequencer for Gated {
    fn load(&mut self, conn: &Conn<'_>) -> Result<()> {
        self.writer.load(conn)
    }

    fn seal(&mut self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        let refused = self.gate.0.lock().unwrap().as_ref().is_some_and(|rule| events.iter().any(rule));
        if refused {
            // As late as it can fail: the rows are written, only the commit is missing.
            self.writer.seal(conn, events)?;
            return Err(Fault::new(Code::AUDIT_UNAVAILABLE, "the test's gate is closed"));
        }
        self.writer.seal(conn, events)
    }

    fn settled(&mut self, durable: bool) {
        self.writer.settled(durable);
    }
}

/// Every byte of the database: the file and its write-ahead log.
pub fn database_bytes(directory: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(directory.join(Store::FILE_NAME)).unwrap();
    bytes.extend(std::fs::read(directory.join(format!("{}-wal", Store::FILE_NAME))).unwrap_or_default());
    bytes
}
