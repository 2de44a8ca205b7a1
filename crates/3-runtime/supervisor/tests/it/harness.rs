//! A whole supervisor on a real store with the real launcher; only the monitor is played by the test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use agentos_authority::Caller;
use agentos_base::{Ambient, Background, redact::Redactor};
use agentos_limits::{
    Cgroups, CgroupsOptions,
    quota::{QuotaChoice, QuotaDriver, WorkspaceOptions, Workspaces},
};
use agentos_protocol::frame::CallError;
use agentos_sandbox::{Backend, SandboxOptions, Sandboxes, plan::HostRoot};
use agentos_store::{Conn, Sequencer, Store, StoreOptions};
use agentos_supervisor::{AgentCommand, Commands, Deployment, Quarters, Supervisor, SupervisorOptions, Syscalls};
use agentos_tasks::{Lease, NewTask, Tasks, TasksOptions};
use agentos_trust::{SigningKeyFile, dsse};
use agentos_types::{
    Actor, AgentName, Manifest, Result, TaskId,
    agent::{Agent, AgentState},
    audit::AuditEvent,
    hex,
    machine::Machine,
    manifest::LimitEnforcement,
    task::{Task, TaskState},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::models::FakeDoors;

/// Far above what any step needs; only a defect lets a test wait this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
const WORKER: &str = include_str!("worker.py");
pub const NODE: &str = "test-node";
/// Users of the host that agents of tests are.
pub const FIRST_HOST_ID: u32 = 1_900_000_000;

pub struct World {
    pub directory: PathBuf,
    pub store: Store,
    pub tasks: Tasks,
    pub supervisor: Supervisor,
    pub background: Background,
    pub monitor: Arc<FakeMonitor>,
    pub doors: Arc<FakeDoors>,
    pub audit: Arc<Mutex<Vec<AuditEvent>>>,
    pub sandboxes: Sandboxes,
    pub commands: Commands,
    _temporary: Option<tempfile::TempDir>,
}

/// Answers `kv.get` with its caller, lets `test.slow` wait until the test rings, and never answers `test.never`.
#[derive(Default)]
pub struct FakeMonitor {
    pub seen: Mutex<Vec<(String, TaskId, Value)>>,
    pub bell: Notify,
    pub finished: Mutex<Vec<TaskId>>,
}

#[async_trait]
impl Syscalls for FakeMonitor {
    async fn call(
        &self,
        caller: &Caller,
        lease: &Lease,
        _step: String,
        syscall: String,
        args: Value,
    ) -> Result<Value, CallError> {
        self.seen.lock().unwrap().push((syscall.clone(), lease.task.clone(), args.clone()));
        match syscall.as_str() {
            "test.never" => std::future::pending().await,
            "test.slow" => self.bell.notified().await,
            _ => {}
        }
        self.finished.lock().unwrap().push(lease.task.clone());
        Ok(json!({"caller": caller.agent, "args": args}))
    }
}

struct Recorder(Arc<Mutex<Vec<AuditEvent>>>);

impl Sequencer for Recorder {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        self.0.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

pub fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

impl World {
    pub async fn new() -> Self {
        // Leaves no mount behind when a test is killed.
        Self::with_workspaces(QuotaDriver::Watchdog).await
    }

    pub async fn with_workspaces(driver: QuotaDriver) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut world = Self::start(temporary.path(), driver, Backend::Native, launcher()).await;
        world._temporary = Some(temporary);
        world
    }

    /// `program` plays the launcher, or becomes it.
    pub async fn with_launcher(program: PathBuf) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut world = Self::start(temporary.path(), QuotaDriver::Watchdog, Backend::Native, program).await;
        world._temporary = Some(temporary);
        world
    }

    /// A server start on a data directory, perhaps one with a history.
    pub async fn open(directory: &Path) -> Self {
        Self::start(directory, QuotaDriver::Watchdog, Backend::Native, launcher()).await
    }

    /// As on a machine for development that has no walls.
    pub async fn without_walls() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut world = Self::start(temporary.path(), QuotaDriver::Watchdog, Backend::None, launcher()).await;
        world._temporary = Some(temporary);
        world
    }

    /// As on a machine without control groups.
    pub async fn without_groups() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let cgroups =
            Cgroups::open(&CgroupsOptions { subtree: Some("/proc/self".into()), ..CgroupsOptions::default() });
        let machine = (QuotaDriver::Watchdog, Backend::Native, launcher(), cgroups);
        let mut world = Self::start_on(temporary.path(), machine).await;
        world._temporary = Some(temporary);
        world
    }

    async fn start(directory: &Path, driver: QuotaDriver, backend: Backend, launcher: PathBuf) -> Self {
        Self::start_on(directory, (driver, backend, launcher, Cgroups::probe("supervisor-tests"))).await
    }

    async fn start_on(
        directory: &Path,
        (driver, backend, launcher, cgroups): (QuotaDriver, Backend, PathBuf, Cgroups),
    ) -> Self {
        let ambient = Ambient::system();
        let audit = Arc::new(Mutex::new(Vec::new()));
        let store = Store::open(StoreOptions {
            directory: directory.into(),
            database: None,
            queue_max: 1_024,
            readers: 2,
            sequencer: Some(Box::new(Recorder(audit.clone()))),
            ambient: ambient.clone(),
        })
        .unwrap();
        let options = TasksOptions {
            node: NODE.into(),
            attempts_max: 3,
            lease: Duration::from_secs(6),
            queue_max: 1_000,
            interval_min: Duration::from_secs(1),
        };
        let tasks = Tasks::new(store.clone(), ambient.clone(), options);
        let background = Background::default();
        let (monitor, doors) = (Arc::new(FakeMonitor::default()), Arc::new(FakeDoors::default()));
        let redactor = Redactor::default();
        redactor.know(["planted-secret-value"]);
        let sandboxes = Sandboxes::open(SandboxOptions { launcher, backend }).unwrap();
        let commands = Commands {
            sandboxes: sandboxes.clone(),
            host: Arc::new(HostRoot::survey(Path::new("/")).unwrap()),
            quarters: Quarters::default(),
        };
        let options = SupervisorOptions {
            sandboxes: sandboxes.clone(),
            host: commands.host.clone(),
            cgroups,
            workspaces: Workspaces::open(WorkspaceOptions {
                root: directory.join("work"),
                choice: QuotaChoice::Only(driver),
                is_strict: false,
            }),
            machine: Arc::new(Machine::of(Vec::new())),
            enforcement: LimitEnforcement::Degraded,
            first_host_id: (backend != Backend::None && rustix::process::geteuid().is_root()).then_some(FIRST_HOST_ID),
            ways_out: None,
            model_doors: Some(doors.clone()),
            closed: vec![directory.into()],
            packages: directory.join("packages"),
            cancel_grace: Duration::from_millis(300),
            shutdown_grace: Duration::from_millis(500),
            quarters: commands.quarters.clone(),
            redactor,
        };
        let supervisor =
            Supervisor::start(options, store.clone(), tasks.clone(), ambient, background.clone(), monitor.clone())
                .await
                .unwrap();
        Self {
            directory: directory.into(),
            store,
            tasks,
            supervisor,
            background,
            monitor,
            doors,
            audit,
            sandboxes,
            commands,
            _temporary: None,
        }
    }

    /// Puts a package in place and deploys it; `change` goes over the manifest.
    pub async fn try_deploy(&self, agent: &str, change: Value) -> Result<Agent> {
        let deployment = self.package(agent, change);
        self.supervisor.deploy(&Actor::System, deployment).await
    }

    pub async fn deploy(&self, agent: &str, change: Value) -> AgentName {
        self.try_deploy(agent, change).await.unwrap().name
    }

    pub fn package(&self, agent: &str, change: Value) -> Deployment {
        let mut manifest = json!({
            "schema": 1, "name": agent, "version": "1.0.0", "command": [python(), "-S", "worker.py"],
            "files": {"worker.py": hex::encode(&Sha256::digest(WORKER))},
            "limits": {"concurrent_tasks": 4},
        });
        merge(&mut manifest, change);
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        manifest.validate().unwrap();
        let package = self.supervisor.package_directory(&manifest);
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("worker.py"), WORKER).unwrap();
        let payload = serde_json::to_vec(&manifest).unwrap();
        let key = SigningKeyFile::generate(&[7; 32]);
        Deployment {
            manifest_sha256: hex::encode(&Sha256::digest(&payload)),
            signed_by: key.keyid().to_owned(),
            envelope: dsse::sign(dsse::MANIFEST_TYPE, &payload, &key).unwrap(),
            manifest,
        }
    }

    pub async fn submit(&self, agent: &AgentName, input: Value) -> TaskId {
        self.tasks.submit(&Actor::System, NewTask::new(agent.clone(), input)).await.unwrap().task.id
    }

    pub async fn command(&self, agent: &AgentName, command: AgentCommand) -> Result<Agent> {
        self.supervisor.command(&Actor::System, agent, command).await
    }

    pub async fn agent(&self, agent: &AgentName) -> Agent {
        self.supervisor.get(agent).await.unwrap()
    }

    /// The final task.
    pub async fn finished(&self, task: &TaskId) -> Task {
        self.until("a final task", async || {
            let task = self.tasks.get(task).await.unwrap();
            task.state.is_terminal().then_some(task)
        })
        .await
    }

    /// Submits and waits for the output.
    pub async fn output(&self, agent: &AgentName, input: Value) -> Value {
        let task = self.finished(&self.submit(agent, input).await).await;
        assert_eq!(task.state, TaskState::Completed, "{task:?}");
        task.output.unwrap()
    }

    pub async fn in_state(&self, agent: &AgentName, state: AgentState) -> Agent {
        self.until(state.as_str(), async || Some(self.agent(agent).await).filter(|agent| agent.state == state)).await
    }

    /// The task waits for its next attempt and says what went wrong with the last one.
    pub async fn failed_once(&self, task: &TaskId) -> Task {
        self.until("a failure", async || {
            Some(self.tasks.get(task).await.unwrap()).filter(|task| task.failure.is_some())
        })
        .await
    }

    pub fn transitions(&self, agent: &str) -> Vec<String> {
        let audit = self.audit.lock().unwrap();
        audit
            .iter()
            .filter(|event| event.action == "agent.state" && event.resource == agent)
            .map(|event| event.facts["to"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Looks at each notice of the store, and now and then for what is not announced (the end of a process).
    pub async fn until<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let mut notices = self.store.subscribe();
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let wait = async {
            loop {
                if let Some(found) = condition().await {
                    return found;
                }
                tokio::select! { _ = notices.recv() => {}, _ = tick.tick() => {} }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("no {what} in time; agents: {:#?}", self.supervisor.list().await),
        }
    }

    pub async fn gone(&self, pid: u32) {
        self.until("end of a process", async || (!is_alive(pid)).then_some(())).await;
    }

    /// Every process of the sandbox with this init, as the host numbers them.
    pub fn inside(&self, init: u32) -> Vec<u32> {
        let namespace = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let of_init = namespace(&init).unwrap();
        let entries = fs::read_dir("/proc").unwrap();
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        numbers.filter(|pid| namespace(pid).is_some_and(|found| found == of_init)).collect()
    }

    pub async fn logs(&self, agent: &AgentName) -> Vec<String> {
        let lines = self.supervisor.logs(agent, 1_000).await.unwrap();
        lines.into_iter().map(|line| format!("{}: {}", line.stream, line.text)).collect()
    }

    /// A server stop; the directory can be opened again after it.
    pub async fn stop(self) -> Option<tempfile::TempDir> {
        assert!(self.supervisor.shutdown().await);
        assert!(self.background.stop(PATIENCE).await);
        self._temporary
    }
}

pub fn mounts_below(directory: &Path) -> usize {
    let directory = directory.canonicalize().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at).starts_with(&directory))).count()
}

/// Dead and waiting to be reaped counts as gone.
pub fn is_alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => !text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => false,
    }
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

/// The system's own, which sandboxes have: one of a version manager lies in somebody's home.
pub fn python() -> &'static str {
    "/usr/bin/python3"
}

/// The real launcher beside the test's own directory; built if nobody has done so.
pub fn launcher() -> PathBuf {
    static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();
    let found = LAUNCHER.get_or_init(|| {
        let deps = std::env::current_exe().unwrap();
        let path = deps.parent().and_then(Path::parent).unwrap().join("agent-os-launch");
        if !path.exists() {
            let built = Command::new(env!("CARGO")).args(["build", "-p", "agentos-launcher"]).status().unwrap();
            assert!(built.success());
        }
        path
    });
    found.clone()
}

pub fn environment(pairs: &[(&str, &str)]) -> Value {
    json!({"environment": pairs.iter().copied().collect::<BTreeMap<_, _>>()})
}
