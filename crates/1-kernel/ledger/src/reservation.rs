//! What a call holds of the budgets while it is under way.

use agentos_types::budget::BudgetUnit;

use crate::{Amount, Ledger, counters::Key};

/// Settled once. One that is dropped without it (a panic, a future that was cancelled) counts as spent: nobody knows what became
/// of the call.
#[derive(Debug)]
#[must_use = "a reservation that is dropped counts as spent"]
pub struct Reservation {
    pub(crate) ledger: Ledger,
    pub(crate) held: Vec<(Key, i64)>,
}

impl Reservation {
    /// What the call did use. More than was reserved is booked as it is.
    pub fn settle(mut self, actual: Amount) {
        self.book(|unit| actual.of(unit));
    }

    /// Nothing was sent.
    pub fn release(self) {
        self.settle(Amount::default());
    }

    fn book(&mut self, actual: impl Fn(BudgetUnit) -> i64) {
        let held = std::mem::take(&mut self.held);
        self.ledger.settle(&held, actual);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for (key, amount) in std::mem::take(&mut self.held) {
            self.ledger.settle(&[(key, amount)], |_| amount);
        }
    }
}
