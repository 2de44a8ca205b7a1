//! Streams by protocol: a provider's frames become [`Delta`]s, and those become a client's events.

use crate::{
    Ask, Delta, Protocol, Refusal, WireError, chat, errors, gemini, messages, responses, sse::Frame, translate,
};

/// Reads a provider's stream.
#[derive(Debug)]
pub struct StreamReader(Reader);

#[derive(Debug)]
enum Reader {
    Chat(chat::Reader),
    Messages(messages::Reader),
    Gemini(gemini::Reader),
    None(Protocol),
}

impl StreamReader {
    pub fn new(protocol: Protocol) -> Self {
        Self(match protocol {
            Protocol::Chat => Reader::Chat(chat::Reader::default()),
            Protocol::Messages => Reader::Messages(messages::Reader::default()),
            Protocol::Gemini => Reader::Gemini(gemini::Reader::default()),
            Protocol::Responses => Reader::None(protocol),
        })
    }

    /// What a frame says. An `Err` is the end: what was read is not an answer, and nothing after it is read.
    pub fn frame(&mut self, frame: &Frame) -> Result<Vec<Delta>, Refusal> {
        match &mut self.0 {
            Reader::Chat(_) if frame.event.as_deref() == Some(b"error") => {
                Err(Refusal::malformed("event.error", String::from_utf8_lossy(&frame.data)))
            }
            Reader::Chat(reader) => reader.event(&frame.data),
            Reader::Messages(reader) => reader.event(&frame.data),
            Reader::Gemini(reader) => reader.event(&frame.data),
            Reader::None(protocol) => Err(translate::no_provider(*protocol)),
        }
    }

    /// The connection has ended. It is an `Err` if the provider had not said that the answer is whole.
    pub fn end(&mut self) -> Result<Vec<Delta>, Refusal> {
        match &mut self.0 {
            Reader::Chat(reader) => reader.end(),
            Reader::Messages(reader) => reader.end(),
            Reader::Gemini(reader) => reader.end(),
            Reader::None(protocol) => Err(translate::no_provider(*protocol)),
        }
    }
}

/// Writes a client's stream.
#[derive(Debug)]
pub struct StreamWriter(Writer);

#[derive(Debug)]
enum Writer {
    Chat(chat::Writer),
    Responses(Box<responses::Writer>),
    Messages(messages::Writer),
}

impl StreamWriter {
    /// For the client who asked. Nobody asks in Gemini's protocol; its events would be Chat's.
    pub fn new(protocol: Protocol, ask: &Ask) -> Self {
        Self(match protocol {
            Protocol::Chat | Protocol::Gemini => Writer::Chat(chat::Writer::new(ask.stream_usage)),
            Protocol::Responses => Writer::Responses(Box::new(responses::Writer::new(ask))),
            Protocol::Messages => Writer::Messages(messages::Writer::default()),
        })
    }

    /// The bytes that this step makes, which may be none.
    pub fn delta(&mut self, delta: &Delta) -> Vec<u8> {
        match &mut self.0 {
            Writer::Chat(writer) => writer.delta(delta),
            Writer::Responses(writer) => writer.delta(delta),
            Writer::Messages(writer) => writer.delta(delta),
        }
    }

    /// The bytes that end a broken stream, in place of its end.
    pub fn error(&mut self, error: &WireError) -> Vec<u8> {
        match &mut self.0 {
            Writer::Chat(writer) => writer.error(error),
            Writer::Responses(writer) => writer.error(error),
            Writer::Messages(writer) => {
                writer.error(messages::error_kind(error.status), &error.message, Some(&errors::notes(error)))
            }
        }
    }
}

/// The bytes that end a broken stream that was passed through, so that no writer knows it.
pub fn broken(protocol: Protocol, error: &WireError) -> Vec<u8> {
    StreamWriter::new(protocol, &Ask::default()).error(error)
}
