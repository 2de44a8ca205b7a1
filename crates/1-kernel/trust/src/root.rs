//! The trust root: which keys may publish agents here, signed by a root key that stands in it.
//!
//! Roles are apart on purpose: a root key changes the list and signs no manifest, a publisher key signs manifests and
//! changes no list. Each change makes the next version; a revoked key stays listed, so that its signatures can be told
//! from those of strangers.

use std::{collections::BTreeMap, path::Path};

use agentos_types::{Code, Fault, Result, Timestamp, json};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::{
    SigningKeyFile,
    dsse::{self, TRUST_ROOT_TYPE, Unverified},
    files,
    key::{key_id, parse_public, public_text},
};

const ROOT_SCHEMA: u32 = 1;
/// Keys of one trust root, the revoked ones included.
const KEYS_MAX: usize = 256;
/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 120;

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    /// Manifests.
    Publisher,
    /// The trust root itself.
    Root,
}

/// One key of the trust root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    pub keyid: String,
    /// Base64 of the 32 bytes.
    pub public: String,
    pub role: KeyRole,
    /// For people: whose key it is.
    pub name: String,
    pub added_at: Timestamp,
    /// Set once and for ever: from then on nothing that the key signed counts, whenever it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    version: u64,
    keys: Vec<TrustedKey>,
}

/// A trust root whose signature holds.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    document: Document,
    publics: BTreeMap<String, VerifyingKey>,
    envelope: Vec<u8>,
}

impl TrustRoot {
    /// Version 1: one root key and one publisher.
    pub fn create(
        root: &SigningKeyFile,
        publisher: &VerifyingKey,
        publisher_name: &str,
        now: Timestamp,
    ) -> Result<Self> {
        let keys = vec![
            new_key(&root.public(), KeyRole::Root, "root", now),
            new_key(publisher, KeyRole::Publisher, publisher_name, now),
        ];
        Self::sign(Document { schema: ROOT_SCHEMA, version: 1, keys }, root)
    }

    fn sign(document: Document, root: &SigningKeyFile) -> Result<Self> {
        let publics = check_document(&document)?;
        require_active_root(&document, root.keyid())?;
        let payload = json::canonical(&serde_json::to_value(&document).map_err(Fault::internal)?);
        let envelope = dsse::sign(TRUST_ROOT_TYPE, &payload, root)?;
        Ok(Self { document, publics, envelope })
    }

    /// Verifies an envelope. Its keys stand in its own payload: what this proves is that a root key of the list agreed to
    /// the whole list, so that nobody without such a key can add, restore or rename one.
    pub fn from_envelope(envelope: &[u8]) -> Result<Self> {
        let unverified = Unverified::parse(envelope, TRUST_ROOT_TYPE).map_err(|fault| invalid(&fault.message))?;
        let document: Document = serde_json::from_slice(unverified.unverified_payload())
            .map_err(|error| invalid("its payload is not a trust root").detail(error))?;
        let publics = check_document(&document)?;
        let is_root = |keyid: &str| document.keys.iter().any(|key| key.keyid == keyid && is_active(key, KeyRole::Root));
        let verified = unverified
            .verify(|keyid| publics.get(keyid).filter(|_| is_root(keyid)))
            .map_err(|fault| invalid(&fault.message))?;
        match verified {
            Some(_) => Ok(Self { document, publics, envelope: envelope.to_vec() }),
            None => Err(invalid("no root key of its list has signed it")),
        }
    }

    /// Reads and verifies `trust/root.json`.
    pub fn load(path: &Path) -> Result<Self> {
        let unreadable = |why: &str| invalid(&format!("'{}': {why}", path.display()));
        let bytes =
            files::read_limited(path, dsse::ENVELOPE_BYTES_MAX).map_err(|error| unreadable(&error.to_string()))?;
        Self::from_envelope(&bytes)
            .map_err(|fault| Fault { message: format!("{} (file '{}')", fault.message, path.display()), ..fault })
    }

    /// Writes the envelope, replacing an older version in one step.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::replace(path, &self.envelope)
            .map_err(|error| invalid(&format!("'{}' cannot be written: {error}", path.display())))
    }

    pub fn version(&self) -> u64 {
        self.document.version
    }

    pub fn keys(&self) -> &[TrustedKey] {
        &self.document.keys
    }

    /// Ids of the root keys in force, for whoever pins them outside of the file.
    pub fn root_keyids(&self) -> impl Iterator<Item = &str> {
        self.document.keys.iter().filter(|key| is_active(key, KeyRole::Root)).map(|key| key.keyid.as_str())
    }

    /// Whether the key may sign manifests now.
    pub fn is_trusted(&self, keyid: &str) -> bool {
        self.publisher(keyid).is_some()
    }

    /// The public key, if it may sign manifests now.
    pub fn publisher(&self, keyid: &str) -> Option<&VerifyingKey> {
        let trusted = self.key(keyid).is_some_and(|key| is_active(key, KeyRole::Publisher));
        self.publics.get(keyid).filter(|_| trusted)
    }

    /// What the list says about a key, trusted or not.
    pub fn key(&self, keyid: &str) -> Option<&TrustedKey> {
        self.document.keys.iter().find(|key| key.keyid == keyid)
    }

    /// The next version, with one more publisher. A revoked key does not come back.
    pub fn with_publisher(
        &self,
        root: &SigningKeyFile,
        public: &VerifyingKey,
        name: &str,
        now: Timestamp,
    ) -> Result<Self> {
        if self.key(&key_id(public)).is_some() {
            return Err(invalid(&format!("key {} is listed already", key_id(public))));
        }
        self.next(root, |keys| keys.push(new_key(public, KeyRole::Publisher, name, now)))
    }

    /// The next version, in which a publisher no longer counts.
    pub fn without_publisher(&self, root: &SigningKeyFile, keyid: &str, now: Timestamp) -> Result<Self> {
        if !self.is_trusted(keyid) {
            return Err(invalid(&format!("key {keyid} is not a publisher in force")));
        }
        let revoke = |keys: &mut Vec<TrustedKey>| {
            keys.iter_mut().filter(|key| key.keyid == keyid).for_each(|key| key.revoked_at = Some(now));
        };
        self.next(root, revoke)
    }

    fn next(&self, root: &SigningKeyFile, change: impl FnOnce(&mut Vec<TrustedKey>)) -> Result<Self> {
        // The signer must be in force in the version that is left, not only in the one that it writes itself.
        require_active_root(&self.document, root.keyid())?;
        let mut document = self.document.clone();
        document.version = document.version.checked_add(1).ok_or_else(|| invalid("its version cannot rise further"))?;
        change(&mut document.keys);
        Self::sign(document, root)
    }
}

fn is_active(key: &TrustedKey, role: KeyRole) -> bool {
    key.role == role && key.revoked_at.is_none()
}

fn require_active_root(document: &Document, keyid: &str) -> Result<()> {
    if document.keys.iter().any(|key| key.keyid == keyid && is_active(key, KeyRole::Root)) {
        return Ok(());
    }
    Err(Fault::new(Code::SIGNER_UNTRUSTED, format!("key {keyid} is not a root key of this trust root"))
        .hint("changes of the trust root are signed with its root key"))
}

fn new_key(public: &VerifyingKey, role: KeyRole, name: &str, now: Timestamp) -> TrustedKey {
    let (keyid, public) = (key_id(public), public_text(public));
    TrustedKey { keyid, public, role, name: name.to_owned(), added_at: now, revoked_at: None }
}

/// The rules that the types do not carry; returns the parsed keys.
fn check_document(document: &Document) -> Result<BTreeMap<String, VerifyingKey>> {
    if document.schema != ROOT_SCHEMA {
        return Err(invalid(&format!("schema {} is not supported", document.schema)));
    }
    if document.version == 0 || document.keys.len() > KEYS_MAX {
        return Err(invalid(&format!("its version is 0, or it has more than {KEYS_MAX} keys")));
    }
    let mut publics = BTreeMap::new();
    for key in &document.keys {
        let name_fits = !key.name.is_empty() && key.name.chars().count() <= NAME_CHARS_MAX;
        if !name_fits || key.name.chars().any(char::is_control) {
            return Err(invalid(&format!("a key's name is empty, longer than {NAME_CHARS_MAX}, or not plain text")));
        }
        let public = parse_public(&key.public).filter(|public| key_id(public) == key.keyid);
        let public = public.ok_or_else(|| invalid("a key is malformed, or its id belongs to another key"))?;
        if publics.insert(key.keyid.clone(), public).is_some() {
            return Err(invalid(&format!("key {} is listed twice", key.keyid)));
        }
    }
    Ok(publics)
}

fn invalid(why: &str) -> Fault {
    Fault::new(Code::TRUST_ROOT_INVALID, format!("the trust root is unusable: {why}"))
}

#[cfg(test)]
mod tests;
