//! DSSE v1 envelopes (github.com/secure-systems-lab/dsse): a payload, its type, and signatures over both.
//!
//! The bytes that were verified are the bytes that the caller gets and parses; nothing is serialised again in between.
//! Key ids are hints that nobody signed: they choose which key to try, and a wrong one can only make a check fail.

use agentos_types::{Code, Fault, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::SigningKeyFile;

/// Payload type of a signed manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.agentos.manifest.v1+json";
/// Payload type of the trust root.
pub const TRUST_ROOT_TYPE: &str = "application/vnd.agentos.trust-root.v1+json";
/// Largest envelope. Manifests have a few kilobytes; the limit comes before any parsing.
pub const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;
/// Signatures of one envelope; each costs a check.
const SIGNATURES_MAX: usize = 8;

#[derive(Serialize, Deserialize)]
struct EnvelopeJson {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
struct SignatureJson {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// An envelope whose form is right and whose signatures nobody has checked yet.
#[derive(Clone, Debug)]
pub struct Unverified {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

/// A payload with the key that was shown to have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub payload: Vec<u8>,
    pub keyid: String,
}

/// The pre-authentication encoding: what is signed. Lengths keep type and payload from sliding into each other.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

/// The envelope as JSON with one signature.
pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKeyFile) -> Result<Vec<u8>> {
    let signature = key.signing_key().sign(&pae(payload_type, payload));
    let envelope = EnvelopeJson {
        payload_type: payload_type.to_owned(),
        payload: BASE64.encode(payload),
        signatures: vec![SignatureJson { keyid: key.keyid().to_owned(), sig: BASE64.encode(signature.to_bytes()) }],
    };
    let bytes = serde_json::to_vec(&envelope).map_err(Fault::internal)?;
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(invalid(&format!("it would be larger than {ENVELOPE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn invalid(why: &str) -> Fault {
    Fault::new(Code::SIGNATURE_INVALID, format!("the signed envelope is refused: {why}"))
}

impl Unverified {
    /// Checks the form: size, JSON, strict base64, the payload type, the number of signatures.
    pub fn parse(envelope: &[u8], payload_type: &str) -> Result<Self> {
        if envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(invalid(&format!("it is larger than {ENVELOPE_BYTES_MAX} bytes")));
        }
        let envelope: EnvelopeJson =
            serde_json::from_slice(envelope).map_err(|error| invalid("it is not a DSSE envelope").detail(error))?;
        if envelope.payload_type != payload_type {
            return Err(invalid(&format!("its payload type is not '{payload_type}'")));
        }
        if envelope.signatures.is_empty() || envelope.signatures.len() > SIGNATURES_MAX {
            return Err(invalid(&format!("it must carry 1 to {SIGNATURES_MAX} signatures")));
        }
        let payload = BASE64.decode(&envelope.payload).map_err(|_| invalid("its payload is not strict base64"))?;
        let signatures = envelope.signatures.into_iter().map(|signature| {
            let bytes = BASE64.decode(&signature.sig).map_err(|_| invalid("a signature is not strict base64"))?;
            Ok((signature.keyid, bytes))
        });
        Ok(Self { payload_type: envelope.payload_type, payload, signatures: signatures.collect::<Result<_>>()? })
    }

    /// The payload before anybody has vouched for it. Only to find out which keys could.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Key ids that the signatures claim.
    pub fn keyids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|(keyid, _)| keyid.as_str())
    }

    /// The payload, once a key that `lookup` knows has signed it. Signatures of unknown keys are skipped; one of a known
    /// key that does not verify refuses the envelope. `None` means that no known key has signed.
    pub fn verify<'k>(self, lookup: impl Fn(&str) -> Option<&'k VerifyingKey>) -> Result<Option<Verified>> {
        let message = pae(&self.payload_type, &self.payload);
        let mut signer = None;
        for (keyid, signature) in &self.signatures {
            let Some(key) = lookup(keyid) else { continue };
            let verified = Signature::from_slice(signature).is_ok_and(|s| key.verify_strict(&message, &s).is_ok());
            if !verified {
                return Err(
                    invalid("its signature does not verify").hint("it was changed after signing; sign it again")
                );
            }
            signer.get_or_insert_with(|| keyid.clone());
        }
        Ok(signer.map(|keyid| Verified { payload: self.payload, keyid }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key() -> SigningKeyFile {
        SigningKeyFile::generate(&[3; 32])
    }

    #[test]
    fn pre_authentication_encoding_of_the_specification() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    }

    /// Changes an envelope of the payload `{}` and opens it with one known key.
    fn check(change: impl FnOnce(&mut Value), expected: Result<bool, &str>) {
        let mut envelope: Value = serde_json::from_slice(&sign(MANIFEST_TYPE, b"{}", &key()).unwrap()).unwrap();
        change(&mut envelope);
        let (trusted, public) = (key().keyid().to_owned(), key().public());
        let outcome = Unverified::parse(envelope.to_string().as_bytes(), MANIFEST_TYPE)
            .and_then(|envelope| envelope.verify(|keyid| (keyid == trusted).then_some(&public)));
        match (outcome, expected) {
            (Ok(Some(verified)), Ok(true)) => assert_eq!(verified, Verified { payload: b"{}".into(), keyid: trusted }),
            (Ok(None), Ok(false)) => {}
            (Err(fault), Err(part)) => {
                assert!(fault.code == Code::SIGNATURE_INVALID && fault.message.contains(part), "{fault} lacks {part}");
            }
            (outcome, expected) => panic!("{envelope}: {outcome:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn envelopes() {
        let stranger = SigningKeyFile::generate(&[4; 32]);
        let foreign: Value = serde_json::from_slice(&sign(MANIFEST_TYPE, b"{}", &stranger).unwrap()).unwrap();
        let foreign = foreign["signatures"][0].clone();
        check(|_| (), Ok(true));
        check(|e| e["unknown"] = json!(1), Ok(true));
        check(|e| e["signatures"] = json!([foreign, e["signatures"][0]]), Ok(true));
        check(|e| e["signatures"] = json!([foreign]), Ok(false));
        check(|e| e["signatures"][0]["keyid"] = json!(""), Ok(false));
        check(|e| e["signatures"][0]["sig"] = foreign["sig"].clone(), Err("does not verify"));
        check(|e| e["signatures"][0]["sig"] = json!("AAAA"), Err("does not verify"));
        check(|e| e["payload"] = json!(BASE64.encode("{ }")), Err("does not verify"));
        check(|e| e["payload"] = json!("e30"), Err("strict base64"));
        check(|e| e["payload"] = json!("e31="), Err("strict base64"));
        check(|e| e["payload"] = json!("e30=\n"), Err("strict base64"));
        check(|e| e["signatures"][0]["sig"] = json!("_-=="), Err("strict base64"));
        check(|e| e["payloadType"] = json!(TRUST_ROOT_TYPE), Err("payload type"));
        check(|e| e["signatures"] = json!([]), Err("1 to 8 signatures"));
        check(|e| e["signatures"] = json!(vec![e["signatures"][0].clone(); 9]), Err("1 to 8 signatures"));
        check(|e| *e = json!([]), Err("not a DSSE envelope"));
        check(|e| e["payload"] = json!("A".repeat(ENVELOPE_BYTES_MAX)), Err("larger"));
    }

    #[test]
    fn the_type_is_signed_too() {
        let envelope = String::from_utf8(sign(TRUST_ROOT_TYPE, b"{}", &key()).unwrap()).unwrap();
        let retyped = envelope.replace(TRUST_ROOT_TYPE, MANIFEST_TYPE);
        let public = key().public();
        let refused = Unverified::parse(retyped.as_bytes(), MANIFEST_TYPE).unwrap().verify(|_| Some(&public));
        assert_eq!(refused.unwrap_err().code, Code::SIGNATURE_INVALID);
    }
}
