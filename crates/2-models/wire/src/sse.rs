//! Server-sent events, found in a stream of bytes however it is cut. Nothing is written anew: a frame carries the bytes that
//! it came in, so that a stream is passed on byte for byte, comments and line endings included.
//!
//! The field names and line ends are those of the HTML standard, section 9.2.6. `id` and `retry` stay in the raw bytes only:
//! no provider's stream can be resumed.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// The longest frame. Images of a stream come as base64 in one frame each; the largest of today have some six megabytes.
pub const FRAME_MAX: usize = 16 << 20;

/// One event, or a comment, with the empty line that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub event: Option<Bytes>,
    /// The lines of `data`, joined by line feeds. Empty in a comment.
    pub data: Bytes,
    /// As it came.
    pub raw: Bytes,
}

impl Frame {
    /// Nothing for a reader: a heartbeat.
    pub fn is_comment(&self) -> bool {
        self.event.is_none() && self.data.is_empty()
    }
}

/// A frame is longer than the limit. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of the stream is longer than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

#[derive(Debug)]
pub struct Scanner {
    buffer: BytesMut,
    /// Up to here there is no end of a frame.
    scanned: usize,
    /// Where the line begins that `scanned` is in.
    line: usize,
    limit: usize,
    /// Nothing has been read yet; a byte order mark may come.
    first: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(FRAME_MAX)
    }
}

impl Scanner {
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, line: 0, limit, first: true }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. After [`TooLong`] it says so again.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, TooLong> {
        while let Some(byte) = self.buffer.get(self.scanned) {
            let ends = match byte {
                b'\n' => 1,
                // A line feed may follow and belongs to it; which one it is, the next byte tells.
                b'\r' => match self.buffer.get(self.scanned + 1) {
                    Some(b'\n') => 2,
                    Some(_) => 1,
                    None => break,
                },
                _ => {
                    self.scanned += 1;
                    continue;
                }
            };
            let empty = self.scanned == self.line;
            self.scanned += ends;
            self.line = self.scanned;
            if empty {
                return self.cut().map(Some);
            }
        }
        if self.scanned > self.limit { Err(TooLong { limit: self.limit }) } else { Ok(None) }
    }

    /// What is left when the stream ends, as a frame. It may be a whole one without its empty line, or torn: its reader
    /// knows, and no torn one reads as the end of an answer.
    pub fn end(&mut self) -> Result<Option<Frame>, TooLong> {
        self.scanned = self.buffer.len();
        if self.buffer.is_empty() { Ok(None) } else { self.cut().map(Some) }
    }

    fn cut(&mut self) -> Result<Frame, TooLong> {
        if self.scanned > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        let raw = self.buffer.split_to(self.scanned).freeze();
        self.scanned = 0;
        self.line = 0;
        let mut text = raw.clone();
        if std::mem::take(&mut self.first) && text.starts_with(b"\xef\xbb\xbf") {
            text.advance(3);
        }
        let (event, data) = fields(&text);
        Ok(Frame { event, data, raw })
    }
}

fn fields(frame: &Bytes) -> (Option<Bytes>, Bytes) {
    let mut event = None;
    let mut data: Option<Bytes> = None;
    let mut joined: Option<Vec<u8>> = None;
    for line in frame.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = frame.slice_ref(value.strip_prefix(b" ").unwrap_or(value));
        match (name, &data) {
            (b"event", _) => event = Some(value),
            (b"data", None) => data = Some(value),
            (b"data", Some(first)) => {
                let joined = joined.get_or_insert_with(|| first.to_vec());
                joined.push(b'\n');
                joined.extend_from_slice(&value);
            }
            _ => {}
        }
    }
    (event, joined.map(Bytes::from).or(data).unwrap_or_default())
}

#[cfg(test)]
mod tests;
