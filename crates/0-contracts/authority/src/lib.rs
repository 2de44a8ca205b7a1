//! Authority as types: what a call demands, what a manifest grants, and the sealed [`Authorized`] that only the decision
//! can make. Executors take nothing else, so "forgot to check" does not compile. Pure: no I/O, no clock.

mod authorized;
mod credential;
mod grants;
mod host;
mod pattern;

pub use authorized::{Authorized, Caller, Demand, Minter, Party, Program};
pub use credential::Credential;
pub use grants::GrantSet;
pub use host::HostRule;
