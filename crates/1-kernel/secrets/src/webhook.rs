//! The signature of a webhook, the same for all that the product sends: `t=<unix seconds>,v1=<hex HMAC-SHA-256 of "t.body">`,
//! a form that receivers already know. The receiver checks origin and age by it.

use agentos_types::{Fault, Result, hex};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Name of the header that carries it.
pub const WEBHOOK_SIGNATURE_HEADER: &str = "agentos-signature";

/// Value of the header for a body that is sent at this second.
pub fn webhook_signature(secret: &SecretString, seconds: i64, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(Fault::internal)?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    Ok(format!("t={seconds},v1={}", hex::encode(&mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_plain_hmac_sha256() {
        // Computed independently: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'topsecret1'
        let expected = "t=1700000000,v1=116d889ed3000dcc97cb8707544c338db45539b062029c3c335300088798bd10";
        assert_eq!(webhook_signature(&"topsecret1".into(), 1_700_000_000, r#"{"a":1}"#).unwrap(), expected);
    }
}
