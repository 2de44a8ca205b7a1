//! Requests and answers by protocol. Who speaks Responses is a client here: its requests are read and its answers written;
//! a provider of Responses is passed through or not used.

use crate::{Answer, Ask, Dialect, Protocol, Refusal, chat, gemini, messages, responses};

/// Reads a client's request.
pub fn read_ask(protocol: Protocol, body: &[u8]) -> Result<Ask, Refusal> {
    match protocol {
        Protocol::Chat => chat::read_ask(body),
        Protocol::Responses => responses::read_ask(body),
        Protocol::Messages => messages::read_ask(body),
        Protocol::Gemini => Err(no_client(protocol)),
    }
}

/// Writes the request for a provider that knows the model by this name. Messages needs [`Ask::max_output_tokens`].
pub fn write_ask(protocol: Protocol, ask: &Ask, model: &str) -> Result<Vec<u8>, Refusal> {
    write_ask_as(protocol, Dialect::default(), ask, model)
}

pub fn write_ask_as(protocol: Protocol, dialect: Dialect, ask: &Ask, model: &str) -> Result<Vec<u8>, Refusal> {
    match protocol {
        Protocol::Chat => chat::write_ask(ask, model, dialect),
        Protocol::Responses => Err(no_provider(protocol)),
        Protocol::Messages => messages::write_ask(ask, model),
        Protocol::Gemini => gemini::write_ask(ask, model),
    }
}

/// Hints that [`write_ask`] leaves out because the provider does without being asked what they ask for. The client is told.
pub fn left_to_provider(protocol: Protocol, dialect: Dialect, ask: &Ask) -> Vec<String> {
    match protocol {
        Protocol::Chat => chat::left_to_provider(ask, dialect),
        Protocol::Responses | Protocol::Messages => Vec::new(),
        Protocol::Gemini => gemini::left_to_provider(ask),
    }
}

/// Reads a provider's whole answer.
pub fn read_answer(protocol: Protocol, body: &[u8]) -> Result<Answer, Refusal> {
    match protocol {
        Protocol::Chat => chat::read_answer(body),
        Protocol::Responses => Err(no_provider(protocol)),
        Protocol::Messages => messages::read_answer(body),
        Protocol::Gemini => gemini::read_answer(body),
    }
}

/// Writes it for the client who asked. It is refused if the client's protocol cannot hold it.
pub fn write_answer(protocol: Protocol, answer: &Answer, ask: &Ask) -> Result<Vec<u8>, Refusal> {
    match protocol {
        Protocol::Chat => chat::write_answer(answer),
        Protocol::Responses => responses::write_answer(answer, ask),
        Protocol::Messages => messages::write_answer(answer),
        Protocol::Gemini => Err(no_client(protocol)),
    }
}

fn no_client(protocol: Protocol) -> Refusal {
    Refusal::malformed("protocol", format!("'{protocol}' is spoken with providers only"))
}

pub(crate) fn no_provider(protocol: Protocol) -> Refusal {
    Refusal::malformed("protocol", format!("'{protocol}' is passed through to providers and never translated for them"))
}
