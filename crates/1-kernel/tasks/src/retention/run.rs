//! The daily run: planned, begun, worked off in batches, recorded. Each of these is a row, so that a server which dies in
//! between goes on with what was begun and forgets nothing that was asked for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agentos_base::Ambient;
use agentos_store::Store;
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision, Phase},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{DAY, Pass, Policy, Pruner, Status, days, state};

/// The loop looks at the clock this often, because a wall clock can be moved.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Installations of one site do not all begin in the same second.
const JITTER_MAX: Duration = Duration::from_secs(30 * 60);
/// A run that is overdue at the start lets the agents come up first.
const START_DELAY_MAX: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The runner. Cheap to clone.
#[derive(Clone)]
pub struct Retention {
    store: Store,
    ambient: Ambient,
    policy: Policy,
    pruners: Arc<Vec<Box<dyn Pruner>>>,
    wake: Arc<Notify>,
}

impl Retention {
    /// `pruners` in the order in which they run.
    pub fn new(store: Store, ambient: Ambient, policy: Policy, pruners: Vec<Box<dyn Pruner>>) -> Self {
        Self { store, ambient, policy, pruners: Arc::new(pruners), wake: Arc::default() }
    }

    pub async fn status(&self) -> Result<Status> {
        let policy = self.policy;
        self.store.read(move |conn| state::load(conn, policy)).await
    }

    /// What a run would take now, by kind. Takes nothing.
    pub async fn preview(&self) -> Result<BTreeMap<&'static str, u64>> {
        let (now, mut counts) = (self.ambient.now(), BTreeMap::new());
        for pruner in self.pruners.iter() {
            for (kind, rows) in pruner.count(&self.store, now).await? {
                *counts.entry(kind).or_default() += rows;
            }
        }
        Ok(counts)
    }

    /// Begins a run, durably: it is done even if the server dies now. Joins the one that is under way.
    pub async fn ask(&self, actor: &Actor, correlation: Option<String>) -> Result<Status> {
        let (this, actor) = (self.clone(), actor.clone());
        let status = self
            .store
            .write(move |tx| {
                if !state::load(tx, this.policy)?.is_running() {
                    let now = this.ambient.now();
                    state::begin(tx, &actor.label(), now)?;
                    let intent = this.event(actor, Phase::Intent, Decision::Allowed);
                    tx.record(match correlation {
                        Some(correlation) => intent.correlation(correlation),
                        None => intent,
                    });
                }
                state::load(tx, this.policy)
            })
            .await?;
        self.wake.notify_one();
        Ok(status)
    }

    /// Opens what the coming rows need; before anything is written.
    pub async fn prepare(&self) -> Result<()> {
        days::open_coming(&self.store, self.ambient.now()).await
    }

    /// The retention of this node, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut not_before = self.ambient.now().after(self.chance(START_DELAY_MAX));
        loop {
            let wait = match self.turn(not_before, &shutdown).await {
                Ok(next) => next.since(self.ambient.now()).min(LOOK_EVERY),
                Err(fault) => {
                    tracing::warn!(code = %fault.code, detail = fault.detail, "retention goes on later");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => not_before = Timestamp(i64::MIN),
            }
        }
    }

    /// One look: plans the first run, begins the one that is due, works off the one that was begun. Returns when the next
    /// look is worth while. A planned run does not begin before `not_before`.
    pub async fn turn(&self, not_before: Timestamp, shutdown: &CancellationToken) -> Result<Timestamp> {
        let (status, now) = (self.status().await?, self.ambient.now());
        if !status.is_running() {
            match status.next_at {
                None => {
                    let next_at = self.next_after(now);
                    self.store.write(move |tx| state::plan(tx, next_at)).await?;
                    return Ok(next_at);
                }
                Some(next_at) if now < next_at.max(not_before) => return Ok(next_at.max(not_before)),
                Some(_) => drop(self.ask(&Actor::System, None).await?),
            }
        }
        self.work(shutdown).await?;
        Ok(self.status().await?.next_at.unwrap_or(now))
    }

    /// Goes through all pruners; one that fails does not keep the others from their work. What may pass by itself (a store
    /// that is away, a lock that somebody holds) leaves the run open.
    async fn work(&self, shutdown: &CancellationToken) -> Result<()> {
        let (mut failure, mut hindrance) = (None, None);
        for pruner in self.pruners.iter() {
            match self.pass(pruner.as_ref(), shutdown).await {
                Ok(true) => {}
                // Told to stop: the next start goes on.
                Ok(false) => return Ok(()),
                Err(fault) if may_pass(&fault) => hindrance = hindrance.or(Some(fault)),
                Err(fault) => {
                    tracing::error!(code = %fault.code, detail = fault.detail, "a part of the retention failed: {fault}");
                    failure = failure.or(Some(fault.code));
                }
            }
        }
        hindrance.map_or(Ok(()), Err)?;
        self.finish(failure).await
    }

    /// False if it was told to stop before the end.
    async fn pass(&self, pruner: &dyn Pruner, shutdown: &CancellationToken) -> Result<bool> {
        let pass = Pass::new(self.store.clone(), self.ambient.clone(), self.ambient.now());
        // Ends because each batch takes rows away or moves the cursor, and what is too old at one instant is finite.
        while pruner.batch(&pass).await? {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(false),
                () = tokio::time::sleep(pass.pace()) => {}
            }
        }
        Ok(!shutdown.is_cancelled())
    }

    async fn finish(&self, failure: Option<Code>) -> Result<()> {
        let this = self.clone();
        let status = self
            .store
            .write(move |tx| {
                let now = this.ambient.now();
                state::finish(tx, now, failure, this.next_after(now))?;
                let status = state::load(tx, this.policy)?;
                let decision = if failure.is_some() { Decision::Failed } else { Decision::Succeeded };
                let mut outcome = this.event(Actor::System, Phase::Outcome, decision);
                if let Some(run) = &status.last_run {
                    outcome = outcome.fact("asked_by", run.asked_by.as_str());
                }
                if let Some(code) = failure {
                    outcome = outcome.fact("code", code.to_string());
                }
                for count in &status.counts {
                    outcome = outcome.fact(&count.kind, count.rows_last);
                }
                tx.record(outcome);
                Ok(status)
            })
            .await?;
        let taken: u64 = status.counts.iter().map(|count| count.rows_last).sum();
        tracing::info!(rows = taken, next = %status.next_at.unwrap_or_default(), "retention run finished");
        Ok(())
    }

    fn event(&self, actor: Actor, phase: Phase, decision: Decision) -> AuditEvent {
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), actor, "retention.run", "retention")
            .phase(phase, decision)
    }

    /// The next quiet hour, and a little later.
    fn next_after(&self, now: Timestamp) -> Timestamp {
        let day_us = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
        let midnight = Timestamp(now.as_micros().div_euclid(day_us).saturating_mul(day_us));
        let hour = u32::try_from(self.policy.hour_utc % 24).unwrap_or(0);
        let today = midnight.after(HOUR.saturating_mul(hour));
        let next = if today > now { today } else { today.after(DAY) };
        next.after(self.chance(JITTER_MAX))
    }

    fn chance(&self, most: Duration) -> Duration {
        Duration::from_secs(self.ambient.random_up_to(most.as_secs()))
    }
}

/// The store does not take it now and may take it later.
fn may_pass(fault: &Fault) -> bool {
    matches!(fault.code, Code::STORE_UNAVAILABLE | Code::STORE_BUSY | Code::AUDIT_UNAVAILABLE)
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Retention")
    }
}
