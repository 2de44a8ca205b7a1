//! From a message of Bedrock to the event that Anthropic's own API would have sent. Letters of padding (`p`), which Bedrock puts
//! beside each chunk so that nobody guesses words by their lengths, are the only thing that is left out.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{Damaged, Message};
use crate::{Object, fields::Build};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

pub fn event(message: &Message) -> Result<Vec<u8>, Damaged> {
    match (message.kind.as_str(), message.name.as_str()) {
        ("event", "chunk") => chunk(&message.payload),
        // Something new beside the chunks, which readers of events pass over.
        ("event", name) => {
            let name = format!("amazon-bedrock-{}", word(name)?);
            let payload = Object::parse(&message.payload).map_err(|_| Damaged::Form("holds no JSON"))?;
            Ok(written(&name, &Build::kind(&name).with("payload", &payload).bytes()))
        }
        ("exception" | "error", name) => Ok(written("error", &failure(word(name)?, message))),
        _ => Err(Damaged::Form("is of a kind that there is not")),
    }
}

/// The event's own JSON, in base64, byte for byte.
fn chunk(payload: &[u8]) -> Result<Vec<u8>, Damaged> {
    let chunk: Chunk<'_> = serde_json::from_slice(payload).map_err(|_| Damaged::Form("holds no chunk"))?;
    let data = BASE64_STANDARD.decode(chunk.bytes.as_bytes()).map_err(|_| Damaged::Form("holds no base64"))?;
    let typed: Typed<'_> = serde_json::from_slice(&data).map_err(|_| Damaged::Form("holds no event"))?;
    Ok(written(word(&typed.kind)?, &data))
}

/// As Anthropic tells of an error inside of a stream, with Bedrock's word for it and all that it says.
fn failure(name: &str, message: &Message) -> Vec<u8> {
    let mut error = Object::parse(&message.payload).unwrap_or_default();
    // What is not JSON is a sentence.
    let said = message.text.clone().or_else(|| match std::str::from_utf8(&message.payload) {
        Ok(text) if error.is_empty() && !text.is_empty() => Some(text.to_owned()),
        _ => None,
    });
    error.take("type");
    if said.is_some() {
        error.take("message");
    }
    let error = Build::kind(name).maybe("message", said.as_ref()).extra(&error, &error.names().collect::<Vec<_>>());
    Build::kind("error").with("error", &error.object()).bytes()
}

/// A name that can stand in a line of its own. Everything that Bedrock or Anthropic calls an event or an error is one.
fn word(name: &str) -> Result<&str, Damaged> {
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if is_word { Ok(name) } else { Err(Damaged::Form("has a name that is none")) }
}

fn written(name: &str, data: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(name.len() + data.len() + 24);
    event.extend_from_slice(b"event: ");
    event.extend_from_slice(name.as_bytes());
    // JSON may be written over several lines; each is one of the event's.
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
        event.extend_from_slice(b"\ndata: ");
        event.extend_from_slice(line);
    }
    event.extend_from_slice(b"\n\n");
    event
}
