//! Signed notes (c2sp.org/signed-note): text, a blank line, and signature lines `— <name> <base64(key id || signature)>`.
//!
//! Only Ed25519 (algorithm byte 1). Signatures of other keys are skipped, as the format wants it, so that witnesses may add
//! theirs; a signature that claims to be ours and does not verify refuses the note.

use std::{fmt, str::FromStr};

use agentos_types::{Code, Fault, Result, hex};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Largest note: a checkpoint of ours has about 300 bytes; the rest is room for witnesses' signatures.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
const ED25519: u8 = 1;
/// Em dash and space, as the format wants it.
pub(crate) const SIGNATURE_PREFIX: &str = "\u{2014} ";

pub(crate) type KeyId = [u8; 4];

/// First four bytes of SHA-256(name || 0x0A || 0x01 || public key): says which key to try, proves nothing.
fn key_id(name: &str, key: &VerifyingKey) -> KeyId {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize();
    let mut id = KeyId::default();
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

/// A public key with its name. Text form: `<name>+<key id in hex>+<base64(0x01 || public key)>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: KeyId,
    key: VerifyingKey,
}

impl VerifierKey {
    /// Refuses a name that the format cannot carry, and a key of small order, under which anybody can sign.
    pub fn new(name: impl Into<String>, key: VerifyingKey) -> Result<Self> {
        let name = name.into();
        if !is_key_name(&name) || key.is_weak() {
            return Err(unusable("the name has white space or '+', or the key is weak"));
        }
        Ok(Self { key_id: key_id(&name, &key), name, key })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_line(&self.name, &self.key_id, ED25519, &self.key))
    }
}

impl FromStr for VerifierKey {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let (name, id, key) = parse_key_line(text, ED25519).map_err(unusable)?;
        let key = Self::new(name, key)?;
        if key.key_id == id { Ok(key) } else { Err(unusable(FOREIGN_ID)) }
    }
}

pub(crate) const FOREIGN_ID: &str = "its key id does not belong to its name and key";

/// `name+id+key`: how a public key is published. The first byte of the key says what it signs.
pub(crate) fn key_line(name: &str, id: &[u8], kind: u8, key: &VerifyingKey) -> String {
    let key = BASE64.encode([&[kind], key.as_bytes().as_slice()].concat());
    format!("{name}+{}+{key}", hex::encode(id))
}

/// Name, id and key of such a line, or what is wrong with it. Whether the id belongs to the rest, the caller knows.
pub(crate) fn parse_key_line(text: &str, kind: u8) -> std::result::Result<(&str, [u8; 4], VerifyingKey), &'static str> {
    // At most three parts: base64 may itself hold a '+'.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it does not have the three parts name+id+key");
    };
    let bytes = BASE64.decode(key).map_err(|_| "its key is not base64")?;
    let key = match bytes.split_first() {
        Some((first, key)) if *first == kind => {
            <[u8; 32]>::try_from(key).ok().and_then(|key| VerifyingKey::from_bytes(&key).ok())
        }
        _ => None,
    };
    let key = key.ok_or("it is not a key of this kind")?;
    Ok((name, hex::decode(id).ok_or(FOREIGN_ID)?, key))
}

fn unusable(why: &str) -> Fault {
    Fault::new(Code::AUDIT_KEY_UNUSABLE, format!("the verifier key is unusable: {why}"))
        .hint("a verifier key is one line, name+id+key, as the log's owner published it")
}

/// The note over `text`, which must end with a newline. The signature covers the text, not the blank line.
pub fn sign(text: &str, name: &str, key: &SigningKey) -> String {
    let id = key_id(name, &key.verifying_key());
    let signature = key.sign(text.as_bytes()).to_bytes();
    let line = BASE64.encode([id.as_slice(), signature.as_slice()].concat());
    format!("{text}\n{SIGNATURE_PREFIX}{name} {line}\n")
}

/// The text of a note that `key` has signed.
pub fn open<'n>(note: &'n str, key: &VerifierKey) -> Result<&'n str> {
    let refuse = |why: &str| Err(Fault::new(Code::AUDIT_TAMPERED, format!("a signed note is refused: {why}")));
    if note.len() > NOTE_BYTES_MAX {
        return refuse(&format!("it is larger than {NOTE_BYTES_MAX} bytes"));
    }
    let Some(end) = note.rfind("\n\n") else { return refuse("it has no signature part") };
    // The text keeps its last newline; the second one is the blank line.
    let (text, lines) = (note.get(..=end).unwrap_or_default(), note.get(end + 2..).unwrap_or_default());
    let Some(lines) = lines.strip_suffix('\n') else { return refuse("its last line is cut") };
    let mut signed = false;
    for line in lines.split('\n') {
        let Some((name, id, signature)) = parse_signature(line) else { return refuse("a signature line is malformed") };
        if name != key.name || id != key.key_id {
            continue;
        }
        let verified =
            Signature::from_slice(&signature).is_ok_and(|s| key.key.verify_strict(text.as_bytes(), &s).is_ok());
        if !verified {
            return refuse("its signature does not verify");
        }
        signed = true;
    }
    if signed { Ok(text) } else { refuse(&format!("it is not signed by {}+{}", key.name, hex::encode(&key.key_id))) }
}

/// Name, key id and signature bytes of one line.
pub(crate) fn parse_signature(line: &str) -> Option<(&str, KeyId, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = BASE64.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    (is_key_name(name) && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vectors of Go's reference implementation (golang.org/x/mod/sumdb/note).
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn reference_note_is_made_and_opened() {
        let seed: [u8; 32] = BASE64.decode(SEED).unwrap().try_into().unwrap();
        let note = sign(TEXT, "PeterNeumann", &SigningKey::from_bytes(&seed));
        assert_eq!(note, format!("{TEXT}\n{SIGNATURE}"));
        let key: VerifierKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(open(&note, &key).unwrap(), TEXT);
    }

    #[test]
    fn no_mangled_verifier_key_is_accepted() {
        for start in 0..KEY.len() {
            for end in start..=KEY.len() {
                let whole = start == 0 && end == KEY.len();
                assert_eq!(KEY[start..end].parse::<VerifierKey>().is_ok(), whole, "{}", &KEY[start..end]);
            }
        }
        for position in 0..KEY.len() {
            let mut bytes = KEY.as_bytes().to_vec();
            bytes[position] += 1;
            assert!(String::from_utf8(bytes).unwrap().parse::<VerifierKey>().is_err());
        }
        let neutral_element = VerifyingKey::from_bytes(&{
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        });
        assert!(VerifierKey::new("weak", neutral_element.unwrap()).is_err());
    }

    fn check(note: &str, expected: Result<(), &str>) {
        let outcome = open(note, &KEY.parse().unwrap()).map_err(|fault| fault.message);
        match expected {
            Ok(()) => assert_eq!(outcome.as_deref(), Ok(TEXT)),
            Err(part) => assert!(outcome.clone().unwrap_err().contains(part), "{note}: {outcome:?} lacks {part}"),
        }
    }

    #[test]
    fn signature_lines() {
        let witness = sign(TEXT, "witness", &SigningKey::from_bytes(&[9; 32]));
        let witness = witness.rsplit_once("\n\n").unwrap().1;
        let forged = SIGNATURE.replace("x08go/ZJ", "x08go/ZK");
        check(&format!("{TEXT}\n{witness}{SIGNATURE}"), Ok(()));
        check(&format!("{TEXT}\n{witness}"), Err("not signed by PeterNeumann"));
        check(&format!("{TEXT}\n{forged}"), Err("does not verify"));
        check(&format!("{TEXT}\n{SIGNATURE}{forged}"), Err("does not verify"));
        check(&format!("{}\n{SIGNATURE}", TEXT.replace("you", "You")), Err("does not verify"));
        check(&format!("{TEXT}\n{SIGNATURE}\n"), Err("cut"));
        check(&format!("{TEXT}\n{}", SIGNATURE.trim_end()), Err("cut"));
        check(&format!("{TEXT}\n{}", SIGNATURE.replace('\u{2014}', "-")), Err("malformed"));
        check(TEXT, Err("no signature part"));
        check(&format!("{TEXT}\n{}", SIGNATURE.repeat(300)), Err("larger"));
    }
}
