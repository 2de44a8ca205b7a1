//! SHA-256 as text: the identity of snapshots, of alerts, and of what a step writes.

use sha2::{Digest, Sha256};

/// Whole digest, for contents.
pub fn full(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 16 digits, for keys where the rest of the key already tells nearly everything apart.
pub fn short(text: &str) -> String {
    full(text.as_bytes()).chars().take(16).collect()
}
