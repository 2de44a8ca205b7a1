//! What a passing answer says of itself: usage, the end, an error within. The bytes go on untouched; the tap only looks.
//!
//! It is strict about what it must know (JSON, one object, the end) and lenient about the rest, because an answer that only
//! the client's SDK understands must pass.

use bytes::Bytes;

use crate::{Protocol, Usage, gemini, messages, sse::Frame, told::Told};

mod chat;
mod embeddings;
mod responses;

/// What a frame, or a whole answer, was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A piece of the answer.
    Content,
    /// Usage and nothing else. Who has not [`Peek::stream_usage`](crate::Peek::stream_usage) must not get it.
    Usage,
    /// The provider says that the answer is whole. A whole body that is not a stream is this.
    Terminal,
    /// The provider reports an error inside a 200: its JSON, as [`classify`](crate::classify()) reads it.
    Error(Bytes),
    /// A comment, a ping, or an event without content.
    Other,
    /// Not what the protocol says; what comes after cannot be trusted.
    Malformed,
}

#[derive(Debug)]
pub struct Tap {
    reader: Reader,
    terminal: bool,
}

#[derive(Debug)]
enum Reader {
    Chat(State),
    Responses(State),
    Embeddings(State),
    Messages(messages::tap::Tap),
    Gemini(gemini::tap::Tap),
}

/// What one answer has told so far.
#[derive(Debug, Default)]
struct State {
    usage: Option<Usage>,
    delivered: u64,
    tier: Tier,
    /// Of Chat's streams.
    choices: Choices,
}

/// Which choices of a stream have begun, and which have told their end: a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Choices {
    begun: u128,
    ended: u128,
    /// One went on behind its end: what this provider calls an end tells nothing.
    is_unreliable: bool,
}

impl Choices {
    /// One event of a choice. What is above 127 is followed by nobody, who asks for more gets its end with the terminal event.
    fn told(&mut self, index: u32, says: bool, ends: bool) {
        let Some(bit) = 1u128.checked_shl(index) else {
            self.is_unreliable = true;
            return;
        };
        self.is_unreliable |= says && self.ended & bit != 0;
        self.begun |= bit;
        if ends {
            self.ended |= bit;
        }
    }

    fn have_ended(self) -> bool {
        self.ended != 0 && self.begun == self.ended && !self.is_unreliable
    }
}

/// At which tier the provider says that it served the call, which may be another one than the client asked for.
#[derive(Debug, Default)]
pub(crate) struct Tier(Option<String>);

/// Longer than the name of any tier; what is longer is none.
const TIER_BYTES_MAX: usize = 64;

impl Tier {
    /// What is said later counts: a stream can begin with what was asked for.
    pub fn told(&mut self, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= TIER_BYTES_MAX)
            && self.0.as_deref() != Some(name)
        {
            self.0 = Some(name.to_owned());
        }
    }

    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Tap {
    pub fn new(protocol: Protocol) -> Self {
        let reader = match protocol {
            Protocol::Chat => Reader::Chat(State::default()),
            Protocol::Responses => Reader::Responses(State::default()),
            Protocol::Messages => Reader::Messages(messages::tap::Tap::default()),
            Protocol::Gemini => Reader::Gemini(gemini::tap::Tap::default()),
        };
        Self { reader, terminal: false }
    }

    pub fn embeddings() -> Self {
        Self { reader: Reader::Embeddings(State::default()), terminal: false }
    }

    /// An answer that is no stream.
    pub fn whole(&mut self, body: &[u8]) -> Seen {
        let told = match &mut self.reader {
            Reader::Chat(state) => chat::whole(state, body),
            Reader::Responses(state) => responses::whole(state, body),
            Reader::Embeddings(state) => embeddings::whole(state, body),
            Reader::Messages(tap) => tap.whole(body),
            Reader::Gemini(tap) => tap.whole(body),
        };
        self.seen(told, || Bytes::copy_from_slice(body))
    }

    pub fn frame(&mut self, frame: &Frame) -> Seen {
        if frame.data.is_empty() {
            return Seen::Other;
        }
        let told = match &mut self.reader {
            Reader::Chat(state) => chat::frame(state, frame),
            Reader::Responses(state) => responses::frame(state, frame),
            Reader::Embeddings(_) => Told::Malformed,
            Reader::Messages(tap) => tap.event(&frame.data),
            Reader::Gemini(tap) => tap.event(&frame.data),
        };
        self.seen(told, || frame.data.clone())
    }

    fn seen(&mut self, told: Told, body: impl Fn() -> Bytes) -> Seen {
        self.terminal |= told == Told::Terminal;
        match told {
            Told::Other => Seen::Other,
            Told::Usage => Seen::Usage,
            Told::Content => Seen::Content,
            Told::Terminal => Seen::Terminal,
            Told::Error => Seen::Error(body()),
            Told::Malformed => Seen::Malformed,
        }
    }

    /// As the provider counted. `None` until it has.
    pub fn usage(&self) -> Option<Usage> {
        match &self.reader {
            Reader::Chat(state) | Reader::Responses(state) | Reader::Embeddings(state) => state.usage,
            Reader::Messages(tap) => tap.usage(),
            Reader::Gemini(tap) => tap.usage(),
        }
    }

    /// What the provider has said before it has said all, for an answer that broke off: some tell the input first.
    pub fn usage_so_far(&self) -> Option<Usage> {
        match &self.reader {
            Reader::Chat(state) | Reader::Responses(state) | Reader::Embeddings(state) => state.usage,
            Reader::Messages(tap) => tap.usage_so_far(),
            Reader::Gemini(tap) => tap.usage_so_far(),
        }
    }

    /// Bytes of text, thoughts and arguments that have passed: what an answer is billed by that broke off before its usage.
    pub fn delivered_bytes(&self) -> u64 {
        match &self.reader {
            Reader::Chat(state) | Reader::Responses(state) | Reader::Embeddings(state) => state.delivered,
            Reader::Messages(tap) => tap.delivered_bytes(),
            Reader::Gemini(tap) => tap.delivered_bytes(),
        }
    }

    /// The tier at which the provider says that it served the call: what is billed. `None`: it has not said.
    pub fn tier(&self) -> Option<&str> {
        match &self.reader {
            Reader::Chat(state) | Reader::Responses(state) | Reader::Embeddings(state) => state.tier.name(),
            Reader::Messages(tap) => tap.tier(),
            // Said in a header.
            Reader::Gemini(_) => None,
        }
    }

    /// What passes tells a client that the answer is at its end, though the event that ends the stream is still to come: SDKs take
    /// a reason to stop for the end. A choice that begins only now takes it back.
    pub fn is_ending(&self) -> bool {
        self.terminal
            || match &self.reader {
                Reader::Chat(state) => state.choices.have_ended(),
                Reader::Messages(tap) => tap.is_ending(),
                // The event with the reason is the one that ends it.
                Reader::Responses(_) | Reader::Gemini(_) | Reader::Embeddings(_) => false,
            }
    }

    /// The end has been seen. A stream that ends without it is broken.
    pub fn is_terminal(&self) -> bool {
        self.terminal
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

/// A plain name: one with escapes is no name of a tier.
pub(crate) fn name_of(value: Option<&serde_json::value::RawValue>) -> Option<&str> {
    let text = value?.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains(char::is_control) && !text.contains('\\')).then_some(text)
}

/// An `error` that says something.
fn is_error(error: Option<&serde_json::value::RawValue>) -> bool {
    error.is_some_and(|error| !matches!(error.get(), "null" | "{}" | "\"\""))
}

#[cfg(test)]
mod tests;
