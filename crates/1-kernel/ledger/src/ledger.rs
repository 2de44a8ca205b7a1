//! The handle that everybody holds: `reserve`, `set`, `standing`, and the loop that writes what was spent.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use agentos_base::Ambient;
use agentos_store::{Store, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, Timestamp,
    audit::AuditEvent,
    budget::{AMOUNT_MAX, BudgetScope, BudgetUnit, Period},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Amount, Budget, Payer, Reservation, Spend, Standing,
    counters::{Booking, Counters, Key, Want, booked_part},
    limits::Limits,
    refusal::exceeded,
    rows,
};

/// Rounds of taking slices until a call has all that it needs. Others may take what was just granted; that it happens so often
/// to one call means that the budget is nearly used up.
const ROUNDS_MAX: usize = 8;
/// Counts that one write books. More follow in the next.
const BOOKINGS_MAX: usize = 500;
/// How often spent is written as used. What a death forfeits does not depend on it.
const BOOK_EVERY: Duration = Duration::from_secs(1);
/// A count that nobody has touched for so long gives its slice back.
const IDLE: Duration = Duration::from_secs(10);
/// How often counts are looked through that can no longer refuse anything, and how old they have to be.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
const MINUTES_KEPT: Duration = Duration::from_secs(86_400);
const RUNS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Percent of a budget at which it is told.
const WARN_PERCENT: i64 = 80;

#[derive(Debug)]
pub struct LedgerOptions {
    pub store: Store,
    pub ambient: Ambient,
    /// Whose leases they are; the same over all lives of the server.
    pub node: String,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    ambient: Ambient,
    node: String,
    limits: RwLock<Arc<Limits>>,
    counters: Counters,
    spend: Spend,
    /// Held over every write of leases and use, so that what is written and what is remembered are the same.
    writing: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// Reads the budgets, and books as used what an earlier life of this node held when it died.
    pub async fn open(options: LedgerOptions) -> Result<Self> {
        let LedgerOptions { store, ambient, node } = options;
        let (own, at) = (node.clone(), ambient.clone());
        store
            .write(move |tx| {
                for (key, amount) in rows::forfeit(tx, &own)? {
                    let event = AuditEvent::new(
                        at.event_id(),
                        at.now(),
                        Actor::System,
                        "budget.forfeit",
                        key.scope.to_string(),
                    );
                    tx.record(
                        event
                            .fact("period", key.period.as_str())
                            .fact("unit", key.unit.as_str())
                            .fact("amount", amount),
                    );
                }
                Ok(())
            })
            .await?;
        let inner = Inner {
            store,
            ambient,
            node,
            limits: RwLock::default(),
            counters: Counters::default(),
            spend: Spend::default(),
            writing: tokio::sync::Mutex::default(),
        };
        let ledger = Self { inner: Arc::new(inner) };
        ledger.reload().await?;
        Ok(ledger)
    }

    /// Books what was spent, every second and at the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut prune_at = self.inner.ambient.now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(BOOK_EVERY) => {}
            }
            if let Err(fault) = self.book(IDLE).await {
                tracing::warn!(%fault, detail = fault.detail, "what was spent could not be written; it is held");
            }
            let now = self.inner.ambient.now();
            if now >= prune_at {
                prune_at = now.after(PRUNE_EVERY);
                let (minutes, runs) = (now.before(MINUTES_KEPT), now.before(RUNS_KEPT));
                if let Err(fault) = self.inner.store.write(move |tx| rows::prune(tx, minutes, runs)).await {
                    tracing::warn!(%fault, "old counts of budgets could not be taken away");
                }
            }
        }
        // Everything goes back: the next life has nothing to forfeit.
        if let Err(fault) = self.book(Duration::ZERO).await {
            tracing::warn!(%fault, detail = fault.detail, "what was spent could not be written; what this node leases is forfeited");
        }
    }

    /// Sums for people.
    pub fn spend(&self) -> &Spend {
        &self.inner.spend
    }

    /// Holds `amount` on all accounts of the payer, or refuses with what is left. Waits for a write only when a slice is used up.
    pub async fn reserve(&self, payer: &Payer, amount: Amount) -> Result<Reservation> {
        for _ in 0..ROUNDS_MAX {
            let now = self.inner.ambient.now();
            let wants = self.wants(payer, amount, now);
            match self.inner.counters.reserve(&wants, now) {
                Ok(()) => {
                    let held = wants.into_iter().map(|want| (want.key, want.amount)).collect();
                    return Ok(Reservation { ledger: self.clone(), held });
                }
                Err(short) => self.enlarge(short).await?,
            }
        }
        Err(Fault::new(Code::STORE_BUSY, "too many calls ask for the rest of one budget at once")
            .retry_after(Duration::from_secs(1)))
    }

    /// Whether anything limits what this payer spends or uses; a limit of requests alone does not.
    pub fn is_budgeted(&self, payer: &Payer) -> bool {
        let limits = self.limits();
        let accounts = payer.accounts();
        let mut units = accounts.iter().flat_map(|(budgeted, _)| limits.of(budgeted)).map(|(_, unit, _)| *unit);
        units.any(|unit| unit != BudgetUnit::Requests)
    }

    /// Every count that the call touches and that has a budget.
    fn wants(&self, payer: &Payer, amount: Amount, now: Timestamp) -> Vec<Want> {
        let limits = self.limits();
        let mut wants = Vec::new();
        for (budgeted, counted) in payer.accounts() {
            for (period, unit, limit) in limits.of(&budgeted) {
                let key = Key { scope: counted.clone(), period: *period, unit: *unit, start: period.start(now) };
                wants.push(Want { key, amount: amount.of(*unit), limit: *limit });
            }
        }
        wants
    }

    /// A larger slice for each count that lacks something, all in one write, or a refusal that changes nothing.
    async fn enlarge(&self, short: Vec<Want>) -> Result<()> {
        let _writing = self.inner.writing.lock().await;
        let now = self.inner.ambient.now();
        // Somebody may have done it while this call waited.
        let needy: Vec<(Want, i64, Booking)> = short
            .into_iter()
            .filter_map(|want| {
                let counter = self.inner.counters.get(&want.key);
                let lacking = want.amount - counter.free();
                let booking = Booking { key: want.key.clone(), spent: counter.spent, returned: booked_part(&counter) };
                (lacking > 0).then_some((want, lacking, booking))
            })
            .collect();
        if needy.is_empty() {
            return Ok(());
        }
        let (node, ambient, asked) = (self.inner.node.clone(), self.inner.ambient.clone(), needy.clone());
        let granted = self
            .inner
            .store
            .write(move |tx| {
                let mut granted = Vec::with_capacity(asked.len());
                for (want, lacking, booking) in &asked {
                    rows::book(tx, &node, booking, now)?;
                    warn(tx, &ambient, &booking.key, want.limit)?;
                    granted.push(grant(tx, &node, want, *lacking, now)?);
                }
                Ok(granted)
            })
            .await?;
        for ((_, _, booking), granted) in needy.iter().zip(granted) {
            self.inner.counters.enlarged(&booking.key, granted, booking, now);
        }
        Ok(())
    }

    pub(crate) fn settle(&self, held: &[(Key, i64)], actual: impl Fn(BudgetUnit) -> i64) {
        self.inner.counters.settle(held, actual, self.inner.ambient.now());
    }

    /// Writes what was spent as used; counts that were idle for `idle` give their slice back.
    pub async fn book(&self, idle: Duration) -> Result<()> {
        let _writing = self.inner.writing.lock().await;
        let now = self.inner.ambient.now();
        self.inner.spend.write(&self.inner.store).await?;
        // In rounds: what is spent meanwhile waits for the next call.
        loop {
            let due = self.inner.counters.take_bookings(now.before(idle).after(Duration::from_micros(1)), BOOKINGS_MAX);
            let is_last = due.len() < BOOKINGS_MAX;
            if !due.is_empty() {
                self.write_bookings(due, now).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn write_bookings(&self, due: Vec<(Booking, bool)>, now: Timestamp) -> Result<()> {
        let (node, ambient, limits) = (self.inner.node.clone(), self.inner.ambient.clone(), self.limits());
        let bookings = due.clone();
        let written = self
            .inner
            .store
            .write(move |tx| {
                for (booking, _) in &bookings {
                    rows::book(tx, &node, booking, now)?;
                    if let Some(limit) = limit_of(&limits, &booking.key) {
                        warn(tx, &ambient, &booking.key, limit)?;
                    }
                }
                Ok(())
            })
            .await;
        for (booking, is_idle) in &due {
            match (&written, is_idle) {
                (Ok(()), false) => self.inner.counters.booked(booking),
                (Err(_), true) => self.inner.counters.undo(booking, now),
                (Ok(()), true) | (Err(_), false) => {}
            }
        }
        written
    }

    /// Sets a budget, with its record. What this node holds of a larger one before goes back first.
    pub async fn set(&self, actor: &Actor, budget: Budget) -> Result<()> {
        check(&budget)?;
        let actor = actor.clone();
        self.change(budget.scope.clone(), move |tx, ambient| {
            rows::put(tx, &budget)?;
            tx.record(event_of(ambient, &actor, "budget.set", &budget).fact("amount", budget.amount));
            Ok(())
        })
        .await
    }

    pub async fn remove(&self, actor: &Actor, budget: Budget) -> Result<()> {
        let actor = actor.clone();
        self.change(budget.scope.clone(), move |tx, ambient| {
            if rows::remove(tx, &budget.scope, budget.period, budget.unit, budget.origin)? == 0 {
                let what =
                    format!("no {} budget of {} in {}", budget.period.as_str(), budget.scope, budget.unit.as_str());
                return Err(Fault::new(Code::BUDGET_NOT_FOUND, what).hint("`agent-os budget show` lists what is set"));
            }
            tx.record(event_of(ambient, &actor, "budget.remove", &budget));
            Ok(())
        })
        .await
    }

    /// The budgets of a manifest, in place of those of the one before.
    pub async fn set_of_manifest(&self, agent: &AgentName, budgets: Vec<Budget>) -> Result<()> {
        budgets.iter().try_for_each(check)?;
        for scope in [BudgetScope::Agent(agent.clone()), BudgetScope::RunsOf(agent.clone())] {
            let own: Vec<Budget> = budgets.iter().filter(|budget| budget.scope == scope).cloned().collect();
            self.change(scope.clone(), move |tx, _| {
                rows::remove_manifests(tx, &scope)?;
                own.iter().try_for_each(|budget| rows::put(tx, budget))
            })
            .await?;
        }
        Ok(())
    }

    async fn change(
        &self,
        scope: BudgetScope,
        work: impl FnOnce(&mut Tx<'_>, &Ambient) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        {
            let _writing = self.inner.writing.lock().await;
            let now = self.inner.ambient.now();
            let returned = self.inner.counters.unused(&scope);
            let (node, ambient, bookings) = (self.inner.node.clone(), self.inner.ambient.clone(), returned.clone());
            let written = self
                .inner
                .store
                .write(move |tx| {
                    work(tx, &ambient)?;
                    bookings.iter().try_for_each(|booking| rows::book(tx, &node, booking, now))
                })
                .await;
            if written.is_err() {
                returned.iter().for_each(|booking| self.inner.counters.undo(booking, now));
            }
            written?;
        }
        self.reload().await
    }

    /// Reads the budgets again: they were changed, here or on another node.
    pub async fn reload(&self) -> Result<()> {
        let budgets = self.inner.store.read(rows::budgets).await?;
        *self.inner.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Limits::new(&budgets));
        Ok(())
    }

    /// All budgets, or those of one scope, with how they stand now.
    pub async fn standing(&self, scope: Option<BudgetScope>) -> Result<Vec<Standing>> {
        let now = self.inner.ambient.now();
        let found = self
            .inner
            .store
            .read(move |conn| {
                let budgets = rows::budgets(conn)?.into_iter();
                budgets
                    .filter(|budget| scope.as_ref().is_none_or(|wanted| *wanted == budget.scope))
                    .map(|budget| {
                        let key = Key {
                            scope: budget.scope.clone(),
                            period: budget.period,
                            unit: budget.unit,
                            start: budget.period.start(now),
                        };
                        Ok((rows::used(conn, &key)?, key, budget))
                    })
                    .collect::<Result<Vec<_>>>()
            })
            .await?;
        Ok(found
            .into_iter()
            .map(|(durable, key, budget)| {
                let held = self.inner.counters.get(&key);
                Standing {
                    used: durable.used + held.spent,
                    reserved: held.reserved,
                    forfeited: durable.forfeited,
                    resets_at: budget.period.end(key.start),
                    budget,
                }
            })
            .collect())
    }

    /// Everything that calls hold at this moment. Zero when none is under way.
    pub fn reserved_in_all(&self) -> i64 {
        self.inner.counters.reserved_in_all()
    }

    fn limits(&self) -> Arc<Limits> {
        self.inner.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A slice if it fits, else exactly what lacks, else the refusal.
fn grant(tx: &Tx<'_>, node: &str, want: &Want, lacking: i64, now: Timestamp) -> Result<i64> {
    let slice = slice_of(&want.key, want.limit).max(lacking);
    for granted in [slice, lacking] {
        if rows::lease(tx, node, &want.key, granted, want.limit, now)? {
            return Ok(granted);
        }
    }
    let durable = rows::used(tx, &want.key)?;
    // What this node has free of its lease is what the call needs less what it lacks.
    let remaining = want.limit - durable.used - durable.leased + (want.amount - lacking);
    Err(exceeded(want, remaining, now))
}

/// What a node takes at once: small enough that a death forfeits little and other nodes find something, large enough that few
/// calls wait for a write.
fn slice_of(key: &Key, limit: i64) -> i64 {
    match key.period {
        Period::Minute => limit / 4,
        Period::Day | Period::Month => limit / 50,
        Period::Total => limit / 20,
    }
}

fn warn(tx: &mut Tx<'_>, ambient: &Ambient, key: &Key, limit: i64) -> Result<()> {
    // Minutes pass too fast for anybody to act on a warning.
    if key.period == Period::Minute || limit == 0 {
        return Ok(());
    }
    let now = ambient.now();
    let threshold = limit / 100 * WARN_PERCENT + limit % 100 * WARN_PERCENT / 100;
    if rows::warn_once(tx, key, threshold, now)? {
        let event = AuditEvent::new(ambient.event_id(), now, Actor::System, "budget.warn", key.scope.to_string());
        tx.record(
            event
                .fact("period", key.period.as_str())
                .fact("unit", key.unit.as_str())
                .fact("amount", limit)
                .fact("percent", WARN_PERCENT),
        );
        tracing::warn!(scope = %key.scope, period = key.period.as_str(), "{WARN_PERCENT} % of a budget are used");
    }
    Ok(())
}

/// The budget that a count belongs to. A run's is set for all runs of its agent, which the count does not name: its warning
/// comes with the refusal of a larger slice.
fn limit_of(limits: &Limits, key: &Key) -> Option<i64> {
    limits.amount(&key.scope, key.period, key.unit)
}

fn check(budget: &Budget) -> Result<()> {
    let refused = |what: String| Err(Fault::new(Code::BUDGET_INVALID, what));
    if !(0..=AMOUNT_MAX).contains(&budget.amount) {
        return refused(format!("an amount of {} is outside of 0..={AMOUNT_MAX}", budget.amount));
    }
    match (&budget.scope, budget.period) {
        (BudgetScope::Run(_), _) => refused("one run has no budget of its own; set one for runs-of:AGENT".into()),
        (BudgetScope::RunsOf(_), Period::Total) => Ok(()),
        (BudgetScope::RunsOf(_), _) => {
            refused("a budget for each run counts the whole run: use the period total".into())
        }
        _ => Ok(()),
    }
}

fn event_of(ambient: &Ambient, actor: &Actor, action: &str, budget: &Budget) -> AuditEvent {
    AuditEvent::new(ambient.event_id(), ambient.now(), actor.clone(), action, budget.scope.to_string())
        .fact("period", budget.period.as_str())
        .fact("unit", budget.unit.as_str())
        .fact("origin", budget.origin.as_str())
}
