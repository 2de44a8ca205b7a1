//! The ledger: budgets that hold. A call reserves what it can cost at most before it is sent and settles what it did cost
//! afterwards, for everybody who pays for it at once: the run, the agent, the token, the team, the tenant.
//!
//! Invariant, under any interleaving and any crash: in every period, `used + leased <= amount` at the moment of each lease,
//! and what nodes have spent and reserved lies within what they lease. A node asks the database for a part of a budget (a
//! slice) in one durable statement and then spends from it in memory, so that a call costs no write of its own. A node that
//! dies forfeits the slices that it held: what it had spent of them is not known, so all of it counts.
//!
//! A provider that reports more than was reserved is the one thing that can exceed a budget: it is booked as it was told, and
//! the next call is refused.
//!
//! Not here: prices, what a call can cost (the models), grants (the monitor).

mod amount;
mod change;
mod counters;
mod ledger;
mod limits;
mod refusal;
mod reservation;
mod rows;
mod spend;

pub use amount::{Amount, Payer};
pub use change::{Announced, write_manifests};
pub use ledger::{Ledger, LedgerOptions};
pub use limits::{Budget, Origin};
pub use reservation::Reservation;
pub use rows::{BUDGETS_MAX, Standing};
pub use spend::{Spend, SpendRow};
