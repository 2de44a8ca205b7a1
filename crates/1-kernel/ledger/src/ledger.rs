//! The handle that everybody holds: `reserve`, `set`, `standing`, and the loop that writes what was spent.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use agentos_base::Ambient;
use agentos_store::{Store, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, Timestamp,
    audit::AuditEvent,
    budget::{BudgetScope, BudgetUnit, Period},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Amount, Budget, Payer, Reservation, Spend, Standing,
    change::Budgets,
    counters::{Booking, Counters, Grant, Key, Want},
    limits::Limits,
    refusal::exceeded,
    rows,
};

/// Rounds of taking slices until a call has all that it needs. What is granted is the call's own, but for another of its counts
/// others may take meanwhile what was free.
const ROUNDS_MAX: usize = 8;
/// Counts that one write books. More follow in the next.
const BOOKINGS_MAX: usize = 500;
/// Writes of one booking. What is left has the next second; a slice for a waiting call comes before it.
const BOOKING_ROUNDS_MAX: usize = 40;
/// How often spent is written as used. What a death forfeits does not depend on it.
const BOOK_EVERY: Duration = Duration::from_secs(1);
/// A count that nobody has touched for so long gives its slice back.
const IDLE: Duration = Duration::from_secs(10);
/// A stop waits so long for the last booking.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often counts are looked through that can no longer refuse anything, and how old they have to be.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
const MINUTES_KEPT: Duration = Duration::from_secs(86_400);
const RUNS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// A year, and a month to look back on it.
const DAYS_KEPT: Duration = Duration::from_secs(396 * 86_400);
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
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub store: Store,
    pub ambient: Ambient,
    pub node: String,
    pub budgets: RwLock<Budgets>,
    /// Team and tenant of each agent.
    pub members: RwLock<HashMap<AgentName, Group>>,
    pub counters: Counters,
    /// Counts of which a write was reported as failed: what this node leases is looked up before it is used.
    unsure: Mutex<HashSet<Key>>,
    spend: Spend,
    /// Held over every write of leases and use, so that what is written and what is remembered are the same.
    pub writing: tokio::sync::Mutex<()>,
}

/// Team and tenant, each if there is one.
pub(crate) type Group = (Option<String>, Option<String>);

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
            budgets: RwLock::default(),
            members: RwLock::default(),
            counters: Counters::default(),
            unsure: Mutex::default(),
            spend: Spend::default(),
            writing: tokio::sync::Mutex::default(),
        };
        let ledger = Self { inner: Arc::new(inner) };
        ledger.read().await?;
        Ok(ledger)
    }

    /// Books what was spent, every second. [`Ledger::close`] follows when nothing calls any more.
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
                let before = [MINUTES_KEPT, RUNS_KEPT, DAYS_KEPT].map(|kept| now.before(kept));
                let pruned = self.inner.store.write(move |tx| {
                    let [minutes, runs, days] = before;
                    rows::prune(tx, minutes, runs, days)
                });
                if let Err(fault) = pruned.await {
                    tracing::warn!(%fault, "old counts of budgets could not be taken away");
                }
            }
        }
    }

    /// The last booking. Everything goes back, so that the next life of this node has nothing to forfeit.
    pub async fn close(&self) {
        match tokio::time::timeout(CLOSE_TIMEOUT, self.book(Duration::ZERO)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(%fault, detail = fault.detail, "what was spent could not be written; what is leased is forfeited");
            }
            Err(_) => tracing::warn!("what was spent could not be written in time; what is leased is forfeited"),
        }
    }

    /// Sums for people.
    pub fn spend(&self) -> &Spend {
        &self.inner.spend
    }

    /// Holds `amount` on all accounts of the payer, or refuses with what is left. Waits for a write only when a slice is used up.
    pub async fn reserve(&self, payer: &Payer, amount: Amount) -> Result<Reservation> {
        let now = self.inner.ambient.now();
        let wants = self.wants(payer, amount, now);
        if self.inner.counters.reserve(&wants, now).is_ok() {
            return Ok(self.held(wants));
        }
        for _ in 0..ROUNDS_MAX {
            // Boxed: few calls need it, and all would hold its room.
            if let Some(reservation) = Box::pin(self.enlarge(payer, amount)).await? {
                return Ok(reservation);
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

    fn held(&self, wants: Vec<Want>) -> Reservation {
        let held = wants.into_iter().map(|want| (want.key, want.amount)).collect();
        Reservation { ledger: self.clone(), held }
    }

    /// Every count that the call touches and that has a budget.
    fn wants(&self, payer: &Payer, amount: Amount, now: Timestamp) -> Vec<Want> {
        let limits = self.limits();
        let mut wants = Vec::new();
        for (budgeted, counted) in payer.accounts() {
            for (period, unit, limit) in limits.of(&budgeted) {
                let key = Key { scope: counted.clone(), period: *period, unit: *unit, start: period.start(now) };
                let (budgeted, amount) = (budgeted.clone(), amount.of(*unit));
                wants.push(Want { key, budgeted, amount, limit: *limit });
            }
        }
        wants
    }

    /// A larger slice for each count that lacks something, all in one write, and the reservation out of it; or a refusal that
    /// changes nothing. `None` if calls that needed no slice took meanwhile what this one would have had.
    async fn enlarge(&self, payer: &Payer, amount: Amount) -> Result<Option<Reservation>> {
        let _writing = self.inner.writing.lock().await;
        self.make_sure().await?;
        let now = self.inner.ambient.now();
        // Budgets do not change while this lock is held. Somebody may have got the slice while this call waited for it.
        let wants = self.wants(payer, amount, now);
        let short = match self.inner.counters.reserve(&wants, now) {
            Ok(()) => return Ok(Some(self.held(wants))),
            Err(short) => short,
        };
        let asked: Vec<(Want, i64, Booking)> = short.into_iter().map(|want| self.asked(want)).collect();
        let (node, ambient) = (self.inner.node.clone(), self.inner.ambient.clone());
        let bookings: Vec<Booking> = asked.iter().map(|(_, _, booking)| booking.clone()).collect();
        let written = self.inner.store.write(move |tx| {
            let mut granted = Vec::with_capacity(asked.len());
            for (want, lacking, booking) in &asked {
                rows::book(tx, &node, booking, now)?;
                warn(tx, &ambient, &booking.key, want.limit)?;
                granted.push(grant(tx, &node, want, *lacking, now)?);
            }
            Ok(granted)
        });
        let granted = match written.await {
            Ok(granted) => granted,
            Err(fault) => {
                if fault.code != Code::BUDGET_EXCEEDED {
                    self.doubt(bookings.iter().map(|booking| &booking.key));
                }
                return Err(fault);
            }
        };
        let grants: Vec<Grant> =
            bookings.into_iter().zip(granted).map(|(booking, granted)| Grant { booking, granted }).collect();
        Ok(self.inner.counters.enlarged(&grants, &wants, now).is_ok().then(|| self.held(wants)))
    }

    /// What lacks once everything spent is booked.
    fn asked(&self, want: Want) -> (Want, i64, Booking) {
        let counter = self.inner.counters.get(&want.key);
        let returned = counter.booked_part();
        let lacking = want.amount - (counter.leased - returned - counter.reserved);
        let booking = Booking { key: want.key.clone(), spent: counter.spent, returned, limit: want.limit };
        (want, lacking, booking)
    }

    /// A write that failed may have happened all the same, if the database went away before it told.
    pub(crate) fn doubt<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        self.inner.unsure.lock().unwrap_or_else(PoisonError::into_inner).extend(keys.cloned());
    }

    /// Reads again what this node leases of every count that is in doubt. The caller holds `writing`.
    async fn make_sure(&self) -> Result<()> {
        let keys: Vec<Key> = self.inner.unsure.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let (node, now) = (self.inner.node.clone(), self.inner.ambient.now());
        let asked = keys.clone();
        // Through the writer, so that what it has committed is seen.
        let read =
            move |tx: &mut Tx<'_>| asked.iter().map(|key| rows::leased(tx, &node, key)).collect::<Result<Vec<_>>>();
        let leased = self.inner.store.write(read).await?;
        let mut unsure = self.inner.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, amount) in keys.iter().zip(leased) {
            self.inner.counters.leases(key, amount, now);
            unsure.remove(key);
        }
        Ok(())
    }

    pub(crate) fn settle(&self, held: &[(Key, i64)], actual: impl Fn(BudgetUnit) -> i64) {
        self.inner.counters.settle(held, actual, self.inner.ambient.now());
    }

    /// Writes what was spent as used; counts that were idle for `idle` give their slice back.
    pub async fn book(&self, idle: Duration) -> Result<()> {
        // Sums for people do not hold up what budgets need.
        let summed = self.inner.spend.write(&self.inner.store).await;
        let now = self.inner.ambient.now();
        for _ in 0..BOOKING_ROUNDS_MAX {
            let _writing = self.inner.writing.lock().await;
            self.make_sure().await?;
            let due = self.inner.counters.take_bookings(now.before(idle).after(Duration::from_micros(1)), BOOKINGS_MAX);
            let is_last = due.len() < BOOKINGS_MAX;
            if !due.is_empty() {
                self.write_bookings(due, now).await?;
            }
            if is_last {
                break;
            }
        }
        summed
    }

    async fn write_bookings(&self, due: Vec<(Booking, bool)>, now: Timestamp) -> Result<()> {
        let (node, ambient) = (self.inner.node.clone(), self.inner.ambient.clone());
        let bookings = due.clone();
        let written = self
            .inner
            .store
            .write(move |tx| {
                for (booking, _) in &bookings {
                    rows::book(tx, &node, booking, now)?;
                    warn(tx, &ambient, &booking.key, booking.limit)?;
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
        if written.is_err() {
            self.doubt(due.iter().map(|(booking, _)| &booking.key));
        }
        written
    }

    /// All budgets, or those of one scope, with how they stand now.
    pub async fn standing(&self, scope: Option<BudgetScope>) -> Result<Vec<Standing>> {
        // A booking between the two readings would count twice or not at all.
        let _writing = self.inner.writing.lock().await;
        let now = self.inner.ambient.now();
        let found = self.inner.store.read(move |conn| rows::standings(conn, scope.as_ref(), now)).await?;
        let standing = |(budget, durable): (Budget, rows::Use)| {
            let start = budget.period.start(now);
            let key = Key { scope: budget.scope.clone(), period: budget.period, unit: budget.unit, start };
            let held = self.inner.counters.get(&key);
            Standing {
                used: durable.used.saturating_add(held.spent),
                reserved: held.reserved,
                forfeited: durable.forfeited,
                resets_at: budget.period.end(start),
                budget,
            }
        };
        Ok(found.into_iter().map(standing).collect())
    }

    /// Everything that calls hold at this moment. Zero when none is under way.
    pub fn reserved_in_all(&self) -> i64 {
        self.inner.counters.reserved_in_all()
    }

    fn limits(&self) -> Arc<Limits> {
        self.inner.budgets.read().unwrap_or_else(PoisonError::into_inner).limits()
    }
}

/// A slice if it fits, else exactly what lacks, else the refusal. The budget is the one that is stored now.
fn grant(tx: &Tx<'_>, node: &str, want: &Want, lacking: i64, now: Timestamp) -> Result<i64> {
    let stored = rows::amount(tx, want)?;
    // A deployment announces smaller ones before they are stored. One that another node took away or raised holds until this
    // node has heard of it.
    let limit = stored.map_or(want.limit, |amount| amount.min(want.limit));
    let slice = slice_of(&want.key, limit).max(lacking);
    for granted in [slice, lacking] {
        if rows::lease(tx, node, &want.key, granted, limit, now)? {
            return Ok(granted);
        }
    }
    let durable = rows::used(tx, &want.key)?;
    // What this node has free of its lease is what the call needs less what it lacks.
    let remaining = limit.saturating_sub(durable.used).saturating_sub(durable.leased) + (want.amount - lacking);
    Err(exceeded(&Want { limit, ..want.clone() }, remaining, now))
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
