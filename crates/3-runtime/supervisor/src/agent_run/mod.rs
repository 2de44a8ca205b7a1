//! The actor of one agent: takes it from state to state, one life of a process after the other.

mod assign;
mod calls;
mod desk;
mod frames;
mod heart;
mod kills;
mod life;
mod link;
mod settle;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_failpoint::{Point, hit};
use agentos_sandbox::Reason;
use agentos_types::{
    Actor, AgentName, Code, Fault, Result,
    agent::{AgentState, Control},
    manifest::Health,
    task::{ErrorClass, Failure},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    accounting::Meter,
    agents::{self, Change},
    backoff::{Backoff, JITTER_PERMILLE},
    behind::Behind,
    lifecycle::{self, Event},
    logs::Logs,
    losses::{LOSSES_MAX, Losses, WINDOW},
    mailbox::Mailbox,
    supervisor::{Shared, impossible},
};

use life::{End, Life};

/// Cells below one: a draw of this width chooses evenly among them.
const CELL_DRAW: u64 = 15;
/// Wait before a transition is written again when the store did not take it.
const RETRY: Duration = Duration::from_secs(1);

/// What the actor shares with readers and with the router of notices.
pub(crate) struct Card {
    pub(crate) logs: Arc<Logs>,
    pub(crate) meter: Meter,
    pub(crate) mailbox: Mailbox,
    /// Limits of the manifest that the present life does not have.
    degraded: Mutex<Vec<Control>>,
}

impl Card {
    pub(crate) fn new(logs: Arc<Logs>, meter: Meter) -> Self {
        Self { logs, meter, mailbox: Mailbox::default(), degraded: Mutex::default() }
    }

    pub(crate) fn degraded(&self) -> Vec<Control> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn say_degraded(&self, controls: Vec<Control>) {
        *self.degraded.lock().unwrap_or_else(PoisonError::into_inner) = controls;
    }
}

/// An event that somebody wants to happen.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) event: Event,
    pub(crate) actor: Actor,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

pub(crate) struct Run {
    shared: Arc<Shared>,
    name: AgentName,
    state: AgentState,
    card: Arc<Card>,
    orders: mpsc::Receiver<Order>,
    backoff: Backoff,
    behind: Behind,
    losses: Losses,
    /// Which of the two the present wait is for.
    is_lost: bool,
    /// What a quarantine has to explain: the limit alone tells nobody what to repair.
    last_failure: String,
    /// Of the manifest that was started last.
    health: Health,
    /// Its place among the users of the host, once it is known.
    host_slot: Option<u32>,
    /// How the last life ended, until it is written with the state that follows from it.
    ended: Option<Reason>,
}

impl Run {
    pub(crate) fn new(
        shared: Arc<Shared>,
        name: AgentName,
        state: AgentState,
        card: Arc<Card>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self {
            shared,
            name,
            state,
            card,
            orders,
            backoff: Backoff::default(),
            behind: Behind::default(),
            losses: Losses::default(),
            is_lost: false,
            last_failure: String::new(),
            health: Health::default(),
            host_slot: None,
            ended: None,
        }
    }

    /// Until the agent is terminated or the server stops.
    pub(crate) async fn run(mut self, first: Option<(Event, Actor)>) {
        if let Some((event, actor)) = first {
            self.apply_surely(event, actor, None).await;
        }
        while self.state != AgentState::Terminated && !self.shared.stop.is_cancelled() {
            match self.state {
                AgentState::Starting => self.live().await,
                AgentState::BackingOff => self.back_off().await,
                // No process is left here.
                AgentState::Ready | AgentState::Running => self.apply_surely(Event::Boot, Actor::System, None).await,
                _ => self.wait_for_order().await,
            }
        }
        if self.state == AgentState::Terminated {
            self.release_workspace().await;
        }
    }

    /// Its data stay; nothing of it stays mounted for an agent that may never come back.
    async fn release_workspace(&self) {
        let (workspaces, name) = (self.shared.options.workspaces.clone(), self.name.clone());
        let released = spawn_blocking(move || workspaces.release(name.as_str())).await;
        if let Err(fault) = released.map_err(Fault::internal).flatten() {
            tracing::warn!(agent = %self.name, %fault, detail = fault.detail, "a workspace was not released");
        }
    }

    /// One life, from the check of the package to the last reading of the process.
    async fn live(&mut self) {
        let Some(turn) = self.turn().await else { return };
        let begun = Life::begin(self).await;
        drop(turn);
        let end = match begun {
            Ok(life) => life.live().await,
            Err(end) => end,
        };
        match end {
            // Whoever asked has written the next state already, or the server stops.
            End::Stopped => {}
            End::Refused(fault) => {
                self.apply_surely(Event::Refused, Actor::System, Some(with_remedy(&fault))).await;
            }
            End::Stubborn(task) => {
                let reason = format!("ended because it did not cancel {task} in time");
                // A pause stays a pause.
                let event = if self.state == AgentState::Paused { Event::Crash } else { Event::Restart };
                self.apply_surely(event, Actor::System, Some(reason)).await;
            }
            End::Lost(fault) => {
                match fault.code {
                    Code::LAUNCHER_NOT_READY => self.losses.find_none_ready(),
                    _ => self.losses.lose(Instant::now(), self.shared.ambient.random_up_to(CELL_DRAW)),
                }
                self.is_lost = true;
                self.last_failure = fault.to_string();
                self.apply_surely(Event::LauncherLost, Actor::System, Some(fault.to_string())).await;
            }
            End::Failed { event, fault, healthy } => {
                self.is_lost = false;
                self.backoff.fail(healthy.unwrap_or_default());
                let failure = failure_of(&fault);
                self.last_failure = fault.to_string();
                self.apply_surely(event, Actor::System, Some(fault.to_string())).await;
                if healthy.is_none() && self.state == AgentState::BackingOff {
                    self.charge_waiting(failure).await;
                }
            }
        }
    }

    /// Waits for its turn to start. None: something else came first, and the state says what follows from it.
    async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            () = self.shared.stop.cancelled() => None,
            turn = self.shared.starts.clone().acquire_owned() => turn.ok(),
            Some(order) = self.orders.recv() => {
                self.obey(order, false).await;
                None
            }
        }
    }

    /// A start that failed is a failed attempt of the tasks that it was for: they say why nothing happens, and become dead
    /// letters in the end instead of waiting for ever.
    async fn charge_waiting(&self, failure: Failure) {
        let tasks = &self.shared.tasks;
        // One a start: the others keep their attempts for a start that succeeds.
        let claimed = match tasks.claim(&self.name, 1).await {
            Ok(claimed) => claimed,
            Err(fault) => return tracing::warn!(agent = %self.name, %fault, "waiting tasks could not be charged"),
        };
        for one in claimed {
            if let Err(fault) = tasks.release(&one.lease, failure.clone()).await {
                // The lease runs out and the sweep does the same later.
                tracing::warn!(agent = %self.name, task = %one.task.id, %fault, "a task could not be released");
            }
        }
    }

    async fn back_off(&mut self) {
        if let Some(fault) = self.quarantine() {
            self.apply_surely(Event::FailureLimit, Actor::System, Some(fault.to_string())).await;
            return;
        }
        let draw = self.shared.ambient.random_up_to(JITTER_PERMILLE);
        let wait = if self.is_lost { self.losses.wait(draw) } else { self.backoff.wait(draw) };
        let over = Instant::now() + wait;
        while self.state == AgentState::BackingOff {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = sleep_until(over) => self.apply_surely(Event::BackoffOver, Actor::System, None).await,
                Some(order) = self.orders.recv() => drop(self.obey(order, false).await),
            }
        }
    }

    /// Why it is not started again, if it has gone too far.
    fn quarantine(&self) -> Option<Fault> {
        let last = &self.last_failure;
        if self.losses.is_found_out() {
            let minutes = WINDOW.as_secs() / 60;
            let message = format!("{LOSSES_MAX} launchers ended with it within {minutes} minutes; the last: {last}");
            return Some(Fault::new(Code::LAUNCHER_ENDANGERED, message));
        }
        let count = self.backoff.failures();
        (count >= self.health.failures_max).then(|| {
            let message = format!("{count} failures in a row (health.failures_max); the last: {last}");
            Fault::new(Code::AGENT_QUARANTINED, message)
        })
    }

    /// Without a process nothing happens but orders.
    async fn wait_for_order(&mut self) {
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            Some(order) = self.orders.recv() => drop(self.obey(order, false).await),
        }
    }

    /// Writes the transition that somebody asked for and answers. Returns what happened, if it did.
    async fn obey(&mut self, order: Order, worker_ready: bool) -> Option<Event> {
        let event = match order.event {
            // Without a worker to go on with, the pause ends in a start.
            Event::Resume if self.state == AgentState::Paused && !worker_ready => Event::Start,
            event => event,
        };
        let outcome = self.apply(event, order.actor, None).await;
        let happened = outcome.is_ok();
        if happened && matches!(event, Event::Restart | Event::Deploy) {
            self.backoff.reset();
            self.losses.reset();
        }
        // Whoever asked may have gone; the order stands.
        let _ = order.reply.send(outcome);
        happened.then_some(event)
    }

    /// The one place where a state changes: refused by the table, or durable and audited first.
    async fn apply(&mut self, event: Event, actor: Actor, reason: Option<String>) -> Result<()> {
        let Some(to) = lifecycle::next(self.state, event) else {
            return Err(impossible(&self.name, self.state, event));
        };
        let change = Change {
            agent: self.name.clone(),
            from: self.state,
            to,
            event,
            actor,
            reason: reason.map(|text| self.shared.options.redactor.clean(&text)),
            process: self.card.meter.process(),
            ended: self.ended.map(Reason::as_str),
        };
        let said = match &change.reason {
            Some(reason) => format!("{} -> {to} ({event}): {reason}", self.state),
            None => format!("{} -> {to} ({event})", self.state),
        };
        let ambient = self.shared.ambient.clone();
        self.shared.store.write(move |tx| agents::set_state(tx, &ambient, &change)).await?;
        hit(Point::SupervisorStateWritten);
        self.ended = None;
        tracing::info!(agent = %self.name, "{said}");
        self.card.logs.kernel(&said);
        self.state = to;
        Ok(())
    }

    /// For what has happened already and cannot be refused: tries until the store takes it or the server stops.
    async fn apply_surely(&mut self, event: Event, actor: Actor, reason: Option<String>) {
        while let Err(fault) = self.apply(event, actor.clone(), reason.clone()).await {
            tracing::error!(agent = %self.name, %event, %fault, detail = fault.detail, "transition not written");
            if lifecycle::next(self.state, event).is_none() {
                return;
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = sleep(RETRY) => {}
            }
        }
    }
}

/// For who has to mend it: nothing goes on before.
fn with_remedy(fault: &Fault) -> String {
    match &fault.hint {
        Some(hint) => format!("{fault} (remedy: {hint})"),
        None => fault.to_string(),
    }
}

/// What a task gets to hear about the end of its worker.
fn failure_of(fault: &agentos_types::Fault) -> Failure {
    Failure { class: ErrorClass::Crash, code: Some(fault.code), message: fault.message.clone(), retry_after_s: None }
}
