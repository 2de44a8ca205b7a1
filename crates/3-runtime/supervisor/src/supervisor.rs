//! The handle that the server holds: deploy, command, look, shut down. One actor an agent does the work.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use agentos_base::{Ambient, Background};
use agentos_failpoint::{Point, hit};
use agentos_store::{Store, Tx};
use agentos_tasks::Tasks;
use agentos_types::{
    Actor, AgentName, Code, Fault, Manifest, Result,
    agent::{Agent, AgentState},
    notify::Notice,
};
use tokio::{
    sync::{Mutex, Semaphore, broadcast, mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    LogLine, SupervisorOptions, Syscalls,
    accounting::Meter,
    agent_run::{Card, Order, Run},
    agents::{self, Installed},
    controls::of_agent,
    ends::Ends,
    lifecycle::{self, Event},
    logs::Logs,
    package,
};

pub use crate::agents::Deployment;

/// Orders that wait for one actor. They come from people, one at a time.
const ORDERS_MAX: usize = 16;
/// An actor that checks a large package or ends a life takes seconds, never this long.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);
/// Agents that are being started. A launcher makes one sandbox after the other and has seconds for each that waits, and what
/// else needs a thread that may block gets one beside them; as few as this keep any machine busy.
pub const STARTS_AT_ONCE: usize = 32;
/// On top of the grace that workers get: kill, last readings, last writes.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(10);

/// What an operator can tell an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    /// Running tasks finish, no new ones are taken; the process is kept.
    Pause,
    Resume,
    /// Ends the process, in the grace if it can, and starts a new one. Also the way out of quarantine and failure.
    Restart,
    /// Final. Tasks that wait stay waiting.
    Terminate,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// What all actors have in common.
pub(crate) struct Shared {
    pub(crate) options: SupervisorOptions,
    pub(crate) store: Store,
    pub(crate) tasks: Tasks,
    pub(crate) ambient: Ambient,
    pub(crate) background: Background,
    pub(crate) syscalls: Arc<dyn Syscalls>,
    pub(crate) ends: Ends,
    /// Fires when all agents are to end, leases left as they are.
    pub(crate) stop: CancellationToken,
    /// Whose turn it is to start: a whole server full of agents may want to at once.
    pub(crate) starts: Arc<Semaphore>,
    actors: TaskTracker,
    agents: RwLock<BTreeMap<AgentName, Handle>>,
    /// One deployment at a time: the row and the actor change together.
    deploying: Mutex<()>,
}

#[derive(Clone)]
struct Handle {
    orders: mpsc::Sender<Order>,
    card: Arc<Card>,
    /// Fires when the actor has ended, and with it the last life: processes, group and workspace.
    ended: CancellationToken,
}

impl Supervisor {
    /// Starts every installed agent that is wanted running. The journal must have recovered before.
    pub async fn start(
        options: SupervisorOptions,
        store: Store,
        tasks: Tasks,
        ambient: Ambient,
        background: Background,
        syscalls: Arc<dyn Syscalls>,
    ) -> Result<Self> {
        if let Some(ways) = options.ways_out.clone() {
            spawn_blocking(move || ways.clear()).await.map_err(Fault::internal)??;
        }
        let notices = store.subscribe();
        let stop = background.shutdown().child_token();
        let shared = Arc::new(Shared {
            options,
            store,
            tasks,
            ambient,
            background,
            syscalls,
            ends: Ends::default(),
            stop,
            starts: Arc::new(Semaphore::new(STARTS_AT_ONCE)),
            actors: TaskTracker::new(),
            agents: RwLock::default(),
            deploying: Mutex::default(),
        });
        for agent in shared.store.read(agents::list).await? {
            if agent.state != AgentState::Terminated {
                let boot = lifecycle::next(agent.state, Event::Boot).map(|_| (Event::Boot, Actor::System));
                shared.enrol(agent, boot);
            }
        }
        shared.background.spawn("supervisor notices", shared.clone().route(notices));
        Ok(Self { shared })
    }

    /// Where the files of a package must lie before it is deployed.
    pub fn package_directory(&self, manifest: &Manifest) -> PathBuf {
        package::directory(&self.shared.options, manifest)
    }

    /// Installs a verified manifest whose files are in place, and starts it. The same version with the same content again
    /// changes nothing.
    pub async fn deploy(&self, actor: &Actor, deployment: Deployment) -> Result<Agent> {
        self.deploy_with(actor, deployment, |_| Ok(())).await
    }

    /// What others keep about the agent is written by `alongside`, in the transaction of the deployment.
    pub async fn deploy_with(
        &self,
        actor: &Actor,
        deployment: Deployment,
        alongside: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<Agent> {
        let shared = &self.shared;
        let name = deployment.manifest.name.clone();
        let _one_at_a_time = shared.deploying.lock().await;
        if shared.stop.is_cancelled() {
            return Err(stopping());
        }
        let (ambient, who) = (shared.ambient.clone(), actor.clone());
        let install = move |tx: &mut Tx<'_>| {
            let installed = agents::install(tx, &ambient, &who, &deployment)?;
            alongside(tx)?;
            Ok(installed)
        };
        let installed = shared.store.write(install).await?;
        hit(Point::SupervisorInstalled);
        match installed {
            Installed::New => {
                let row = self.row(&name).await?;
                shared.enrol(row, Some((Event::Start, actor.clone())));
            }
            Installed::Upgraded { .. } => self.order(actor, &name, Event::Deploy).await?,
            Installed::Unchanged => {}
        }
        self.get(&name).await
    }

    /// Returns when the change of state is durable; a process that has to end may still be doing so.
    pub async fn command(&self, actor: &Actor, name: &AgentName, command: AgentCommand) -> Result<Agent> {
        let event = match command {
            AgentCommand::Pause => Event::Pause,
            AgentCommand::Resume => Event::Resume,
            AgentCommand::Restart => Event::Restart,
            AgentCommand::Terminate => Event::Terminate,
        };
        self.order(actor, name, event).await?;
        self.get(name).await
    }

    /// The agent with the present readings of its process.
    pub async fn get(&self, name: &AgentName) -> Result<Agent> {
        let row = self.row(name).await?;
        if let Some(handle) = self.shared.handle(name) {
            // What it reads stays in the meter.
            spawn_blocking(move || handle.card.meter.read()).await.map_err(Fault::internal)?;
        }
        Ok(self.shared.enliven(row))
    }

    /// All agents by name, with the last readings of their processes, which are a few seconds old at most: a present one of
    /// each takes too long where there are many.
    pub async fn list(&self) -> Result<Vec<Agent>> {
        let rows = self.shared.store.read(agents::list).await?;
        Ok(rows.into_iter().map(|row| self.shared.enliven(row)).collect())
    }

    /// The newest `lines` lines that the agent printed since the server started, oldest first.
    pub async fn logs(&self, name: &AgentName, lines: usize) -> Result<Vec<LogLine>> {
        match self.shared.handle(name) {
            Some(handle) => Ok(handle.card.logs.tail(lines)),
            // Known but without a life since the start, or not known at all.
            None => self.row(name).await.map(|_| Vec::new()),
        }
    }

    /// How often processes have ended since the server started without being asked to, by the names of
    /// `agentos_sandbox::Reason`.
    pub fn ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.shared.ends.counts()
    }

    /// Ends all agents: asked first, killed after the grace. Their leases stay, for the server to give back when nothing
    /// runs any more. Returns false if something still runs.
    pub async fn shutdown(&self) -> bool {
        self.shared.stop.cancel();
        self.shared.actors.close();
        let patience = self.shared.options.shutdown_grace + SHUTDOWN_SLACK;
        let ended = tokio::time::timeout(patience, self.shared.actors.wait()).await.is_ok();
        // Not left to the last handle: a connection that is still open may hold one to the end of the process.
        let workspaces = self.shared.options.workspaces.clone();
        let _ = spawn_blocking(move || workspaces.close()).await;
        ended
    }

    async fn row(&self, name: &AgentName) -> Result<Agent> {
        let name = name.clone();
        self.shared.store.read(move |conn| agents::get(conn, &name)).await
    }

    async fn order(&self, actor: &Actor, name: &AgentName, event: Event) -> Result<()> {
        let Some(handle) = self.shared.handle(name) else {
            let row = self.row(name).await?;
            return Err(impossible(name, row.state, event));
        };
        let (reply, answer) = oneshot::channel();
        let order = Order { event, actor: actor.clone(), reply };
        let asked = async {
            let gone = || match self.shared.stop.is_cancelled() {
                true => stopping(),
                false => impossible(name, AgentState::Terminated, event),
            };
            handle.orders.send(order).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        tokio::time::timeout(ORDER_TIMEOUT, asked).await.map_err(Fault::internal)?
    }
}

impl Shared {
    /// Gives the agent its actor. One that is terminated may still be in its grace: the new one begins when nothing of it is
    /// left, and goes on with its card.
    fn enrol(self: &Arc<Self>, agent: Agent, first: Option<(Event, Actor)>) {
        let before = self.handle(&agent.name);
        let fresh = || {
            let logs = Logs::new(self.options.redactor.clone(), self.ambient.clone());
            Arc::new(Card::new(Arc::new(logs), Meter::new(agent.usage)))
        };
        let card = before.as_ref().map_or_else(fresh, |before| before.card.clone());
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let ended = CancellationToken::new();
        // However the actor ends.
        let guard = ended.clone().drop_guard();
        let handle = Handle { orders, card: card.clone(), ended };
        self.agents.write().unwrap_or_else(PoisonError::into_inner).insert(agent.name.clone(), handle);
        let run = Run::new(self.clone(), agent.name, agent.state, card, waiting);
        let alive = async move {
            if let Some(before) = before {
                before.ended.cancelled().await;
            }
            run.run(first).await;
            drop(guard);
        };
        self.background.spawn("agent", self.actors.track_future(alive));
    }

    fn handle(&self, name: &AgentName) -> Option<Handle> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds to the row what only the living process knows.
    fn enliven(&self, mut row: Agent) -> Agent {
        let handle = self.handle(&row.name);
        let degraded = handle.as_ref().map(|handle| handle.card.degraded()).unwrap_or_default();
        row.controls = of_agent(&self.options.machine, &row.limits, &degraded);
        if let Some(handle) = handle {
            row.usage = handle.card.meter.last();
            let process = handle.card.meter.process();
            row.pid = process.as_ref().map(|(_, pid)| *pid);
            row.instance = process.map(|(instance, _)| instance);
        } else {
            // Without an actor there is no process, whatever an earlier server has left in the row.
            (row.pid, row.instance) = (None, None);
        }
        row
    }

    /// Carries the store's notices to the agents that they concern, so that the others sleep on.
    async fn route(self: Arc<Self>, mut notices: broadcast::Receiver<Notice>) {
        loop {
            let notice = tokio::select! {
                () = self.stop.cancelled() => return,
                notice = notices.recv() => notice,
            };
            match notice {
                Ok(Notice::WorkFor(agent)) => self.to(&agent, |card| card.mailbox.work()),
                Ok(Notice::CancelAsked { agent, task }) => self.to(&agent, |card| card.mailbox.cancel(task)),
                Ok(Notice::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
                    agents.values().for_each(|handle| handle.card.mailbox.missed());
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn to(&self, agent: &AgentName, work: impl FnOnce(&Card)) {
        if let Some(handle) = self.handle(agent) {
            work(&handle.card);
        }
    }
}

/// What an order gets that the table does not allow.
pub(crate) fn impossible(agent: &AgentName, state: AgentState, event: Event) -> Fault {
    let fault = Fault::new(Code::AGENT_STATE, format!("agent {agent} is {state}: {event} is not possible"));
    match state {
        AgentState::Terminated => fault.hint("deploy it again"),
        AgentState::Quarantined | AgentState::Failed => fault.hint("use: agent-os agent restart"),
        _ => fault,
    }
}

fn stopping() -> Fault {
    Fault::new(Code::SHUTTING_DOWN, "the server is shutting down")
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Supervisor")
    }
}
