//! The last net under secrets: replaces every known secret value, also in its base64, hex and URL forms, in any text
//! that leaves the process. Types keep secrets out of logs first; this catches what slipped through.

use std::sync::{Arc, RwLock};

use agentos_types::hex;
use aho_corasick::{AhoCorasick, MatchKind};

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";
/// Values shorter than this would mask ordinary words; `secret set` refuses them.
pub const SECRET_BYTES_MIN: usize = 8;

/// Knows the live secrets. Cheap to clone; all clones share one set.
#[derive(Clone, Default)]
pub struct Redactor {
    matcher: Arc<RwLock<Option<Arc<AhoCorasick>>>>,
    /// Known as long as the process lives.
    kept: Arc<RwLock<Vec<String>>>,
}

impl Redactor {
    /// Adds values that stay known for ever, such as passwords of the configuration. Forgets what `know` was told.
    pub fn keep(&self, secrets: impl IntoIterator<Item = String>) {
        if let Ok(mut kept) = self.kept.write() {
            kept.extend(secrets);
        }
        self.know([]);
    }

    /// Replaces the set of known values. Called at start and after each change of a secret.
    pub fn know<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let kept = self.kept.read().map(|kept| kept.clone()).unwrap_or_default();
        let known = secrets.into_iter().map(str::to_owned).chain(kept);
        let forms: Vec<String> =
            known.filter(|secret| secret.len() >= SECRET_BYTES_MIN).flat_map(|secret| forms_of(&secret)).collect();
        let matcher = (!forms.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms).ok().map(Arc::new))
            .flatten();
        if let Ok(mut place) = self.matcher.write() {
            *place = matcher;
        }
    }

    /// The text with every known secret masked. Borrows nothing back: callers are not on the hot path.
    pub fn clean(&self, text: &str) -> String {
        match self.current() {
            None => text.to_owned(),
            Some(matcher) => masked(&matcher, text),
        }
    }

    /// Something of the text would be masked.
    pub fn would_mask(&self, text: &str) -> bool {
        self.current().is_some_and(|matcher| matcher.is_match(text))
    }

    /// Masks inside every string of a JSON value, keys included.
    pub fn clean_json(&self, value: &mut serde_json::Value) {
        if self.current().is_none() {
            return;
        }
        match value {
            serde_json::Value::String(text) => *text = self.clean(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.clean_json(item)),
            serde_json::Value::Object(fields) => {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, mut inner)| {
                        self.clean_json(&mut inner);
                        (self.clean(&key), inner)
                    })
                    .collect();
            }
            _ => {}
        }
    }

    fn current(&self) -> Option<Arc<AhoCorasick>> {
        self.matcher.read().ok().and_then(|place| place.clone())
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

fn masked(matcher: &AhoCorasick, text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for found in matcher.find_iter(text) {
        clean.push_str(text.get(from..found.start()).unwrap_or_default());
        clean.push_str(MASK);
        from = found.end();
    }
    clean.push_str(text.get(from..).unwrap_or_default());
    clean
}

/// The spellings under which a secret commonly travels.
fn forms_of(secret: &str) -> Vec<String> {
    let hex = hex::encode(secret.as_bytes());
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    // Without the quotes around it; a secret may itself begin or end with one.
    let escaped = escaped.get(1..escaped.len().saturating_sub(1)).unwrap_or_default().to_owned();
    let (percent, percent_lower) = percent_encode(secret);
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, escaped, percent, percent_lower];
    // The middle of a base64 text depends on the alignment of the secret in it; the three shifts cover all of them.
    for shift in 0..3_usize {
        let core: Vec<u8> = secret.bytes().skip((3 - shift) % 3).collect();
        let whole = core.len() / 3 * 3;
        let encoded = base64(core.get(..whole).unwrap_or_default());
        if encoded.len() >= SECRET_BYTES_MIN {
            forms.push(encoded.replace('+', "-").replace('/', "_"));
            forms.push(encoded);
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// With the digits in upper case, as RFC 3986 asks, and in lower case, as many programs write them.
fn percent_encode(text: &str) -> (String, String) {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                (char::from(byte).to_string(), char::from(byte).to_string())
            }
            _ => (format!("%{byte:02X}"), format!("%{byte:02x}")),
        })
        .unzip()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;

    #[test]
    fn masks_every_spelling() {
        let secret = "s3cr3t/Value+\"1é";
        let redactor = Redactor::default();
        redactor.know([secret]);
        let base64 = |prefix: &str| base64::engine::general_purpose::STANDARD.encode(format!("{prefix}{secret}tail"));
        for text in [
            secret.to_owned(),
            serde_json::to_string(&serde_json::json!({"a": secret})).unwrap(),
            percent_encode(secret).0,
            percent_encode(secret).1,
            hex::encode(secret.as_bytes()),
        ] {
            let text = format!("before {text} after");
            assert!(redactor.clean(&text).contains(MASK) && redactor.would_mask(&text), "{text} passed");
        }
        for prefix in ["", "a", "ab", "user:"] {
            assert!(redactor.clean(&base64(prefix)).contains(MASK), "base64 after '{prefix}' passed");
        }
        assert_eq!(redactor.clean("nothing here"), "nothing here");
        assert!(!redactor.would_mask("nothing here"));
    }

    #[test]
    fn what_is_kept_outlives_every_change() {
        let redactor = Redactor::default();
        redactor.keep(["kept-password".to_owned()]);
        redactor.know(["other-secret"]);
        redactor.know([]);
        assert_eq!(redactor.clean("kept-password other-secret"), format!("{MASK} other-secret"));
    }

    #[test]
    fn short_values_are_not_masked_and_forgotten_values_pass() {
        let redactor = Redactor::default();
        redactor.know(["abc", "long-enough-value"]);
        assert_eq!(redactor.clean("abc"), "abc");
        redactor.know([]);
        assert_eq!(redactor.clean("long-enough-value"), "long-enough-value");
    }
}
