//! Authority as types: what a call demands, what a manifest grants, and the sealed [`Authorized`] that only the decision
//! can make. Executors take nothing else, so "forgot to check" does not compile. Pure: no I/O, no clock.

mod authorized;
mod grants;
mod pattern;

pub use authorized::{Authorized, Caller, Demand, Minter};
pub use grants::GrantSet;
