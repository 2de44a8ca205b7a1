//! Idempotency keys for providers that take them: derived from our own call and never a client's, so that no two callers can ever
//! share one, and nothing that a client chose leaves with it.
//!
//! An attempt whose fate nobody knows (sent, and no answer) is repeated under its key, so that a provider that keeps to it does the
//! work once. One that was answered has its fate: the next attempt is a new one, since the provider would repeat the failure.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use agentos_router::{Kind, Target};
use agentos_types::hex;
use sha2::{Digest, Sha256};

use crate::{ModelCall, failing::Failing};

/// Bytes of the digest that are written. Enough against any collision, and short for a header.
const KEY_BYTES: usize = 20;

/// Of one call.
#[derive(Debug, Default)]
pub(crate) struct Fates(Mutex<BTreeMap<String, u32>>);

impl Fates {
    /// `None`: this kind of provider documents no such header.
    pub fn key(&self, call: &ModelCall, target: &Target, body: &[u8]) -> Option<String> {
        if target.kind != Kind::Openai {
            return None;
        }
        // Numbers: whole after any panic.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&target.id).copied().unwrap_or(0);
        let digest = Sha256::new()
            .chain_update(call.request_id.as_str())
            .chain_update([0])
            .chain_update(&target.id)
            .chain_update([0])
            .chain_update(known.to_le_bytes())
            .chain_update(Sha256::digest(body))
            .finalize();
        Some(format!("agent-os-{}", hex::encode(digest.get(..KEY_BYTES).unwrap_or(&digest))))
    }

    /// An attempt failed. The next one at the same target is another one, unless nobody knows what became of this.
    pub fn failed(&self, target: &Target, failing: &Failing) {
        if failing.is_fate_known() {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *known.entry(target.id.clone()).or_default() += 1;
        }
    }
}
