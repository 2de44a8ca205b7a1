//! XChaCha20-Poly1305 under the installation's key. Name and version are bound as associated data, so that a sealed value
//! cannot be moved to another name or put back as an older version.

use agentos_types::{Code, Fault, Result};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

const NONCE_BYTES: usize = 24;

/// The key that seals every secret of an installation.
pub struct SecretsKey {
    cipher: XChaCha20Poly1305,
}

impl SecretsKey {
    /// Stored beside each sealed value, so that a later key can live next to this one.
    pub const ID: i64 = 1;

    pub fn new(mut bytes: [u8; 32]) -> Self {
        let cipher = XChaCha20Poly1305::new(&bytes.into());
        bytes.zeroize();
        Self { cipher }
    }

    /// `nonce || ciphertext`. The nonce is random; 192 bits make a repeat negligible.
    pub(crate) fn seal(
        &self,
        name: &str,
        version: i64,
        value: &SecretString,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Vec<u8>> {
        let context = context(name, version);
        let payload = Payload { msg: value.expose_secret().as_bytes(), aad: &context };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Fault::internal("a secret could not be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(crate) fn open(&self, name: &str, version: i64, sealed: &[u8]) -> Result<SecretString> {
        let unusable = || {
            Fault::new(Code::SECRET_KEY_UNUSABLE, format!("secret '{name}' does not open with keys/secrets.key"))
                .hint("restore the key file that belongs to this database")
        };
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(unusable)?;
        let context = context(name, version);
        let payload = Payload { msg: ciphertext, aad: &context };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| unusable())?;
        let text = std::str::from_utf8(&plain).map_err(|_| unusable())?;
        Ok(SecretString::from(text.to_owned()))
    }
}

fn context(name: &str, version: i64) -> Vec<u8> {
    format!("agent-os secret\0{name}\0{version}").into_bytes()
}
