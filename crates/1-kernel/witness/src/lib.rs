//! Witnesses: a log that its key's holder has cut or rewritten shows only to somebody who holds an older checkpoint. Here
//! this node gets its checkpoints out of its own reach, and holds those of others.
//!
//! - [`Publisher`]: hands the newest checkpoint of the own log to a file, to webhooks and to other nodes, each in a loop of
//!   its own. That a place cannot be reached never holds up the log; it is shown by health, metrics and the server's log.
//! - [`Witness`]: takes checkpoints of other nodes' logs, refuses one that does not continue what is held, and cosigns.
//! - [`Publisher::contradictions`]: at the start, before anything is written, compares the own log with what was handed out.
//!
//! Not here: the format and the proofs (`agentos-proof`), the routes, a quorum of witnesses.

mod file;
mod head;
mod judge;
mod options;
mod publish;
mod rows;
mod witness;

pub use agentos_proof::Cosigner;

pub use options::{NodeTarget, TARGETS_MAX, Webhook, WitnessOptions};
pub use publish::{Publisher, PublisherParts};
pub use witness::Witness;
