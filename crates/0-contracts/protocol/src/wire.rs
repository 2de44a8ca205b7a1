//! Length-prefixed JSON: a big-endian u32 byte count, then that many bytes of one JSON object.

use agentos_types::{Code, Fault, Result, json, limits::FRAME_BYTES_MAX};
use serde::{Serialize, de::DeserializeOwned};

const PREFIX_BYTES: usize = 4;

/// One frame ready for the socket. Refuses what the other side would refuse.
pub fn encode<F: Serialize>(frame: &F) -> Result<Vec<u8>> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, frame).map_err(Fault::internal)?;
    let length = bytes.len() - PREFIX_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(too_large(length));
    }
    // The cast is exact: the limit is far below u32::MAX.
    bytes[..PREFIX_BYTES].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    Ok(bytes)
}

/// Parses the payload of one frame.
pub fn decode<F: DeserializeOwned>(payload: &[u8]) -> Result<F> {
    let malformed =
        |reason: &dyn std::fmt::Display| Fault::new(Code::FRAME_MALFORMED, format!("the frame is not valid: {reason}"));
    let frame = serde_json::from_slice(payload).map_err(|source| malformed(&source))?;
    // The parser would round it, and nobody would know.
    if !json::integers_fit(payload) {
        return Err(malformed(&"an integer is beyond 64 bits; send it as text"));
    }
    Ok(frame)
}

/// Collects bytes from a stream and hands out whole frames. Never buffers more than one maximal frame plus one read.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's payload, or `None` until more bytes come. Fails as soon as the prefix announces too much.
    pub fn next_payload(&mut self) -> Result<Option<&[u8]>> {
        let pending = self.bytes.get(self.start..).unwrap_or_default();
        let Some((prefix, rest)) = pending.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(too_large(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let begin = self.start + PREFIX_BYTES;
        self.start = begin + length;
        Ok(self.bytes.get(begin..begin + length))
    }

    /// Bytes of an unfinished frame: a peer that closes now has broken off in the middle.
    pub fn has_partial(&self) -> bool {
        self.start < self.bytes.len()
    }
}

fn too_large(length: usize) -> Fault {
    Fault::new(
        Code::FRAME_TOO_LARGE,
        format!("a frame of {length} bytes is above the limit of {FRAME_BYTES_MAX} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let frames =
            [json!({"type": "ready"}), json!({"type": "pong", "n": 7}), json!({"type": "x", "pad": "é".repeat(500)})];
        let stream: Vec<u8> = frames.iter().flat_map(|frame| encode(frame).unwrap()).collect();
        for chunk in [1, 3, 7, stream.len()] {
            let mut buffer = FrameBuffer::default();
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                buffer.extend(part);
                while let Some(payload) = buffer.next_payload().unwrap() {
                    seen.push(decode::<serde_json::Value>(payload).unwrap());
                }
            }
            assert_eq!(seen, frames);
            assert!(!buffer.has_partial());
        }
    }

    #[test]
    fn an_oversized_prefix_is_refused_before_its_body_comes() {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&u32::MAX.to_be_bytes());
        assert_eq!(buffer.next_payload().unwrap_err().code, Code::FRAME_TOO_LARGE);
    }

    #[test]
    fn garbage_is_a_coded_error() {
        let wide = br#"{"type":"pong","n":1,"more":99999999999999999999}"#;
        for bad in [&b"\xff\xfe"[..], b"[]", b"{\"type\":\"nope\"}", b"", wide] {
            assert_eq!(decode::<crate::WorkerFrame>(bad).unwrap_err().code, Code::FRAME_MALFORMED);
        }
    }
}
