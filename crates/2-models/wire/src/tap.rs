//! What a passing answer says of itself: usage, the end, an error within. The bytes go on untouched; the tap only looks.
//!
//! It is strict about what it must know (JSON, one object, the end) and lenient about the rest, because an answer that only
//! the client's SDK understands must pass.

use bytes::Bytes;

use crate::{Protocol, Usage, sse::Frame};

mod chat;
mod embeddings;
mod responses;

/// What a frame, or a whole answer, was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A piece of the answer.
    Content,
    /// Usage and nothing else. A Chat client that did not ask for it must not get it.
    Usage,
    /// The provider says that the answer is whole. A whole body that is not a stream is this.
    Terminal,
    /// The provider reports an error inside a 200: its JSON, as a body for [`crate::Class`].
    Error(Bytes),
    /// A comment, a ping, or an event without content.
    Other,
    /// Not what the protocol says; what comes after cannot be trusted.
    Malformed,
}

#[derive(Debug)]
pub struct Tap {
    reader: Reader,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    Chat,
    Responses,
    Embeddings,
}

/// What one answer has told so far.
#[derive(Debug, Default)]
struct State {
    usage: Option<Usage>,
    delivered: u64,
    terminal: bool,
}

impl Tap {
    pub fn new(protocol: Protocol) -> Self {
        let reader = match protocol {
            Protocol::Chat => Reader::Chat,
            _ => Reader::Responses,
        };
        Self { reader, state: State::default() }
    }

    pub fn embeddings() -> Self {
        Self { reader: Reader::Embeddings, state: State::default() }
    }

    /// An answer that is no stream.
    pub fn whole(&mut self, body: &[u8]) -> Seen {
        match self.reader {
            Reader::Chat => chat::whole(&mut self.state, body),
            Reader::Responses => responses::whole(&mut self.state, body),
            Reader::Embeddings => embeddings::whole(&mut self.state, body),
        }
    }

    pub fn frame(&mut self, frame: &Frame) -> Seen {
        if frame.data.is_empty() {
            return Seen::Other;
        }
        let seen = match self.reader {
            Reader::Chat => chat::frame(&mut self.state, frame),
            Reader::Responses => responses::frame(&mut self.state, frame),
            Reader::Embeddings => Seen::Malformed,
        };
        self.state.terminal |= seen == Seen::Terminal;
        seen
    }

    /// As the provider counted. `None` until it has.
    pub fn usage(&self) -> Option<Usage> {
        self.state.usage
    }

    /// Bytes of text, thoughts and arguments that have passed: an upper bound of output tokens for an answer that broke off
    /// before its usage came.
    pub fn delivered_bytes(&self) -> u64 {
        self.state.delivered
    }

    /// The end has been seen. A stream that ends without it is broken.
    pub fn is_terminal(&self) -> bool {
        self.state.terminal
    }
}

/// Bytes of a value that is text to the reader of an answer: of a string without its quotes, of anything else all.
fn size(value: Option<&serde_json::value::RawValue>) -> u64 {
    let text = value.map_or("", |value| value.get());
    match text.strip_prefix('"') {
        Some(text) => text.len().saturating_sub(1) as u64,
        None if text == "null" => 0,
        None => text.len() as u64,
    }
}

/// An `error` that says something.
fn is_error(error: Option<&serde_json::value::RawValue>) -> bool {
    error.is_some_and(|error| !matches!(error.get(), "null" | "{}" | "\"\""))
}

#[cfg(test)]
mod tests;
