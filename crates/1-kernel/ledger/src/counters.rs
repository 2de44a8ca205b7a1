//! The part of each budget that this node leases, and what it has done with it. In memory; nothing here waits.

use std::{collections::HashMap, sync::Mutex};

use agentos_types::{
    Timestamp,
    budget::{BudgetScope, BudgetUnit, Period},
};

/// One count: a scope in a period that began at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub scope: BudgetScope,
    pub period: Period,
    pub unit: BudgetUnit,
    pub start: Timestamp,
}

/// What a call needs of one count.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub key: Key,
    /// Where the budget is set: of a run, for all runs of its agent.
    pub budgeted: BudgetScope,
    pub amount: i64,
    /// The budget, as this node knows it.
    pub limit: i64,
}

/// `spent + reserved <= leased`, but for what providers reported beyond a reservation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    pub leased: i64,
    /// Settled, and not yet written as used.
    pub spent: i64,
    pub reserved: i64,
    /// The budget when something was last reserved, for its warning.
    pub limit: i64,
    pub touched_at: Timestamp,
}

impl Counter {
    pub fn free(&self) -> i64 {
        self.leased.saturating_sub(self.spent).saturating_sub(self.reserved)
    }

    /// The part of the lease that a booking of everything spent ends. What calls hold stays leased, even where a provider has
    /// reported more than was reserved: others must not get it too.
    pub fn booked_part(&self) -> i64 {
        self.spent.min(self.leased - self.reserved).max(0)
    }
}

/// What one write books: `spent` becomes used, and `released` goes back to everybody.
#[derive(Clone, Debug)]
pub(crate) struct Booking {
    pub key: Key,
    pub spent: i64,
    /// Part of the lease that ends with it: what was spent of it, and what is given back.
    pub returned: i64,
    /// The budget, for its warning.
    pub limit: i64,
}

/// What one write has done for one count.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub booking: Booking,
    pub granted: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<HashMap<Key, Counter>>);

impl Counters {
    /// All or nothing. Otherwise those that lack something.
    pub fn reserve(&self, wants: &[Want], now: Timestamp) -> Result<(), Vec<Want>> {
        let mut counters = self.lock();
        take(&mut counters, wants, now)
    }

    /// What a write has leased and booked, and with it the reservation that asked for it, so that nobody comes between.
    pub fn enlarged(&self, grants: &[Grant], wants: &[Want], now: Timestamp) -> Result<(), Vec<Want>> {
        let mut counters = self.lock();
        for Grant { booking, granted } in grants {
            let counter = counters.entry(booking.key.clone()).or_default();
            counter.leased += granted - booking.returned;
            counter.spent -= booking.spent;
            counter.touched_at = now;
        }
        take(&mut counters, wants, now)
    }

    pub fn settle(&self, reserved: &[(Key, i64)], actual: impl Fn(BudgetUnit) -> i64, now: Timestamp) {
        let mut counters = self.lock();
        for (key, amount) in reserved {
            let counter = counters.entry(key.clone()).or_default();
            counter.reserved -= amount;
            counter.spent = counter.spent.saturating_add(actual(key.unit));
            counter.touched_at = now;
        }
    }

    pub fn get(&self, key: &Key) -> Counter {
        self.lock().get(key).copied().unwrap_or_default()
    }

    /// What is to be written now, at most `most` counts. Counts that nobody has touched since `idle_before` and whose calls are
    /// all over are taken out and give back everything; if the write fails they come back by [`Counters::undo`].
    pub fn take_bookings(&self, idle_before: Timestamp, most: usize) -> Vec<(Booking, bool)> {
        let mut counters = self.lock();
        let is_idle = |counter: &Counter| counter.reserved == 0 && counter.touched_at < idle_before;
        let due: Vec<(Key, Counter, bool)> = counters
            .iter()
            .filter(|(_, counter)| counter.spent != 0 || is_idle(counter))
            .take(most)
            .map(|(key, counter)| (key.clone(), *counter, is_idle(counter)))
            .collect();
        due.into_iter()
            .map(|(key, counter, idle)| {
                if idle {
                    counters.remove(&key);
                }
                let returned = if idle { counter.leased } else { counter.booked_part() };
                (Booking { key, spent: counter.spent, returned, limit: counter.limit }, idle)
            })
            .collect()
    }

    /// A booking of a count that stays is written.
    pub fn booked(&self, booking: &Booking) {
        if let Some(counter) = self.lock().get_mut(&booking.key) {
            counter.spent -= booking.spent;
            counter.leased -= booking.returned;
        }
    }

    /// What was taken out comes back: its booking failed. Whether it was written all the same is known only after a look at the
    /// lease ([`Counters::leases`]), so that only the part comes back that is right either way. Others may have begun anew.
    pub fn undo(&self, booking: &Booking, now: Timestamp) {
        let mut counters = self.lock();
        let counter = counters.entry(booking.key.clone()).or_default();
        counter.leased += booking.returned.min(booking.spent);
        counter.spent = counter.spent.saturating_add(booking.spent);
        counter.limit = booking.limit;
        counter.touched_at = now;
    }

    /// What the store says that this node leases.
    pub fn leases(&self, key: &Key, amount: i64, now: Timestamp) {
        let mut counters = self.lock();
        let counter = counters.entry(key.clone()).or_default();
        counter.leased = amount;
        counter.touched_at = now;
    }

    /// Takes what no call holds out of every count of a scope: its budget changes. Counts of runs do not name the agent whose
    /// budget they have, so that all runs give theirs back; the next call of each leases anew.
    pub fn unused(&self, scope: &BudgetScope) -> Vec<Booking> {
        let is_for_runs = matches!(scope, BudgetScope::RunsOf(_));
        let concerns = |of: &BudgetScope| of == scope || (is_for_runs && matches!(of, BudgetScope::Run(_)));
        let mut counters = self.lock();
        let own = counters.iter_mut().filter(|(key, _)| concerns(&key.scope));
        own.map(|(key, counter)| {
            let returned = (counter.leased - counter.reserved).max(0);
            let booking = Booking { key: key.clone(), spent: counter.spent, returned, limit: counter.limit };
            counter.leased -= returned;
            counter.spent = 0;
            booking
        })
        .collect()
    }

    /// Sum of all reservations; zero when nothing is under way.
    pub fn reserved_in_all(&self) -> i64 {
        self.lock().values().map(|counter| counter.reserved).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Counter>> {
        // Every change of it is complete before anything could panic.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn take(counters: &mut HashMap<Key, Counter>, wants: &[Want], now: Timestamp) -> Result<(), Vec<Want>> {
    // Who needs nothing of a count is not held up by it, however it stands.
    let is_short = |want: &&Want| want.amount > 0 && counters.get(&want.key).map_or(0, Counter::free) < want.amount;
    let short: Vec<Want> = wants.iter().filter(is_short).cloned().collect();
    if !short.is_empty() {
        return Err(short);
    }
    for want in wants {
        let counter = counters.entry(want.key.clone()).or_default();
        counter.reserved += want.amount;
        counter.limit = want.limit;
        counter.touched_at = now;
    }
    Ok(())
}
