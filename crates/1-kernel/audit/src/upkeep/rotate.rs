//! Change of the log's key: recorded, stated and switched in one commit. Where the private halves lie is the caller's
//! business; a caller that crashes in between finds by the log which of the two keys is the one.

use agentos_proof::{VerifierKey, rotation};
use agentos_types::{
    Code, Fault, Result,
    audit::{AuditEvent, Phase},
};

use super::{Authority, Upkeep};

/// Resource of the record.
const RESOURCE: &str = "log-key";

/// A change that is durable.
#[derive(Clone, Debug)]
pub struct Rotated {
    pub old: VerifierKey,
    pub new: VerifierKey,
}

impl Upkeep {
    /// The key of this seed signs from now on; the old one signs the change, and for the last time. The seed must lie
    /// where a restart finds it before this is called. If it fails, the change may be durable all the same: ask again with
    /// the same seed.
    pub async fn rotate_key(&self, by: &Authority, seed: &[u8; 32]) -> Result<Rotated> {
        let _busy = self.busy.lock().await;
        let identity = self.log.identity();
        let old = identity.verifier_key();
        identity.stage(seed)?;
        let new = identity.staged_key().ok_or_else(|| Fault::internal("the next key is gone"))?;
        if *new == *old {
            return Err(Fault::new(Code::AUDIT_KEY_UNUSABLE, "the next key is the one that signs already"));
        }
        let event = self
            .event(by, rotation::ACTION, RESOURCE, Phase::Intent)
            .fact(rotation::OLD_KEY, old.to_string())
            .fact(rotation::NEW_KEY, new.to_string());
        self.commit(event).await?;
        // The first checkpoint of the new key: the old one is not needed for anything after it.
        let done = self.event(by, rotation::ACTION, RESOURCE, Phase::Outcome).fact(rotation::NEW_KEY, new.to_string());
        self.commit(done).await?;
        Ok(Rotated { old: (*old).clone(), new: (*new).clone() })
    }

    /// In a commit of its own: the key changes with the one that the record is sealed in, and not before.
    async fn commit(&self, event: AuditEvent) -> Result<()> {
        let write = self.log.store().write(move |tx| {
            tx.record(event);
            Ok(())
        });
        write.await
    }
}
