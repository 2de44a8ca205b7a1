//! What makes the audit log provable: the bytes of a record, the Merkle tree over them, signed checkpoints, and the
//! verifier that trusts nothing but a public key.
//!
//! The log's writer uses the same functions, so that writer and verifier cannot drift apart. No async, no network, no
//! clock; the only I/O is reading a database or a segment file, and writing a segment to a given writer.
//!
//! What a green verification means: the records are those that the holder of the log's key signed, in that order, without
//! a gap, up to the newest checkpoint. Somebody who holds the key *and* can write the database can still sign another
//! history or a shorter one; only a checkpoint that was kept elsewhere (a held checkpoint) shows that.

pub mod checkpoint;
pub mod cosignature;
pub mod day;
pub mod finding;
pub mod held;
pub mod leaf;
pub mod life;
pub mod merkle;
pub mod note;
pub mod proofs;
pub mod rotation;
mod signatures;
pub mod source;
pub mod verify;

pub use checkpoint::Checkpoint;
pub use cosignature::{Cosigner, WitnessKey};
pub use day::{Day, StoredDay};
pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use finding::{Finding, FindingKind, VerifyError};
pub use leaf::{Indexed, Record};
pub use life::Kept;
pub use merkle::{Frontier, Hash};
pub use note::VerifierKey;
pub use rotation::{KeyChain, Rotation};
pub use verify::{Report, Row, StoredCheckpoint, Verifier};
