//! The audit log: one append-only Merkle tree per node, sealed into the very commit that does what it records.
//!
//! The format and the proof live in `agentos-proof`; here is the writer's side (the [`LogWriter`] that the store drives)
//! and the reader's ([`AuditLog`]).

mod days;
mod identity;
mod log;
mod query;
mod stored;
mod writer;

pub use identity::LogIdentity;
pub use log::{AuditLog, Verification};
pub use query::{Filter, StoredRecord, query};
pub use writer::LogWriter;
