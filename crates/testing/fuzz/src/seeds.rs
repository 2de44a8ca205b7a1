//! Keys of the corpus and what they have signed. Only the tests sign; a target that finds anything else verified has found
//! a forgery.

use agentos_proof::{SigningKey, VerifierKey, checkpoint};

pub const ENVELOPE_SEED: [u8; 32] = [7; 32];
/// The only payload that the key of the envelopes has ever signed.
pub const SIGNED: &[u8] = br#"{"signed":"once"}"#;
pub const PAYLOAD_TYPE: &str = "application/vnd.agentos.fuzz+json";

pub const LOG: &str = "fuzz";
pub const LOG_SEED: [u8; 32] = [9; 32];
/// Records under the only checkpoint that was signed.
pub const LOG_SIZE: u64 = 3;

pub fn log_key() -> VerifierKey {
    let signing = SigningKey::from_bytes(&LOG_SEED);
    match VerifierKey::new(checkpoint::origin(LOG), signing.verifying_key()) {
        Ok(key) => key,
        Err(fault) => panic!("{fault}"),
    }
}
