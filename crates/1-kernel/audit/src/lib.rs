//! The audit log: one append-only Merkle tree per node, sealed into the very commit that does what it records.
//!
//! The format and the proof live in `agentos-proof`; here is the writer's side (the [`LogWriter`] that the store drives),
//! the reader's ([`AuditLog`]), and that of whoever prunes, holds and changes the key ([`Upkeep`]).

mod days;
mod identity;
mod log;
mod query;
mod stored;
mod upkeep;
mod writer;

pub use identity::LogIdentity;
pub use log::{AuditLog, Verification};
pub use query::{Filter, StoredRecord, query};
pub use stored::{first_kept, frontier_near, rotations};
pub use upkeep::{Authority, Hold, NewHold, PruneOrder, PruneReport, Rotated, Upkeep};
pub use writer::LogWriter;
