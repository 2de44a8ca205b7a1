//! Change of the log's key: the old key signs the new one, and says up to which size it signs itself.
//!
//! The statement is a signed note that can never pass for a checkpoint. Its text: a fixed first line, the old key, the new
//! key, and the size of the log at which the old key signs for the last time. Both keys sign it, the new one to show that
//! its holder has it. A [`KeyChain`] is all statements of a log and the one key that its reader trusts.

use agentos_types::{Code, Fault, Result};
use ed25519_dalek::SigningKey;

use crate::{
    checkpoint::{self, Checkpoint},
    finding::{Finding, FindingKind},
    note::{self, VerifierKey},
};

/// Action of the record that a change of the key seals into the log.
pub const ACTION: &str = "audit.rotate-key";
/// Facts of that record.
pub const OLD_KEY: &str = "old_key";
pub const NEW_KEY: &str = "new_key";

const FIRST_LINE: &str = "agent-os-log-key-rotation/1";
/// More changes than a log sees in a lifetime; each costs two signature checks.
const ROTATIONS_MAX: usize = 1_000;

/// What a verified statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub from: VerifierKey,
    pub to: VerifierKey,
    /// Checkpoints up to this size are signed by `from`, larger ones by `to`.
    pub size: u64,
}

/// The statement, signed by both keys.
pub fn sign(name: &str, old: &SigningKey, new: &SigningKey, size: u64) -> Result<String> {
    let (from, to) = (VerifierKey::new(name, old.verifying_key())?, VerifierKey::new(name, new.verifying_key())?);
    let text = format!("{FIRST_LINE}\n{from}\n{to}\n{size}\n");
    let (signed, second) = (note::sign(&text, name, old), note::sign(&text, name, new));
    let line = second.rsplit_once("\n\n").map(|(_, line)| line).unwrap_or_default();
    Ok(format!("{signed}{line}"))
}

/// Reads a statement and checks it under both keys that it names.
pub fn parse(text: &str) -> Result<Rotation> {
    let refuse = |why: &str| Fault::new(Code::AUDIT_TAMPERED, format!("a change of the log's key is refused: {why}"));
    let named = text.split('\n').take(4).collect::<Vec<_>>();
    let [FIRST_LINE, from, to, size] = named.as_slice() else { return Err(refuse("it is no such statement")) };
    let (from, to): (VerifierKey, VerifierKey) = (from.parse()?, to.parse()?);
    let plain = size.bytes().all(|byte| byte.is_ascii_digit()) && !size.starts_with('0');
    let size = size.parse::<u64>().ok().filter(|_| plain).ok_or_else(|| refuse("its size is not a number"))?;
    if from.name() != to.name() || from == to {
        return Err(refuse("its two keys are not two keys of one log"));
    }
    let expected = format!("{FIRST_LINE}\n{from}\n{to}\n{size}\n");
    for key in [&from, &to] {
        if note::open(text, key)? != expected {
            return Err(refuse("it says more than it should"));
        }
    }
    Ok(Rotation { from, to, size })
}

/// All keys of a log in order, and which of them the reader trusts.
#[derive(Clone, Debug)]
pub struct KeyChain {
    first: VerifierKey,
    rotations: Vec<Rotation>,
    notes: Vec<String>,
    /// Place of the trusted key.
    trusted: usize,
}

impl KeyChain {
    /// A log whose key was never changed.
    pub fn single(key: VerifierKey) -> Self {
        Self { first: key, rotations: Vec::new(), notes: Vec::new(), trusted: 0 }
    }

    /// Follows the statements of a log, oldest first. The trusted key may be any of its keys.
    pub fn new(trusted: &VerifierKey, notes: &[String]) -> Result<Self, Finding> {
        let broken = |message: String| Finding::new(FindingKind::KeyChain, None, message);
        if notes.len() > ROTATIONS_MAX {
            return Err(broken(format!("the log names more than {ROTATIONS_MAX} changes of its key")));
        }
        let mut chain = Self { notes: notes.to_vec(), ..Self::single(trusted.clone()) };
        for note in notes {
            let rotation = parse(note).map_err(|fault| broken(fault.message))?;
            let before = chain.rotations.last();
            if before.is_some_and(|before| before.to != rotation.from || before.size >= rotation.size)
                || rotation.from.name() != trusted.name()
            {
                let message = format!("the change at size {} does not continue the one before it", rotation.size);
                return Err(broken(message));
            }
            chain.rotations.push(rotation);
        }
        if let Some(first) = chain.rotations.first() {
            chain.first = first.from.clone();
        }
        let place = chain.keys().position(|key| key == trusted);
        chain.trusted = place.ok_or_else(|| {
            let message = "the key that was given is not one of the log's keys".to_owned();
            Finding::new(FindingKind::CheckpointSignature, None, message)
        })?;
        Ok(chain)
    }

    /// Goes on along those of these statements that the newest key has signed, in their order. Others are passed over: what
    /// no key of this chain has signed says nothing about it, and the first successor of a key stays its only one.
    pub fn follow(&mut self, offered: &[String]) {
        for note in offered.iter().take(ROTATIONS_MAX) {
            if self.notes.len() >= ROTATIONS_MAX || self.notes.contains(note) {
                continue;
            }
            let Ok(next) = parse(note) else { continue };
            let rises = self.rotations.last().is_none_or(|last| last.size < next.size);
            if rises && next.from == *self.newest() && self.keys().all(|key| *key != next.to) {
                self.rotations.push(next);
                self.notes.push(note.clone());
            }
        }
    }

    /// Name of all keys, which is the origin of the log's checkpoints.
    pub fn name(&self) -> &str {
        self.trusted().name()
    }

    /// The key that the reader trusts.
    pub fn trusted(&self) -> &VerifierKey {
        self.keys().nth(self.trusted).unwrap_or(&self.first)
    }

    /// The key that signs today.
    pub fn newest(&self) -> &VerifierKey {
        self.rotations.last().map_or(&self.first, |rotation| &rotation.to)
    }

    /// The key in whose time a checkpoint of this size falls.
    pub fn at(&self, size: u64) -> &VerifierKey {
        self.keys().nth(self.place_at(size)).unwrap_or_else(|| self.newest())
    }

    fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        std::iter::once(&self.first).chain(self.rotations.iter().map(|rotation| &rotation.to))
    }

    fn place_at(&self, size: u64) -> usize {
        self.rotations.partition_point(|rotation| rotation.size < size)
    }

    /// The statements as notes, oldest first.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// Checkpoints up to this size are signed by keys that the trusted key never signed; only the log itself names them.
    pub fn unvouched_to(&self) -> u64 {
        let before = self.trusted.checked_sub(1).and_then(|place| self.rotations.get(place));
        before.map_or(0, |rotation| rotation.size)
    }

    /// A checkpoint, by whichever key of the log has signed it, if that was its time.
    pub fn open(&self, note: &str) -> Result<Checkpoint, Finding> {
        let mut refusal = None;
        for (place, key) in self.keys().enumerate() {
            match checkpoint::parse_and_verify(note, key, key.name()) {
                Ok(signed) if self.place_at(signed.size) == place => return Ok(signed),
                Ok(signed) => {
                    let message = format!("size {} is not in the time of the key that signed it", signed.size);
                    return Err(Finding::new(FindingKind::KeyTime, signed.size.checked_sub(1), message));
                }
                // Of several refusals the one by the key that is named says more than "not signed by".
                Err(fault) if refusal.is_none() || !fault.message.contains("not signed by") => refusal = Some(fault),
                Err(_) => {}
            }
        }
        let message = refusal.map(|fault| fault.message).unwrap_or_default();
        Err(Finding::new(FindingKind::CheckpointSignature, None, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "agent-os/n";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> VerifierKey {
        VerifierKey::new(NAME, key(seed).verifying_key()).unwrap()
    }

    fn notes() -> Vec<String> {
        vec![sign(NAME, &key(1), &key(2), 10).unwrap(), sign(NAME, &key(2), &key(3), 25).unwrap()]
    }

    #[test]
    fn each_key_has_its_time() {
        let chain = KeyChain::new(&public(1), &notes()).unwrap();
        for (size, seed) in [(1, 1), (10, 1), (11, 2), (25, 2), (26, 3), (u64::MAX, 3)] {
            assert_eq!(chain.at(size), &public(seed), "{size}");
            for signer in [1, 2, 3] {
                let opened = chain.open(&checkpoint::sign(&key(signer), NAME, size, &[0; 32]));
                match opened {
                    Ok(_) => assert_eq!(signer, seed),
                    Err(finding) => assert!(signer != seed && finding.kind == FindingKind::KeyTime, "{finding}"),
                }
            }
            let stranger = chain.open(&checkpoint::sign(&key(9), NAME, size, &[0; 32])).unwrap_err();
            assert_eq!(stranger.kind, FindingKind::CheckpointSignature);
        }
    }

    #[test]
    fn the_trusted_key_vouches_for_those_after_it() {
        for (seed, unvouched_to) in [(1, 0), (2, 10), (3, 25)] {
            assert_eq!(KeyChain::new(&public(seed), &notes()).unwrap().unvouched_to(), unvouched_to);
        }
        let stranger = KeyChain::new(&public(4), &notes()).unwrap_err();
        assert_eq!(stranger.kind, FindingKind::CheckpointSignature);
        assert_eq!(KeyChain::new(&public(4), &[]).unwrap().newest(), &public(4));
    }

    #[test]
    fn a_chain_goes_on_along_what_its_newest_key_has_signed_and_nothing_else() {
        let followed = |offered: &[String]| {
            let mut chain = KeyChain::single(public(1));
            chain.follow(offered);
            assert_eq!(KeyChain::new(&public(1), chain.notes()).unwrap().newest(), chain.newest());
            (chain.newest().clone(), chain.rotations().len())
        };
        let good = notes();
        assert_eq!(followed(&good), (public(3), 2));
        assert_eq!(followed(&[good.clone(), good.clone()].concat()), (public(3), 2), "again is no change");
        assert_eq!(followed(&good[1..]), (public(1), 0), "a link is missing");
        let before = sign(NAME, &key(8), &key(1), 5).unwrap();
        assert_eq!(
            followed(&[vec![before], good.clone()].concat()),
            (public(3), 2),
            "what led to the first is not needed"
        );
        for (forged, why) in [
            (sign(NAME, &key(9), &key(4), 10).unwrap(), "a stranger's"),
            (good[0].replace(&public(2).to_string(), &public(4).to_string()), "another new key"),
            (sign("agent-os/m", &key(1), &key(4), 10).unwrap(), "another log's"),
            ("garbage".to_owned(), "no statement"),
        ] {
            assert_eq!(followed(&[forged]), (public(1), 0), "{why}");
        }
        let second = sign(NAME, &key(1), &key(4), 30).unwrap();
        assert_eq!(followed(&[good[0].clone(), second]), (public(2), 1), "a key has one successor");
        let back = sign(NAME, &key(2), &key(1), 30).unwrap();
        assert_eq!(followed(&[good[0].clone(), back]), (public(2), 1), "no key comes again");
    }

    #[test]
    fn statements_that_were_forged_are_refused() {
        let good = notes();
        let own = sign(NAME, &key(9), &key(3), 25).unwrap();
        let text = good[1].replace(&public(2).to_string(), &public(9).to_string());
        let check = |notes: Vec<String>, what: &str| {
            let found = KeyChain::new(&public(1), &notes).unwrap_err();
            assert_eq!(found.kind, FindingKind::KeyChain, "{what}: {found}");
        };
        check(vec![good[0].clone(), own], "a stranger's statement");
        check(vec![good[0].clone(), text], "a statement with another old key");
        check(vec![good[1].clone(), good[0].clone()], "swapped");
        check(vec![good[0].clone(), sign(NAME, &key(2), &key(3), 10).unwrap()], "no time for the second key");
        check(vec![good[0].clone(), sign(NAME, &key(2), &key(2), 25).unwrap()], "the same key");
        check(vec![good[0].replace("\n10\n", "\n11\n")], "another size");
        check(vec![good[0].replace("\n10\n", "\n10\nmore\n")], "another line");
        check(vec![sign("agent-os/m", &key(1), &key(2), 10).unwrap()], "another log");
        let lines: Vec<&str> = good[0].trim_end().lines().collect();
        let one = format!("{}\n", lines[..lines.len() - 1].join("\n"));
        check(vec![one], "not signed by the new key");
        check(vec![checkpoint::sign(&key(1), NAME, 10, &[0; 32])], "a checkpoint");
        assert!(checkpoint::parse_and_verify(&good[0], &public(1), NAME).is_err(), "no statement is a checkpoint");
    }
}
