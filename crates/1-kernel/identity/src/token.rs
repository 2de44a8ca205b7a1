//! The text of a token: `aos_` + base64url of 32 random bytes + `_` + 6 hex digits of checksum.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const PREFIX: &str = "aos_";
const SECRET_BYTES: usize = 32;

/// A token in the clear. Has no `Display`: printing it takes [`Token::expose`].
pub struct Token(String);

impl Token {
    pub fn generate(secret: [u8; SECRET_BYTES]) -> Self {
        let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let check = checksum(&body);
        Self(format!("{body}_{check}"))
    }

    /// `None` for anything that is not a whole token, for example one with a typing error.
    pub fn parse(text: &str) -> Option<Self> {
        // The checksum has a fixed length; base64url itself may hold underscores.
        let (body, check) = text.rsplit_once('_')?;
        let secret = URL_SAFE_NO_PAD.decode(body.strip_prefix(PREFIX)?).ok()?;
        (secret.len() == SECRET_BYTES && check == checksum(body)).then(|| Self(text.to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

fn checksum(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_character_is_noticed() {
        let token = Token::generate([0xff; SECRET_BYTES]);
        assert!(Token::parse(token.expose()).is_some());
        for index in 0..token.expose().len() {
            let mut changed: Vec<char> = token.expose().chars().collect();
            changed[index] = if changed[index] == 'x' { 'y' } else { 'x' };
            assert!(Token::parse(&changed.iter().collect::<String>()).is_none(), "position {index}");
        }
        for bad in ["", "aos_", "aos__", "_", "Bearer x"] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }
}
