//! Cosignatures (c2sp.org/tlog-cosignature): a witness's statement "I have seen this checkpoint, and the log has only
//! grown since the one that I saw before".
//!
//! A cosignature is one more signature line of the note, so that a cosigned checkpoint is still a checkpoint. It covers
//! the time as well: `cosignature/v1\ntime <seconds>\n` and then the note's text. Only Ed25519 (algorithm byte 4).

use std::{fmt, str::FromStr};

use agentos_types::{Code, Fault, Result, Timestamp};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::note::{self, KeyId, NOTE_BYTES_MAX, SIGNATURE_PREFIX};

const COSIGNATURE: u8 = 4;
/// What a witness's key is named by; no log's key is.
const NAME_PREFIX: &str = "agent-os-witness/";

/// Name of the witness key of a node.
pub fn witness_name(node: &str) -> String {
    format!("{NAME_PREFIX}{node}")
}

fn key_id(name: &str, key: &VerifyingKey) -> KeyId {
    let hash =
        Sha256::new().chain_update(name).chain_update([b'\n', COSIGNATURE]).chain_update(key.as_bytes()).finalize();
    let mut id = KeyId::default();
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// A witness's public key. Text form as a log's, with the algorithm byte 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    key_id: KeyId,
    key: VerifyingKey,
}

impl WitnessKey {
    pub fn new(name: impl Into<String>, key: VerifyingKey) -> Result<Self> {
        let name = name.into();
        if !note::is_key_name(&name) || key.is_weak() {
            return Err(unusable("the name has white space or '+', or the key is weak"));
        }
        Ok(Self { key_id: key_id(&name, &key), name, key })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the witness has seen this note. Refuses a note without its cosignature, and one that does not verify.
    pub fn seen_at(&self, note: &str) -> Result<Timestamp> {
        let refuse = |why: &str| Fault::new(Code::AUDIT_TAMPERED, format!("a cosignature is refused: {why}"));
        let (text, lines) = split(note).ok_or_else(|| refuse("the note is malformed or too large"))?;
        let own = lines
            .lines()
            .filter_map(note::parse_signature)
            .find(|(name, id, _)| *name == self.name && *id == self.key_id);
        let (_, _, bytes) = own.ok_or_else(|| refuse(&format!("there is none of {}", self.name)))?;
        let (seconds, signature) = bytes.split_first_chunk::<8>().ok_or_else(|| refuse("it is cut"))?;
        let seconds = u64::from_be_bytes(*seconds);
        let signature = Signature::from_slice(signature).map_err(|_| refuse("it is cut"))?;
        let verified = self.key.verify_strict(message(text, seconds).as_bytes(), &signature);
        verified.map_err(|_| refuse("it does not verify"))?;
        let millis = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000));
        // Room for the microseconds that a timestamp counts in.
        let millis = millis.filter(|millis| *millis < i64::MAX / 1_000);
        millis.map(Timestamp::from_millis).ok_or_else(|| refuse("its time is out of range"))
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::key_line(&self.name, &self.key_id, COSIGNATURE, &self.key))
    }
}

impl FromStr for WitnessKey {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let (name, id, key) = note::parse_key_line(text, COSIGNATURE).map_err(unusable)?;
        let key = Self::new(name, key)?;
        if key.key_id == id { Ok(key) } else { Err(unusable(note::FOREIGN_ID)) }
    }
}

fn unusable(why: &str) -> Fault {
    Fault::new(Code::AUDIT_KEY_UNUSABLE, format!("the witness key is unusable: {why}"))
        .hint("a witness key is one line, name+id+key, as the witness's operator published it")
}

/// The private half. It signs nothing but cosignatures.
pub struct Cosigner {
    key: SigningKey,
    public: WitnessKey,
}

impl Cosigner {
    pub fn new(node: &str, seed: &[u8; 32]) -> Result<Self> {
        let key = SigningKey::from_bytes(seed);
        let public = WitnessKey::new(witness_name(node), key.verifying_key())?;
        Ok(Self { key, public })
    }

    pub fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The note with this witness's line, in place of one that it had before. The caller has verified the note.
    pub fn cosign(&self, note: &str, now: Timestamp) -> Result<String> {
        let seconds = u64::try_from(now.as_millis() / 1_000).map_err(Fault::internal)?;
        let malformed = || Fault::new(Code::AUDIT_TAMPERED, "a note is malformed or too large to be cosigned");
        let (text, lines) = split(note).ok_or_else(malformed)?;
        let signature = self.key.sign(message(text, seconds).as_bytes()).to_bytes();
        let bytes = [self.public.key_id.as_slice(), &seconds.to_be_bytes(), &signature].concat();
        let is_own = |line: &&str| {
            note::parse_signature(line)
                .is_some_and(|(name, id, _)| name == self.public.name && id == self.public.key_id)
        };
        let others: String = lines.lines().filter(|line| !is_own(line)).flat_map(|line| [line, "\n"]).collect();
        let cosigned = format!("{text}\n{others}{SIGNATURE_PREFIX}{} {}\n", self.public.name, BASE64.encode(bytes));
        if cosigned.len() > NOTE_BYTES_MAX { Err(malformed()) } else { Ok(cosigned) }
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.public.name)
    }
}

/// Text with its last newline, and signature lines.
fn split(note: &str) -> Option<(&str, &str)> {
    let end = note.rfind("\n\n").filter(|_| note.len() <= NOTE_BYTES_MAX)?;
    Some((note.get(..=end)?, note.get(end + 2..)?))
}

fn message(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VerifierKey, checkpoint};

    const LOG: &str = "agent-os/node-1";

    fn note() -> String {
        checkpoint::sign(&SigningKey::from_bytes(&[7; 32]), LOG, 12, &[5; 32])
    }

    #[test]
    fn a_cosigned_checkpoint_is_still_a_checkpoint() {
        let witness = Cosigner::new("node-2", &[9; 32]).unwrap();
        let now = Timestamp::from_millis(1_795_392_000_500);
        let cosigned = witness.cosign(&note(), now).unwrap();
        let log = VerifierKey::new(LOG, SigningKey::from_bytes(&[7; 32]).verifying_key()).unwrap();
        assert_eq!(checkpoint::parse_and_verify(&cosigned, &log, LOG).unwrap().size, 12);
        assert_eq!(witness.public().seen_at(&cosigned), Ok(Timestamp::from_millis(1_795_392_000_000)));
        // A later look replaces the line; another witness adds its own.
        let again = witness.cosign(&cosigned, now.after(std::time::Duration::from_secs(60))).unwrap();
        assert_eq!(again.len(), cosigned.len());
        assert_eq!(witness.public().seen_at(&again), Ok(Timestamp::from_millis(1_795_392_060_000)));
        let other = Cosigner::new("node-3", &[8; 32]).unwrap();
        let both = other.cosign(&again, now).unwrap();
        assert!(witness.public().seen_at(&both).is_ok() && other.public().seen_at(&both).is_ok());
    }

    #[test]
    fn nothing_that_was_changed_passes() {
        let witness = Cosigner::new("node-2", &[9; 32]).unwrap();
        let cosigned = witness.cosign(&note(), Timestamp::from_millis(1_795_392_000_000)).unwrap();
        let check = |note: &str, part: &str| {
            let refused = witness.public().seen_at(note).unwrap_err();
            assert!(refused.message.contains(part), "{refused} lacks {part}");
        };
        check(&note(), "none of agent-os-witness/node-2");
        check(&cosigned.replace("\n12\n", "\n13\n"), "does not verify");
        check("no note", "malformed");
        let stranger = Cosigner::new("node-2", &[1; 32]).unwrap();
        check(&stranger.cosign(&note(), Timestamp::from_millis(1)).unwrap(), "none of");
        // Another time under the same signature.
        let (head, line) = cosigned.trim_end().rsplit_once(' ').unwrap();
        let mut bytes = BASE64.decode(line).unwrap();
        bytes[11] ^= 1;
        check(&format!("{head} {}\n", BASE64.encode(bytes)), "does not verify");
    }

    #[test]
    fn keys_have_one_spelling() {
        let key = Cosigner::new("node-2", &[9; 32]).unwrap().public().clone();
        assert_eq!(key.to_string().parse::<WitnessKey>(), Ok(key.clone()));
        let text = key.to_string();
        for bad in [&text[1..], &text[..text.len() - 1], "", "a+b", "a+00000000+AAAA"] {
            assert_eq!(bad.parse::<WitnessKey>().unwrap_err().code, Code::AUDIT_KEY_UNUSABLE, "{bad}");
        }
        // The same key as a log's is not a witness's.
        let log = VerifierKey::new(LOG, SigningKey::from_bytes(&[7; 32]).verifying_key()).unwrap();
        assert!(log.to_string().parse::<WitnessKey>().is_err() && text.parse::<VerifierKey>().is_err());
    }
}
