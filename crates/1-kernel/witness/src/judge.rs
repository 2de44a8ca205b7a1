//! What a witness thinks of a checkpoint, beside the one that it holds. Pure: no store, no clock.

use agentos_proof::{Checkpoint, Hash, KeyChain, checkpoint, proofs};
use agentos_types::{Code, Fault, Result, witness::SubmitCheckpoint};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::head::{forked, shrunk};

/// Longest proof of a tree whose size fits 64 bits.
const PROOF_NODES_MAX: usize = 64;
/// Changes of the key that one submission brings, some 600 bytes each. A witness that has missed more is told a newer key.
pub(crate) const ROTATIONS_SENT_MAX: usize = 64;

/// A checkpoint whose form was checked, not yet its signature.
#[derive(Debug)]
pub(crate) struct Submission {
    /// First line of the note: says which key to try, proves nothing.
    pub origin: String,
    note: String,
    old_size: u64,
    proof: Vec<Hash>,
    rotations: Vec<String>,
}

/// The note is well signed; this is what it says beside what is held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It continues what is held, or nothing is.
    Grown(Checkpoint),
    /// It is what is held.
    Same,
    /// It contradicts what is held: the log's owner has to answer for it.
    Refused(Fault),
}

impl Submission {
    pub fn parse(body: SubmitCheckpoint) -> Result<Self> {
        let origin = body.note.lines().next().filter(|line| checkpoint::log_of(line).is_some());
        let origin = origin.ok_or_else(|| invalid("its first line does not name a log"))?.to_owned();
        if body.proof.len() > PROOF_NODES_MAX {
            return Err(invalid(&format!("its proof has {} hashes, more than {PROOF_NODES_MAX}", body.proof.len())));
        }
        if body.rotations.len() > ROTATIONS_SENT_MAX {
            return Err(invalid(&format!("it brings more than {ROTATIONS_SENT_MAX} changes of the log's key")));
        }
        let hash = |text: &String| BASE64.decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let proof = body.proof.iter().map(hash).collect::<Option<Vec<Hash>>>();
        let proof = proof.ok_or_else(|| invalid("its proof is not made of base64 SHA-256 hashes"))?;
        Ok(Self { origin, note: body.note, old_size: body.old_size, proof, rotations: body.rotations })
    }

    pub fn note(&self) -> &str {
        &self.note
    }

    pub fn rotations(&self) -> &[String] {
        &self.rotations
    }

    /// Fails for a checkpoint that says nothing (not signed by the key of its time, or a proof from elsewhere); nobody is accused then.
    pub fn judge(&self, keys: &KeyChain, held: Option<&Checkpoint>) -> Result<Verdict> {
        let shown = keys.open(&self.note).map_err(|finding| invalid(&finding.message))?;
        let Some(held) = held else { return Ok(Verdict::Grown(shown)) };
        if shown.size < held.size {
            return Ok(Verdict::Refused(shrunk(shown.size, held.size)));
        }
        if shown.size == held.size {
            return Ok(if shown.root == held.root { Verdict::Same } else { Verdict::Refused(forked(held.size)) });
        }
        if self.old_size != held.size {
            return Err(stale(self.old_size, held.size));
        }
        if proofs::verify_consistency((held.size, &held.root), (shown.size, &shown.root), &self.proof) {
            return Ok(Verdict::Grown(shown));
        }
        let message = format!(
            "no proof shows that the log of {} records continues the one of {} that is held",
            shown.size, held.size
        );
        Ok(Verdict::Refused(Fault { message, ..forked(held.size) }))
    }
}

fn invalid(why: &str) -> Fault {
    Fault::new(Code::CHECKPOINT_INVALID, format!("the checkpoint is refused: {why}"))
}

fn stale(old_size: u64, held: u64) -> Fault {
    Fault::new(
        Code::CHECKPOINT_STALE,
        format!("the proof starts at {old_size} records; held is a checkpoint of {held}"),
    )
}

#[cfg(test)]
mod tests {
    use agentos_proof::{Frontier, SigningKey, VerifierKey, merkle::leaf_hash};

    use super::*;

    const LOG: &str = "agent-os/node-1";

    fn leaves(seed: u8, count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&[seed, number as u8])).collect()
    }

    fn at(leaves: &[Hash]) -> Checkpoint {
        let frontier: Frontier = leaves.iter().copied().collect();
        Checkpoint { origin: LOG.into(), size: frontier.size(), root: frontier.root() }
    }

    fn submission(key: u8, leaves: &[Hash], old_size: usize) -> SubmitCheckpoint {
        let shown = at(leaves);
        let note = checkpoint::sign(&SigningKey::from_bytes(&[key; 32]), LOG, shown.size, &shown.root);
        let proof = proofs::consistency_proof(leaves, old_size).unwrap_or_default();
        SubmitCheckpoint {
            note,
            old_size: old_size as u64,
            proof: proof.iter().map(|hash| BASE64.encode(hash)).collect(),
            rotations: Vec::new(),
        }
    }

    fn judge(body: SubmitCheckpoint, held: Option<&Checkpoint>) -> Result<Verdict> {
        let key = VerifierKey::new(LOG, SigningKey::from_bytes(&[7; 32]).verifying_key()).unwrap();
        Submission::parse(body)?.judge(&KeyChain::single(key), held)
    }

    fn refused(verdict: Result<Verdict>) -> Code {
        match verdict {
            Ok(Verdict::Refused(fault)) => fault.code,
            other => panic!("{other:?} is no refusal"),
        }
    }

    #[test]
    fn every_growth_is_accepted_and_no_other_history() {
        let (true_log, fork) = (leaves(1, 40), leaves(2, 40));
        for held in 1..=40_usize {
            let kept = at(&true_log[..held]);
            for size in 1..=40_usize {
                let verdict = judge(submission(7, &true_log[..size], held), Some(&kept));
                if size < held {
                    assert_eq!(refused(verdict), Code::LOG_SHRUNK, "{size} after {held}");
                } else if size == held {
                    assert_eq!(verdict, Ok(Verdict::Same));
                } else {
                    assert_eq!(verdict, Ok(Verdict::Grown(at(&true_log[..size]))), "{size} after {held}");
                }
                if size >= held {
                    let forked = judge(submission(7, &fork[..size], held), Some(&kept));
                    assert_eq!(refused(forked), Code::LOG_FORKED, "{size} after {held}");
                }
            }
        }
    }

    #[test]
    fn what_says_nothing_accuses_nobody() {
        let log = leaves(1, 20);
        let kept = at(&log[..10]);
        let code = |body: SubmitCheckpoint| judge(body, Some(&kept)).unwrap_err().code;
        assert_eq!(code(submission(8, &log, 10)), Code::CHECKPOINT_INVALID, "another key");
        assert_eq!(code(submission(7, &log, 9)), Code::CHECKPOINT_STALE);
        let good = submission(7, &log, 10);
        assert_eq!(code(SubmitCheckpoint { note: "x".into(), ..good.clone() }), Code::CHECKPOINT_INVALID);
        assert_eq!(code(SubmitCheckpoint { proof: vec!["AAAA".into()], ..good.clone() }), Code::CHECKPOINT_INVALID);
        let long = vec![BASE64.encode([0; 32]); 65];
        assert_eq!(code(SubmitCheckpoint { proof: long, ..good.clone() }), Code::CHECKPOINT_INVALID);
        let changes = vec![String::new(); ROTATIONS_SENT_MAX + 1];
        assert_eq!(code(SubmitCheckpoint { rotations: changes, ..good.clone() }), Code::CHECKPOINT_INVALID);
        assert_eq!(judge(submission(7, &log, 3), None), Ok(Verdict::Grown(at(&log))), "the first one needs no proof");
        let cut = SubmitCheckpoint { proof: good.proof[1..].to_vec(), ..good };
        assert_eq!(refused(judge(cut, Some(&kept))), Code::LOG_FORKED, "a growth without a proof is none");
    }
}
