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
    pub amount: i64,
    /// The budget.
    pub limit: i64,
}

/// `spent + reserved <= leased`, but for what providers reported beyond a reservation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    pub leased: i64,
    /// Settled, and not yet written as used.
    pub spent: i64,
    pub reserved: i64,
    pub touched_at: Timestamp,
}

impl Counter {
    pub fn free(&self) -> i64 {
        self.leased - self.spent - self.reserved
    }
}

/// What one write books: `spent` becomes used, and `released` goes back to everybody.
#[derive(Clone, Debug)]
pub(crate) struct Booking {
    pub key: Key,
    pub spent: i64,
    /// Part of the lease that ends with it: what was spent of it, and what is given back.
    pub returned: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<HashMap<Key, Counter>>);

impl Counters {
    /// All or nothing. Otherwise those that lack something.
    pub fn reserve(&self, wants: &[Want], now: Timestamp) -> Result<(), Vec<Want>> {
        let mut counters = self.lock();
        let free = |want: &Want| counters.get(&want.key).map_or(0, Counter::free);
        let short: Vec<Want> = wants.iter().filter(|want| free(want) < want.amount).cloned().collect();
        if !short.is_empty() {
            return Err(short);
        }
        for want in wants {
            let counter = counters.entry(want.key.clone()).or_default();
            counter.reserved += want.amount;
            counter.touched_at = now;
        }
        Ok(())
    }

    pub fn settle(&self, reserved: &[(Key, i64)], actual: impl Fn(BudgetUnit) -> i64, now: Timestamp) {
        let mut counters = self.lock();
        for (key, amount) in reserved {
            let counter = counters.entry(key.clone()).or_default();
            counter.reserved -= amount;
            counter.spent += actual(key.unit);
            counter.touched_at = now;
        }
    }

    pub fn get(&self, key: &Key) -> Counter {
        self.lock().get(key).copied().unwrap_or_default()
    }

    /// After a write that granted `granted` and booked `spent`.
    pub fn enlarged(&self, key: &Key, granted: i64, booking: &Booking, now: Timestamp) {
        let mut counters = self.lock();
        let counter = counters.entry(key.clone()).or_default();
        counter.leased += granted - booking.returned;
        counter.spent -= booking.spent;
        counter.touched_at = now;
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
                let returned = if idle { counter.leased } else { booked_part(&counter) };
                (Booking { key, spent: counter.spent, returned }, idle)
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

    /// What was taken out comes back: its booking was not written. Others may have begun anew under its key.
    pub fn undo(&self, booking: &Booking, now: Timestamp) {
        let mut counters = self.lock();
        let counter = counters.entry(booking.key.clone()).or_default();
        counter.leased += booking.returned;
        counter.spent += booking.spent;
        counter.touched_at = now;
    }

    /// Takes out of every count of a scope what no call holds: its budget changes.
    pub fn unused(&self, scope: &BudgetScope) -> Vec<Booking> {
        let mut counters = self.lock();
        let own = counters.iter_mut().filter(|(key, _)| key.scope == *scope);
        own.map(|(key, counter)| {
            let returned = counter.leased - counter.reserved;
            let booking = Booking { key: key.clone(), spent: counter.spent, returned };
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

/// The part of a lease that was spent; more cannot be returned than is there.
pub(crate) fn booked_part(counter: &Counter) -> i64 {
    counter.spent.min(counter.leased)
}
