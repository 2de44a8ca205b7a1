//! Who may say what an agent is: signing keys, DSSE envelopes, the trust root, and signed agent packages.
//!
//! A manifest counts only when a publisher key of the trust root has signed its exact bytes; a manifest that is signed by
//! any other key, its author's own included, is refused as untrusted. Entropy and time are passed in.
//!
//! What this crate does not do: it keeps no state, so "a version never goes back" is the deployer's check, and it cannot
//! notice that a whole trust root was replaced by one with another root key ([`TrustRoot::root_keyids`] is there to pin it).

pub mod dsse;
mod files;
pub mod key;
pub mod package;
pub mod root;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use key::SigningKeyFile;
pub use package::Signed;
pub use root::{KeyRole, TrustRoot, TrustedKey};
