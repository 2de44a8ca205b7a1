//! Bytes as they fit into a reply: text where it is text, base64 otherwise.

use agentos_types::limits::FRAME_BYTES_MAX;
use base64::{Engine, engine::general_purpose::STANDARD};

/// Escaped text may grow sixfold; what would not fit into a frame with room for the rest travels as base64.
const ESCAPED_BYTES_MAX: usize = FRAME_BYTES_MAX / 4 * 3;

/// `(content, encoding)` with encoding `utf-8` or `base64`.
pub(crate) fn encode(bytes: Vec<u8>) -> (String, String) {
    match String::from_utf8(bytes) {
        Ok(text) if escaped_bytes(&text) <= ESCAPED_BYTES_MAX => (text, "utf-8".into()),
        Ok(text) => (STANDARD.encode(text), "base64".into()),
        Err(binary) => (STANDARD.encode(binary.as_bytes()), "base64".into()),
    }
}

/// Length of the text inside a JSON string.
pub(crate) fn escaped_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_binary_and_text_that_would_burst_a_frame() {
        assert_eq!(encode(b"h\xc3\xa9".to_vec()), ("hé".into(), "utf-8".into()));
        assert_eq!(encode(vec![0xff]), ("/w==".into(), "base64".into()));
        let (content, encoding) = encode(vec![0x01; 2 * 1024 * 1024]);
        assert_eq!(encoding, "base64");
        assert!(content.len() < FRAME_BYTES_MAX);
    }
}
