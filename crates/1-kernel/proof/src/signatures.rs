//! Checks checkpoints in batches. A signature costs about eight times as much as a record, and a log that commits each
//! record alone has as many of one as of the other; a batch can be shared among threads and still names the first failure.

use std::{num::NonZero, thread};

use agentos_types::Fault;

use crate::{
    finding::{Finding, FindingKind, VerifyError},
    merkle::Hash,
    rotation::KeyChain,
    verify::StoredCheckpoint,
};

/// Checkpoints that wait: enough to make starting threads cheap, at most a few megabytes of notes.
const BATCH: usize = 512;

pub(crate) struct Signatures<'k> {
    keys: &'k KeyChain,
    threads: NonZero<usize>,
    /// With the root that the records hash to, in order of size.
    waiting: Vec<(StoredCheckpoint, Hash)>,
    verified: u64,
}

impl<'k> Signatures<'k> {
    pub fn new(keys: &'k KeyChain) -> Self {
        Self { keys, threads: NonZero::<usize>::MIN, waiting: Vec::new(), verified: 0 }
    }

    pub fn set_threads(&mut self, threads: NonZero<usize>) {
        self.threads = threads;
    }

    /// Checkpoints that were found good so far; all of them after a `flush`.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    pub fn push(&mut self, stored: StoredCheckpoint, root: Hash) -> Result<(), VerifyError> {
        self.waiting.push((stored, root));
        if self.waiting.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Checks all that wait. To be called before anything that shows later in the log is reported.
    pub fn flush(&mut self) -> Result<(), VerifyError> {
        let waiting = std::mem::take(&mut self.waiting);
        let share = waiting.len().div_ceil(self.threads.get()).max(1);
        let check_all = |share: &[(StoredCheckpoint, Hash)]| {
            share.iter().try_for_each(|(stored, root)| check(self.keys, stored, root))
        };
        if share >= waiting.len() {
            check_all(&waiting)?;
        } else {
            thread::scope(|scope| {
                let running: Vec<_> =
                    waiting.chunks(share).map(|share| scope.spawn(move || check_all(share))).collect();
                // In the order of the log, so that the first failure is the one that is reported.
                running.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|_| Err(Fault::internal("a signature check panicked").into()))
                })
            })?;
        }
        self.verified += waiting.len() as u64;
        Ok(())
    }
}

/// One checkpoint: signed by the key of its time, filed under its own size, over the root of the records.
fn check(keys: &KeyChain, stored: &StoredCheckpoint, root: &Hash) -> Result<(), VerifyError> {
    let seq = stored.size.checked_sub(1);
    let signed = keys.open(&stored.note).map_err(|finding| Finding { seq, ..finding })?;
    let message = match (signed.size == stored.size, signed.root == *root) {
        (true, true) => return Ok(()),
        (true, false) => "the records do not hash to the signed root".to_owned(),
        (false, _) => format!("the checkpoint stored here was signed for {} records", signed.size),
    };
    Err(Finding::new(FindingKind::CheckpointMismatch, seq, message).into())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{checkpoint, merkle::leaf_hash, note::VerifierKey};

    /// More than two batches, of which the notes at `broken` do not verify and the roots at `wrong` differ.
    fn check(threads: usize, broken: &[u64], wrong: &[u64], expected: Option<(FindingKind, u64)>) {
        let signing = SigningKey::from_bytes(&[1; 32]);
        let keys = KeyChain::single(VerifierKey::new("agent-os/n", signing.verifying_key()).unwrap());
        let mut signatures = Signatures::new(&keys);
        signatures.set_threads(NonZero::new(threads).unwrap());
        let outcome = (1..=1200).try_for_each(|size: u64| {
            let root = leaf_hash(&size.to_be_bytes());
            let mut note = checkpoint::sign(&signing, "agent-os/n", size, &root);
            if broken.contains(&size) {
                note = note.replacen('\n', "\n0", 1);
            }
            signatures.push(StoredCheckpoint { size, note }, if wrong.contains(&size) { [0; 32] } else { root })
        });
        match (outcome.and_then(|()| signatures.flush()), expected) {
            (Ok(()), None) => assert_eq!(signatures.verified(), 1200),
            (Err(VerifyError::Finding(finding)), Some((kind, size))) => {
                assert_eq!((finding.kind, finding.seq), (kind, Some(size - 1)));
            }
            (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_first_failure_is_reported_on_any_number_of_threads() {
        for threads in [1, 2, 3, 16] {
            check(threads, &[], &[], None);
            check(threads, &[700, 1000], &[1], Some((FindingKind::CheckpointMismatch, 1)));
            check(threads, &[700, 1000], &[701, 1023], Some((FindingKind::CheckpointSignature, 700)));
            check(threads, &[1200], &[], Some((FindingKind::CheckpointSignature, 1200)));
        }
    }
}
