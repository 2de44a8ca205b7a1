//! The tasks that one worker holds, and the writes to the journal that are under way for them.
//!
//! Writes run beside the actor, so that a slow disk delays neither pings nor calls; they reach the journal in the order in
//! which they were begun.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use agentos_base::trace::{Scope, scoped};
use agentos_failpoint::{Point, hit};
use agentos_tasks::{Claimed, Ending, Lease, Tasks};
use agentos_types::{
    Actor, AgentName, Code, InstanceId, Result, TaskId,
    task::{Failure, Task},
};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

/// Writes under way at the same time; above it the worker's frames wait. Each may hold a payload.
const EFFECTS_MAX: usize = 32;
/// Tasks that are remembered after their end, so that a late frame about one is told from a wrong one.
const PAST_MAX: usize = 1_024;
/// An ending is written again while the store is busy or away, for as long as the lease can last.
const FINISH_RETRY: Duration = Duration::from_millis(200);
const FINISH_RETRY_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// Cancel was asked: the worker is killed at this instant.
    pub(crate) cancel_by: Option<Instant>,
    /// The lease is gone; what the worker still says about the task will be refused.
    pub(crate) lost: bool,
}

/// What came of a write.
pub(crate) enum Effect {
    Claimed(Result<Vec<Claimed>>),
    /// The tasks whose lease is lost, with its fence.
    Renewed(Result<Vec<(TaskId, i64)>>),
    /// Present states of held tasks, after notices were lost.
    Looked(Vec<Task>),
    Written,
}

/// Whose task a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Held,
    /// Over for this worker: a late frame, to be ignored.
    Past,
    Unknown,
}

pub(crate) struct Desk {
    tasks: Tasks,
    agent: AgentName,
    instance: InstanceId,
    slots: usize,
    held: BTreeMap<TaskId, Held>,
    past: VecDeque<TaskId>,
    effects: JoinSet<Effect>,
    claiming: bool,
    claim_again: bool,
    look_after_claim: bool,
    renewing: bool,
    /// Cancels that came while a claim was under way, perhaps for one of its tasks.
    early_cancels: Vec<TaskId>,
    /// The one task that is held, for who asks beside this actor.
    work: watch::Sender<Option<TaskId>>,
}

impl Desk {
    pub(crate) fn new(
        tasks: Tasks,
        agent: AgentName,
        instance: InstanceId,
        slots: u32,
        work: watch::Sender<Option<TaskId>>,
    ) -> Self {
        Self {
            tasks,
            agent,
            instance,
            slots: usize::try_from(slots).unwrap_or(usize::MAX),
            held: BTreeMap::new(),
            past: VecDeque::new(),
            effects: JoinSet::new(),
            claiming: false,
            claim_again: false,
            look_after_claim: false,
            renewing: false,
            early_cancels: Vec::new(),
            work,
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = (&TaskId, &Held)> {
        self.held.iter()
    }

    pub(crate) fn get(&self, task: &TaskId) -> Option<&Held> {
        self.held.get(task)
    }

    pub(crate) fn get_mut(&mut self, task: &TaskId) -> Option<&mut Held> {
        self.held.get_mut(task)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether another frame of the worker may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.effects.len() < EFFECTS_MAX
    }

    pub(crate) fn standing(&self, task: &TaskId) -> Standing {
        match self.held.contains_key(task) {
            true => Standing::Held,
            false if self.past.contains(task) => Standing::Past,
            false => Standing::Unknown,
        }
    }

    /// The next write that is done; pending for ever while none is under way.
    pub(crate) async fn next_effect(&mut self) -> Effect {
        match self.effects.join_next().await {
            Some(Ok(effect)) => effect,
            // It panicked, which is logged; what it wrote or not is for the lease to settle.
            Some(Err(_)) => Effect::Written,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.effects.is_empty()
    }

    /// Asks for as many tasks as there are free slots; once more after a claim that is under way.
    pub(crate) fn claim(&mut self) {
        let free = self.slots.saturating_sub(self.held.len());
        if self.claiming {
            self.claim_again = true;
        } else if free > 0 {
            self.claiming = true;
            let (tasks, agent) = (self.tasks.clone(), self.agent.clone());
            self.begin(async move { Effect::Claimed(tasks.claim(&agent, free).await) });
        }
    }

    /// After a claim: takes its tasks in, but for those whose cancel came first; these end here. Returns the tasks to hand
    /// out, and whether to claim again.
    pub(crate) fn take_in(&mut self, claimed: Vec<Claimed>) -> (Vec<Task>, bool) {
        self.claiming = false;
        let early = std::mem::take(&mut self.early_cancels);
        let mut to_hand_out = Vec::with_capacity(claimed.len());
        for Claimed { task, lease } in claimed {
            if early.contains(&task.id) || task.cancel_asked_at.is_some() {
                self.write_ending(lease, Ending::Canceled);
                continue;
            }
            self.past.retain(|past| *past != task.id);
            self.held.insert(task.id.clone(), Held { lease, cancel_by: None, lost: false });
            to_hand_out.push(task);
        }
        self.tell_work();
        if std::mem::take(&mut self.look_after_claim) {
            self.look();
        }
        (to_hand_out, std::mem::take(&mut self.claim_again))
    }

    /// A cancel for a task that is not held: it may be on its way here.
    pub(crate) fn remember_cancel(&mut self, task: TaskId) {
        if self.claiming {
            self.early_cancels.push(task);
        }
    }

    /// All leases in one write.
    pub(crate) fn renew(&mut self) {
        let leases: Vec<_> = self.held.values().filter(|held| !held.lost).map(|held| held.lease.clone()).collect();
        if self.renewing || leases.is_empty() {
            return;
        }
        self.renewing = true;
        let tasks = self.tasks.clone();
        self.begin(async move {
            let lost = tasks.renew(&leases).await;
            let with_fence = |lost: Vec<TaskId>| {
                let lost_leases = leases.into_iter().filter(|lease| lost.contains(&lease.task));
                lost_leases.map(|lease| (lease.task, lease.fence)).collect()
            };
            Effect::Renewed(lost.map(with_fence))
        });
    }

    pub(crate) fn renewed(&mut self) {
        self.renewing = false;
    }

    /// Reads the held tasks again, because notices about them may be lost.
    pub(crate) fn look(&mut self) {
        self.look_after_claim = self.claiming;
        let ids: Vec<_> = self.held.keys().cloned().collect();
        let tasks = self.tasks.clone();
        self.begin(async move {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                // A task that cannot be read now is looked at again by the next renewal.
                found.extend(tasks.get(&id).await);
            }
            Effect::Looked(found)
        });
    }

    pub(crate) fn progress(&mut self, task: &TaskId, data: Value) {
        let Some(lease) = self.held.get(task).map(|held| held.lease.clone()) else { return };
        let tasks = self.tasks.clone();
        self.begin(async move {
            if let Err(fault) = tasks.progress(&lease, data).await {
                tracing::debug!(task = %lease.task, %fault, "progress was not recorded");
            }
            Effect::Written
        });
    }

    /// The task is over for this worker.
    pub(crate) fn finish(&mut self, task: &TaskId, ending: Ending) {
        if let Some(lease) = self.forget(task) {
            self.write_ending(lease, ending);
        }
    }

    fn forget(&mut self, task: &TaskId) -> Option<Lease> {
        let held = self.held.remove(task)?;
        self.tell_work();
        if self.past.len() >= PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(task.clone());
        Some(held.lease)
    }

    /// Gives back what was claimed and never handed out.
    pub(crate) fn give_back(&mut self, claimed: Vec<Claimed>, failure: &Failure) {
        for one in claimed {
            self.write_ending(one.lease, Ending::Failed(failure.clone()));
        }
    }

    /// All leases, to be settled after the end of the worker.
    pub(crate) fn clear(&mut self) -> Vec<Lease> {
        let held = std::mem::take(&mut self.held);
        self.tell_work();
        held.into_values().map(|held| held.lease).collect()
    }

    fn tell_work(&self) {
        let mut held = self.held.keys();
        let one = match (held.next(), held.next()) {
            (Some(task), None) => Some(task.clone()),
            _ => None,
        };
        self.work.send_replace(one);
    }

    fn write_ending(&mut self, lease: Lease, ending: Ending) {
        let actor =
            Actor::Agent { agent: self.agent.clone(), instance: self.instance.clone(), task: Some(lease.task.clone()) };
        let tasks = self.tasks.clone();
        self.begin(async move {
            write_ending(&tasks, &actor, &lease, ending).await;
            hit(Point::SupervisorEndingWritten);
            Effect::Written
        });
    }

    /// A write takes its place in the store's queue when it is first polled, so it is polled here, in order.
    fn begin(&mut self, work: impl Future<Output = Effect> + Send + 'static) {
        let mut work: Pin<Box<dyn Future<Output = Effect> + Send>> = Box::pin(work);
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(effect) => drop(self.effects.spawn(std::future::ready(effect))),
            Poll::Pending => drop(self.effects.spawn(work)),
        }
    }
}

/// Writes how an attempt ended. What the store refuses for good is left to the lease, which runs out.
pub(crate) async fn write_ending(tasks: &Tasks, actor: &Actor, lease: &Lease, ending: Ending) {
    scoped(Scope::of_trace(&lease.traceparent), try_ending(tasks, actor, lease, ending)).await;
}

async fn try_ending(tasks: &Tasks, actor: &Actor, lease: &Lease, ending: Ending) {
    let (give_up_at, mut wait) = (Instant::now() + tasks.options().lease, FINISH_RETRY);
    loop {
        match tasks.finish(actor, lease, ending.clone()).await {
            Ok(_) => return,
            Err(fault) if is_for_now(fault.code) && Instant::now() + wait < give_up_at => {
                tracing::warn!(task = %lease.task, %fault, "an ending is written again");
                sleep(wait).await;
                wait = (wait * 2).min(FINISH_RETRY_MAX);
            }
            Err(fault) if fault.code == Code::LEASE_LOST => {
                return tracing::debug!(task = %lease.task, "an ending came after the lease was lost");
            }
            Err(fault) => {
                return tracing::error!(task = %lease.task, %fault, detail = fault.detail, "an ending was not written");
            }
        }
    }
}

/// The store may take it later.
fn is_for_now(code: Code) -> bool {
    [Code::STORE_BUSY, Code::STORE_UNAVAILABLE, Code::AUDIT_UNAVAILABLE].contains(&code)
}
