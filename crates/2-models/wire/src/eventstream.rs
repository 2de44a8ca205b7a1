//! `application/vnd.amazon.eventstream`: the frames in which Bedrock sends the events of a model. Here they become the
//! server-sent events that the rest of this crate reads, so that nobody else knows of them.
//!
//! A message is `total length, headers length, CRC of both, headers, payload, CRC of all before`, big-endian, with CRC-32 as
//! in gzip. Both sums are checked: a damaged message is the end of the stream, never a guess at the next one.

mod crc32;
mod message;
mod sse;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crc32::crc32;
pub use message::Message;

/// Lengths and their sum.
const PRELUDE: usize = 12;
/// A message without headers and payload.
const MESSAGE_MIN: usize = PRELUDE + 4;
/// Of the format's own rules: 24 MiB of payload hold the longest event of [`crate::sse`] as base64.
const PAYLOAD_MAX: usize = 24 << 20;
const HEADERS_MAX: usize = 128 << 10;

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    TooLong,
    Checksum,
    Form(&'static str),
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damaged::TooLong => write!(f, "a message of the event stream is longer than {PAYLOAD_MAX} bytes"),
            Damaged::Checksum => f.write_str("a message of the event stream has a wrong checksum"),
            Damaged::Form(what) => write!(f, "a message of the event stream {what}"),
        }
    }
}

impl std::error::Error for Damaged {}

/// Messages, found in a stream of bytes however it is cut.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    damaged: Option<Damaged>,
}

impl Decoder {
    /// What the messages in these bytes say, as server-sent events; empty if no message is whole yet. What stood before a
    /// damaged message is given first; the damage is told by the next call.
    pub fn events(&mut self, bytes: &[u8]) -> Result<Bytes, Damaged> {
        self.buffer.extend_from_slice(bytes);
        let mut events = BytesMut::new();
        loop {
            match self.next_message().and_then(|message| message.map(|message| sse::event(&message)).transpose()) {
                Ok(Some(event)) => events.extend_from_slice(&event),
                Ok(None) => return Ok(events.freeze()),
                Err(damaged) if events.is_empty() => return Err(damaged),
                Err(damaged) => {
                    self.damaged = Some(damaged);
                    return Ok(events.freeze());
                }
            }
        }
    }

    /// After an `Err` it says so again.
    pub fn next_message(&mut self) -> Result<Option<Message>, Damaged> {
        if let Some(damaged) = self.damaged {
            return Err(damaged);
        }
        let next = self.cut();
        self.damaged = next.as_ref().err().copied();
        next
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The connection may not end here: there is a part of a message, or something that is none.
    pub fn is_torn(&self) -> bool {
        self.damaged.is_some() || !self.buffer.is_empty()
    }

    fn cut(&mut self) -> Result<Option<Message>, Damaged> {
        let Some((prelude, _)) = self.buffer.split_first_chunk::<PRELUDE>() else { return Ok(None) };
        let (total, headers) = (number(prelude, 0), number(prelude, 4));
        // Before the length is waited for: a damaged one would let the stream hang.
        if prelude.get(..8).map(crc32) != u32::try_from(number(prelude, 8)).ok() {
            return Err(Damaged::Checksum);
        }
        if headers > HEADERS_MAX || total > MESSAGE_MIN + headers + PAYLOAD_MAX {
            return Err(Damaged::TooLong);
        }
        if total < MESSAGE_MIN + headers {
            return Err(Damaged::Form("is shorter than its own head"));
        }
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(total).freeze();
        let sum = whole.split_off(total - 4);
        if u32::try_from(number(&sum, 0)).ok() != Some(crc32(&whole)) {
            return Err(Damaged::Checksum);
        }
        whole.advance(PRELUDE);
        let payload = whole.split_off(headers);
        Message::read(&whole, payload).map(Some)
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    // Four bytes fit on every machine that this runs on.
    four.map_or(0, |four| usize::try_from(u32::from_be_bytes(*four)).unwrap_or(usize::MAX))
}
