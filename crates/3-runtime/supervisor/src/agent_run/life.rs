//! One life of an agent's process: spawn, handshake, work, end.

use std::sync::Arc;

use agentos_authority::Caller;
use agentos_base::{
    Ambient, names,
    trace::{Kind, Span},
};
use agentos_failpoint::{Point, hit};
use agentos_protocol::KernelFrame;
use agentos_sandbox::{Backend, Evidence, Sandboxes, plan::Plan};
use agentos_types::{
    Actor, AgentName, Code, Fault, InstanceId, Manifest, TaskId, Timestamp,
    agent::{AgentState, Usage},
};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Duration, Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::{
    Order, Run,
    calls::Calls,
    desk::Desk,
    heart::Heart,
    kills::Kills,
    link::{Link, Received},
};
use crate::{
    agents,
    lifecycle::Event,
    model_doors::{self, Visitor},
    package::{self, Blueprint},
    process::{Ends, Process},
    supervisor::Shared,
    surroundings::Surroundings,
};

/// Hashing a package of the largest size from a slow disk.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);
/// Work is claimed when the store announces it; this only catches an announcement that was lost.
const CLAIM_PERIOD: Duration = Duration::from_secs(1);
const SAMPLE_PERIOD: Duration = Duration::from_secs(5);
/// A worker between two tasks is not idle yet: without this pause every task would cost two audited transitions.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Frames that are read at once before a worker is called hung: its pong may wait behind them.
const FRAMES_BEFORE_HUNG: usize = 64;

/// How a life ended, as the actor needs to know it.
pub(crate) enum End {
    /// As somebody had asked.
    Stopped,
    /// It could not begin, and waiting would not change that.
    Refused(Fault),
    /// Killed for the sake of one canceled task.
    Stubborn(TaskId),
    /// Its launcher ended and took it along, or none could be had: neither it nor a task that waits for it is to blame.
    Lost(Fault),
    /// `healthy`: how long it was ready, if it ever was.
    Failed { event: Event, fault: Fault, healthy: Option<Duration> },
}

/// Why a process has to end or has ended.
#[derive(Debug)]
pub(super) enum Verdict {
    Exited,
    Closed {
        partial: bool,
    },
    /// It broke the protocol.
    Broken(Fault),
    Hung(Fault),
    /// Its workspace is above the bound.
    Overfull(Fault),
    /// The launcher of one of its commands ended, which may have another profile than its own.
    CommandLost,
    /// It was asked to exit and did not in time.
    Overdue,
    Stubborn(TaskId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The worker owes its hello.
    Launched,
    /// Welcomed; it owes its ready.
    Greeted,
    Ready,
}

pub(crate) struct Life<'r> {
    pub(super) run: &'r mut Run,
    pub(super) process: Process,
    pub(super) link: Link,
    pub(super) desk: Desk,
    pub(super) calls: Arc<Calls>,
    pub(super) heart: Heart,
    pub(super) kills: Kills,
    pub(super) caller: Caller,
    pub(super) manifest: Manifest,
    pub(super) phase: Phase,
    pub(super) ready_since: Option<Instant>,
    /// Set once the worker was told to exit.
    pub(super) leave_by: Option<Instant>,
    /// The process has ended or is about to: no new work.
    pub(super) over: bool,
    pub(super) pumps: JoinSet<()>,
    start_by: Instant,
    pub(super) idle_since: Option<Instant>,
    usage_stored: Usage,
    /// What its limits had counted when it was last looked at.
    seen: Evidence,
}

impl<'r> Life<'r> {
    /// Checks the package, makes the surroundings, has the sandbox made.
    pub(crate) async fn begin(run: &'r mut Run) -> Result<Self, End> {
        let (ambient, agent) = (run.shared.ambient.clone(), run.name.clone());
        let began_at = ambient.now();
        let life = Self::launch(run).await;
        trace_start(&ambient, &agent, began_at, life.as_ref().map(|life| &life.caller.instance));
        life.map_err(|fault| end_of(&fault))
    }

    async fn launch(run: &'r mut Run) -> Result<Self, Fault> {
        let Blueprint { manifest, grants, surroundings, plan } = prepare(run).await?;
        run.health = manifest.health.clone();
        run.card.say_degraded(surroundings.degraded());
        let caller = Caller {
            agent: run.name.clone(),
            instance: run.shared.ambient.instance_id(),
            grants,
            calls_per_minute: manifest.limits.calls_per_minute,
        };
        let surroundings = Arc::new(surroundings);
        let sandboxes = run.shared.options.sandboxes.in_cell(run.losses.cell(Instant::now()));
        let (work, in_hand) = watch::channel(None);
        let visitor = Visitor::new(caller.clone(), in_hand);
        match start(&run.shared, &sandboxes, (&manifest, visitor), plan, surroundings.clone()).await {
            Ok((process, ends)) => {
                hit(Point::SupervisorSpawned);
                Self::attach(run, manifest, (caller, work), process, ends)
            }
            Err(fault) => {
                Surroundings::remove(surroundings).await;
                Err(fault)
            }
        }
    }

    fn attach(
        run: &'r mut Run,
        manifest: Manifest,
        (caller, work): (Caller, watch::Sender<Option<TaskId>>),
        process: Process,
        ends: Ends,
    ) -> Result<Self, Fault> {
        let link = Link::open(ends.socket)?;
        let mut pumps = JoinSet::new();
        pumps.spawn(run.card.logs.clone().pump("stdout", ends.stdout));
        pumps.spawn(run.card.logs.clone().pump("stderr", ends.stderr));
        let instance = caller.instance.clone();
        run.card.meter.begin(instance.clone(), process.id(), process.surroundings().clone());
        let cell = run.losses.present_cell();
        run.shared.options.quarters.enter(caller.clone(), process.surroundings(), &manifest, cell);
        let life = Self {
            kills: Kills::of(process.surroundings().group()),
            desk: Desk::new(
                run.shared.tasks.clone(),
                run.name.clone(),
                instance,
                manifest.limits.concurrent_tasks,
                work,
            ),
            calls: Calls::new(link.replies()),
            heart: Heart::new(manifest.health.heartbeat_ms),
            start_by: Instant::now() + Duration::from_millis(manifest.health.start_timeout_ms),
            run,
            process,
            link,
            caller,
            manifest,
            phase: Phase::Launched,
            ready_since: None,
            leave_by: None,
            over: false,
            pumps,
            idle_since: None,
            usage_stored: Usage::default(),
            seen: Evidence::default(),
        };
        Ok(life.in_its_place())
    }

    pub(crate) async fn live(mut self) -> End {
        let verdict = match self.serve().await {
            Err(verdict) => verdict,
            Ok(never) => match never {},
        };
        self.conclude(verdict).await
    }

    /// Waits for whatever comes next, until a verdict.
    async fn serve(&mut self) -> Result<std::convert::Infallible, Verdict> {
        let (mut beat, mut renew) = (every(self.heart.period()), every(self.run.shared.tasks.options().lease / 3));
        let (mut claim, mut sample) = (every(CLAIM_PERIOD), every(SAMPLE_PERIOD));
        let command_lost = self.process.surroundings().command_lost();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                () = self.process.exited() => return Err(Verdict::Exited),
                () = self.kills.heard() => self.on_kill(),
                () = command_lost.cancelled() => return Err(Verdict::CommandLost),
                received = self.link.next(), if self.desk.has_room() => self.on_received(received).await?,
                effect = self.desk.next_effect() => self.on_effect(effect).await?,
                mail = self.run.card.mailbox.collect() => self.on_mail(mail)?,
                Some(order) = self.run.orders.recv() => self.on_order(order).await?,
                _ = beat.tick() => self.ping()?,
                _ = renew.tick() => self.desk.renew(),
                _ = claim.tick() => self.on_claim_tick().await?,
                _ = sample.tick() => self.look().await?,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.on_deadline().await?;
                }
                () = self.run.shared.stop.cancelled(), if self.leave_by.is_none() => self.leave()?,
            }
        }
    }

    /// The earliest instant at which something has to be done by itself.
    fn deadline(&self) -> Option<Instant> {
        let start = (self.phase != Phase::Ready).then_some(self.start_by);
        let cancel = self.desk.held().filter_map(|(_, held)| held.cancel_by).min();
        let idle = self.idle_since.map(|since| since + IDLE_AFTER);
        [start, self.heart.overdue_at(), cancel, self.leave_by, idle, self.run.behind.until()]
            .into_iter()
            .flatten()
            .min()
    }

    async fn on_deadline(&mut self) -> Result<(), Verdict> {
        self.take_its_place();
        let now = Instant::now();
        if self.leave_by.is_some_and(|by| by <= now) {
            return Err(Verdict::Overdue);
        }
        let stubborn = self.desk.held().find(|(_, held)| held.cancel_by.is_some_and(|by| by <= now));
        if let Some((task, _)) = stubborn {
            return Err(Verdict::Stubborn(task.clone()));
        }
        if self.phase != Phase::Ready && self.start_by <= now {
            let owed = if self.phase == Phase::Launched { "hello" } else { "ready" };
            let limit_ms = self.manifest.health.start_timeout_ms;
            return Err(Verdict::Hung(silent(format!("the worker did not say {owed} within {limit_ms} ms"))));
        }
        if self.heart.overdue_at().is_some_and(|at| at <= now) {
            self.check_pulse().await?;
        }
        if self.idle_since.is_some_and(|since| since + IDLE_AFTER <= now) {
            self.idle_since = None;
            if self.run.state == AgentState::Running && self.desk.is_empty() {
                self.note(Event::Idle).await;
            }
        }
        Ok(())
    }

    /// The pong is overdue. It may lie among frames that were not read yet, because this actor was busy.
    async fn check_pulse(&mut self) -> Result<(), Verdict> {
        for _ in 0..FRAMES_BEFORE_HUNG {
            if !self.desk.has_room() {
                self.heart.excuse(Instant::now());
            }
            if self.heart.overdue_at().is_none_or(|at| at > Instant::now()) {
                return Ok(());
            }
            match timeout(Duration::ZERO, self.link.next()).await {
                Ok(received) => self.on_received(received).await?,
                Err(_) => break,
            }
        }
        let limit_ms = self.manifest.health.heartbeat_ms;
        Err(Verdict::Hung(silent(format!("the worker did not answer a ping within {limit_ms} ms"))))
    }

    fn ping(&mut self) -> Result<(), Verdict> {
        // Before it is ready, the start has a limit of its own.
        match self.phase {
            Phase::Ready => self.heart.beat(Instant::now()).map_or(Ok(()), |n| self.send(&KernelFrame::Ping { n })),
            Phase::Launched | Phase::Greeted => Ok(()),
        }
    }

    pub(super) fn send(&self, frame: &KernelFrame) -> Result<(), Verdict> {
        self.link.send(frame).map_err(Verdict::Hung)
    }

    async fn on_order(&mut self, order: Order) -> Result<(), Verdict> {
        match self.run.obey(order, self.phase == Phase::Ready && self.leave_by.is_none()).await {
            Some(Event::Restart | Event::Deploy | Event::Terminate) => self.leave(),
            Some(Event::Resume) => {
                self.claim();
                Ok(())
            }
            // The worker that is still starting goes on doing so.
            _ => Ok(()),
        }
    }

    /// Asks the worker to exit. What it still finishes in the grace counts.
    fn leave(&mut self) -> Result<(), Verdict> {
        if self.leave_by.is_none() {
            let grace = self.run.shared.options.shutdown_grace;
            self.leave_by = Some(Instant::now() + grace);
            self.send(&KernelFrame::Shutdown { grace_ms: millis(grace) })?;
        }
        Ok(())
    }

    async fn on_claim_tick(&mut self) -> Result<(), Verdict> {
        // The transition may not have been written when it happened.
        if self.phase == Phase::Ready && self.leave_by.is_none() && self.run.state == AgentState::Starting {
            self.note(Event::Ready).await;
        }
        self.claim();
        Ok(())
    }

    /// A transition that follows from what the worker did. If the store does not take it, the next tick tries again, and
    /// until then no work is claimed.
    pub(super) async fn note(&mut self, event: Event) {
        if let Err(fault) = self.run.apply(event, Actor::System, None).await {
            tracing::warn!(agent = %self.run.name, %event, %fault, "transition not written yet");
        }
    }

    /// Reads what it uses, and says when it has hit a limit that did not end it.
    async fn look(&mut self) -> Result<(), Verdict> {
        let (card, surroundings) = (self.run.card.clone(), self.process.surroundings().clone());
        let init = self.process.id();
        let look = move || (card.meter.read(), surroundings.evidence(false), surroundings.check_workspace(init));
        let Ok((usage, seen, checked)) = spawn_blocking(look).await else { return Ok(()) };
        let logs = &self.run.card.logs;
        if seen.oom_kills > self.seen.oom_kills {
            let count = seen.oom_kills - self.seen.oom_kills;
            logs.kernel(&format!("{count} of its processes were killed at limits.memory_bytes"));
        }
        if seen.processes_refused > self.seen.processes_refused {
            let count = seen.processes_refused - self.seen.processes_refused;
            logs.kernel(&format!("{count} new processes were refused at limits.processes"));
        }
        self.seen = seen;
        self.store_usage(usage).await;
        match checked {
            Err(fault) if fault.code == Code::WORKSPACE_LIMIT => Err(Verdict::Overfull(fault)),
            // What cannot be measured now is measured again.
            _ => Ok(()),
        }
    }

    /// Into the row, when it has changed. A reading that is lost is repeated by the next.
    pub(super) async fn store_usage(&mut self, usage: Usage) {
        let usage = Usage { memory_bytes: 0, processes: 0, ..usage };
        if usage == self.usage_stored {
            return;
        }
        let name = self.run.name.clone();
        match self.run.shared.store.write(move |tx| agents::set_usage(tx, &name, &usage)).await {
            Ok(()) => self.usage_stored = usage,
            Err(fault) => tracing::warn!(agent = %self.run.name, %fault, "usage not written"),
        }
    }

    async fn on_received(&mut self, received: Result<Received, Fault>) -> Result<(), Verdict> {
        match received {
            Ok(Received::Frame(frame)) => self.on_frame(frame).await,
            Ok(Received::Closed { partial }) => Err(Verdict::Closed { partial }),
            Err(fault) => Err(Verdict::Broken(fault)),
        }
    }
}

/// A trace of its own: a worker is made for the agent and serves many tasks.
fn trace_start(ambient: &Ambient, agent: &AgentName, began_at: Timestamp, made: Result<&InstanceId, &Fault>) {
    let context = ambient.root();
    if !ambient.tracer().wants(&context) {
        return;
    }
    let name = format!("{} {agent}", names::spans::START_WORKER);
    let span = Span::new(name, Kind::Internal, context, began_at)
        .ended(ambient.now())
        .text(names::GEN_AI_AGENT_NAME, agent.to_string());
    ambient.tracer().record(match made {
        Ok(instance) => span.text(names::WORKER_INSTANCE, instance.to_string()),
        Err(fault) => span.failed(Some(fault.code.to_string())),
    });
}

async fn prepare(run: &mut Run) -> agentos_types::Result<Blueprint> {
    let name = run.name.clone();
    let manifest = run.shared.store.read(move |conn| agents::manifest(conn, &name)).await?;
    let host_id = host_id(run).await?;
    let (options, now) = (run.shared.options.clone(), run.shared.ambient.now());
    let prepare = move || package::prepare(&options, manifest, host_id, now);
    let prepared = timeout(PREPARE_TIMEOUT, spawn_blocking(prepare)).await;
    prepared.map_err(|_| silent("the package could not be checked in time".into()))?.map_err(Fault::internal)?
}

/// The sandbox with its way out and its door to models. What its programs try before these are open waits in the kernel.
async fn start(
    shared: &Shared,
    sandboxes: &Sandboxes,
    (manifest, visitor): (&Manifest, Visitor),
    mut plan: Plan,
    surroundings: Arc<Surroundings>,
) -> agentos_types::Result<(Process, Ends)> {
    let options = &shared.options;
    // Without walls the network inside is the machine's own.
    let has_door = sandboxes.backend() != Backend::None && visitor.caller.grants.calls_models();
    let doors = options.model_doors.as_ref().filter(|_| has_door);
    let door = doors.map(|doors| model_doors::Prepared::new(doors.clone(), visitor.clone()));
    let mut prepared = None;
    if let Some(ways) = &options.ways_out {
        let (made_by, manifest, now) = (ways.clone(), manifest.clone(), shared.ambient.now());
        let models = door.as_ref().map(model_doors::Prepared::hosts);
        let prepare =
            move || made_by.prepare(visitor.caller, &manifest, models, &mut plan, now).map(|prepared| (plan, prepared));
        let way_out;
        (plan, way_out) = spawn_blocking(prepare).await.map_err(Fault::internal)??;
        prepared = way_out.map(|way_out| (ways, way_out));
    }
    if let Some(door) = &door {
        door.add_to(&mut plan);
    }
    let (mut process, ends) = Process::start(sandboxes, plan, surroundings).await?;
    let mut listeners = process.take_listeners();
    if let Some(door) = door {
        process.surroundings().hold_model_door(door.open(&mut listeners)?)?;
    }
    if let Some((ways, way_out)) = prepared {
        process.surroundings().hold(way_out.open(ways, listeners)?)?;
    }
    Ok((process, ends))
}

/// The agent's own user on the host, where the server may give it one.
async fn host_id(run: &mut Run) -> agentos_types::Result<Option<u32>> {
    let Some(first) = run.shared.options.first_host_id else { return Ok(None) };
    let slot = match run.host_slot {
        Some(slot) => slot,
        None => {
            let name = run.name.clone();
            run.shared.store.write(move |tx| agents::host_slot(tx, &name)).await?
        }
    };
    run.host_slot = Some(slot);
    Ok(Some(first.saturating_add(slot)))
}

/// A start that cannot succeed without a person is refused; anything else is tried again, and what our own machinery did is
/// nobody's failure.
fn end_of(fault: &Fault) -> End {
    tracing::warn!(%fault, detail = fault.detail, "an agent was not started");
    match fault.code {
        // Full disks and failing ones say so, and when to try again; no other workspace comes back by itself.
        Code::WORKSPACE_UNAVAILABLE if fault.retry_after.is_none() => End::Refused(fault.clone()),
        Code::SHUTTING_DOWN => End::Stopped,
        Code::PACKAGE_MISMATCH
        | Code::MANIFEST_EXPIRED
        | Code::MANIFEST_INVALID
        | Code::LAUNCHER_MISSING
        | Code::LIMIT_UNENFORCEABLE
        | Code::SANDBOX_REFUSED
        | Code::WORKSPACE_LIMIT
        | Code::AGENT_NOT_FOUND
        | Code::STORE_CORRUPT => End::Refused(fault.clone()),
        Code::LAUNCHER_LOST | Code::LAUNCHER_NOT_READY => End::Lost(fault.clone()),
        _ => End::Failed { event: Event::LaunchFailed, fault: fault.clone(), healthy: None },
    }
}

fn silent(message: String) -> Fault {
    Fault::new(Code::WORKER_SILENT, message)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// First after one period; a tick that was missed is not made up for.
fn every(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
