//! Checkpoints (c2sp.org/tlog-checkpoint): the signed statement "the log of this name has this size and this root".
//!
//! The origin is also the key's name, `agent-os/<log id>`, so that a checkpoint of one log can never pass for another's.
//! Extension lines are refused: nothing of ours writes them, and what is not understood should not be vouched for.

use agentos_types::{Code, Fault, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::SigningKey;

use crate::{
    merkle::Hash,
    note::{self, VerifierKey},
};

const ORIGIN_PREFIX: &str = "agent-os/";

/// What a verified checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    /// Number of records under the root.
    pub size: u64,
    pub root: Hash,
}

/// Origin line of a log's checkpoints, and the name of its key.
pub fn origin(log: &str) -> String {
    format!("{ORIGIN_PREFIX}{log}")
}

/// Log id of an origin; `None` when it is not an origin of ours.
pub fn log_of(origin: &str) -> Option<&str> {
    origin.strip_prefix(ORIGIN_PREFIX).filter(|log| !log.is_empty())
}

/// The checkpoint note. `origin` must come from [`origin`] and a log id without white space or `+`, which
/// [`VerifierKey::new`] checks once when the log is opened.
pub fn sign(key: &SigningKey, origin: &str, size: u64, root: &Hash) -> String {
    note::sign(&format!("{origin}\n{size}\n{}\n", BASE64.encode(root)), origin, key)
}

/// Checks signature, origin and form; whether the root is the log's is the verifier's question.
pub fn parse_and_verify(note: &str, key: &VerifierKey, origin: &str) -> Result<Checkpoint> {
    parse(note::open(note, key)?, origin)
}

/// What a note says, for whoever has verified it before and kept it in a place that only he can write.
pub fn parse_unverified(note: &str) -> Result<Checkpoint> {
    let text = note.split_inclusive("\n\n").next().unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or_default();
    parse(text, text.lines().next().unwrap_or_default())
}

fn parse(text: &str, origin: &str) -> Result<Checkpoint> {
    let refuse = |why: &str| Fault::new(Code::AUDIT_TAMPERED, format!("a checkpoint is refused: {why}"));
    let mut lines = text.split_terminator('\n');
    let (Some(first), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next()) else {
        return Err(refuse("it does not have exactly the lines origin, size and root"));
    };
    if first != origin {
        return Err(refuse(&format!("its origin is '{}', not '{origin}'", first.chars().take(80).collect::<String>())));
    }
    let size = parse_size(size).ok_or_else(|| refuse("its size is not a plain decimal number"))?;
    let root = BASE64.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
    let root = root.ok_or_else(|| refuse("its root is not a base64 SHA-256"))?;
    Ok(Checkpoint { origin: first.to_owned(), size, root })
}

/// Digits only and no leading zero: one spelling for each number.
fn parse_size(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "agent-os/node-1";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn check(note: &str, expected: Result<u64, &str>) {
        let verifier = VerifierKey::new(LOG, key().verifying_key()).unwrap();
        let outcome = parse_and_verify(note, &verifier, LOG).map_err(|fault| fault.message);
        match expected {
            Ok(size) => {
                assert_eq!(outcome, Ok(Checkpoint { origin: LOG.into(), size, root: [5; 32] }));
            }
            Err(part) => assert!(outcome.clone().unwrap_err().contains(part), "{note}: {outcome:?} lacks {part}"),
        }
    }

    #[test]
    fn forms() {
        let root = BASE64.encode([5; 32]);
        let signed = |text: &str| note::sign(text, LOG, &key());
        check(&sign(&key(), LOG, 0, &[5; 32]), Ok(0));
        check(&sign(&key(), LOG, u64::MAX, &[5; 32]), Ok(u64::MAX));
        check(&signed(&format!("{LOG}\n12\n{root}\n")), Ok(12));
        check(&signed(&format!("agent-os/node-2\n12\n{root}\n")), Err("its origin is 'agent-os/node-2'"));
        for size in ["012", "+1", "-1", "", "1 ", "18446744073709551616"] {
            check(&signed(&format!("{LOG}\n{size}\n{root}\n")), Err("size"));
        }
        check(&signed(&format!("{LOG}\n1\n{}\n", &root[4..])), Err("root"));
        check(&signed(&format!("{LOG}\n1\n{root}\nextension\n")), Err("exactly the lines"));
        check(&signed(&format!("{LOG}\n1\n")), Err("exactly the lines"));
        check(&sign(&SigningKey::from_bytes(&[8; 32]), LOG, 1, &[5; 32]), Err("not signed by"));
    }

    #[test]
    fn origins() {
        assert_eq!(log_of(&origin("node-1")), Some("node-1"));
        assert_eq!((log_of("agent-os/"), log_of("node-1")), (None, None));
    }
}
