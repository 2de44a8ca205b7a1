//! A request as a target wants it: untouched but for what must be changed where both sides speak one protocol, else written
//! anew. The key is put in here and held nowhere.

use std::{borrow::Cow, sync::Arc};

use agentos_dialer::CheckedUrl;
use agentos_router::{Kind, Operation, Target};
use agentos_secrets::{ExposeSecret, SecretString};
use agentos_types::{Code, Fault, Result};
use agentos_wire::{
    Ask, Changes, Dialect, Object, Part, Peek, Protocol, Refusal, Role, Turn,
    emulate::{Emulation, emulate},
    left_to_provider, read_ask, read_count, splice, write_ask_as, write_count,
};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};

use crate::{
    call::{ModelCall, peeked},
    upstream::Outgoing,
};

/// The version of its API that Anthropic's providers are asked in, if the client names none.
pub(crate) const ANTHROPIC_VERSION: &str = "2023-06-01";

/// A body for the provider, and how its answer comes back.
pub(crate) struct Prepared {
    pub body: Bytes,
    pub protocol: Protocol,
    /// The provider is asked for events.
    pub is_stream: bool,
    pub translation: Option<Translation>,
    /// Fields that this model must not see, by the operator's word.
    pub dropped: Vec<String>,
}

/// What is needed to bring an answer into the client's protocol.
#[derive(Clone)]
pub(crate) struct Translation {
    pub ask: Ask,
    pub emulation: Option<Emulation>,
    /// Hints that the provider does without.
    pub left: Vec<String>,
}

/// `max`: a limit of the output that has to be written, because a budget ends there. `prefill`: the beginning of the answer, which
/// the model writes on from.
pub(crate) fn prepare(
    call: &ModelCall,
    target: &Target,
    max: Option<u64>,
    prefill: Option<&str>,
) -> Result<Prepared, Refusal> {
    let protocol = target.protocol;
    let Reduced { body, peek, dropped } = without(call, &target.drop_fields)?;
    let dialect = dialect_of(target.kind);
    let is_stream = call.is_stream() && !target.is_whole_only;
    let lacks = target.emulate;
    let is_emulated = lacks.tools || lacks.json_schema || lacks.json_object;
    let is_plain = protocol == call.protocol() && !is_emulated && is_stream == call.is_stream() && prefill.is_none();
    if is_plain || call.operation == Operation::Embeddings {
        let changes = Changes { model: &target.model, stream_usage: true, max_output_tokens: max, dialect };
        let body = splice(&body, &peek, &changes).into();
        return Ok(Prepared { body, protocol, is_stream, translation: None, dropped });
    }
    if call.operation == Operation::CountTokens {
        let body = write_count(&read_count(&body)?, &target.model)?.into();
        return Ok(Prepared { body, protocol, is_stream: false, translation: None, dropped });
    }
    let mut ask = read_ask(call.protocol(), &body)?;
    let wants_usage = ask.stream_usage;
    if let Some(prefill) = prefill {
        let parts = vec![Part::text(prefill)];
        ask.turns.push(Turn { role: Role::Assistant, parts, extra: Object::default() });
    }
    ask.stream = is_stream;
    // Asked for in any case; the writer of the client's stream leaves it out where nobody wants it.
    ask.stream_usage = is_stream;
    if max.is_some() || (protocol == Protocol::Messages && ask.max_output_tokens.is_none()) {
        ask.max_output_tokens = max.or(target.output_max).or(ask.max_output_tokens);
    }
    let emulated = if is_emulated { emulate(&ask, lacks)? } else { None };
    let (sent, emulation) = match &emulated {
        Some((sent, emulation)) => (sent, Some(emulation.clone())),
        None => (&ask, None),
    };
    let body = write_ask_as(protocol, dialect, sent, &target.model)?.into();
    let left = left_to_provider(protocol, dialect, sent);
    ask.stream = call.is_stream();
    ask.stream_usage = wants_usage;
    Ok(Prepared { body, protocol, is_stream, translation: Some(Translation { ask, emulation, left }), dropped })
}

/// The body without the fields that the operator takes from this model.
struct Reduced<'c> {
    body: Cow<'c, [u8]>,
    peek: Cow<'c, Peek>,
    /// Those that were in it.
    dropped: Vec<String>,
}

fn without<'c>(call: &'c ModelCall, fields: &[String]) -> Result<Reduced<'c>, Refusal> {
    let untouched =
        || Reduced { body: Cow::Borrowed(&call.body), peek: Cow::Borrowed(&call.peek), dropped: Vec::new() };
    if fields.is_empty() {
        return Ok(untouched());
    }
    let mut object = Object::parse(&call.body).map_err(|error| Refusal::malformed("body", error))?;
    let dropped: Vec<String> = fields.iter().filter(|field| object.take(field).is_some()).cloned().collect();
    if dropped.is_empty() {
        return Ok(untouched());
    }
    let body = serde_json::to_vec(&object).map_err(|error| Refusal::malformed("body", error))?;
    let peek = Cow::Owned(peeked(call.operation, &body)?);
    Ok(Reduced { body: Cow::Owned(body), peek, dropped })
}

fn dialect_of(kind: Kind) -> Dialect {
    match kind {
        Kind::Openai | Kind::Azure => Dialect::Current,
        _ => Dialect::Compatible,
    }
}

/// The prepared body with its place and the provider's key.
pub(crate) fn outgoing(
    call: &ModelCall,
    target: &Target,
    prepared: &Prepared,
    key: Option<&SecretString>,
) -> Result<Outgoing> {
    let url = CheckedUrl::parse(&url_of(call.operation, target, prepared))?;
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if prepared.is_stream { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("agent-os/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in call.headers.iter().filter(|(name, _)| is_for(target.kind, name)) {
        put(&mut headers, name, value)?;
    }
    if target.kind == Kind::Anthropic && !headers.contains_key("anthropic-version") {
        headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
    }
    for (name, value) in target.headers.iter() {
        put(&mut headers, name, value)?;
    }
    if let Some(key) = key {
        put_key(&mut headers, target.kind, key)?;
    }
    Ok(Outgoing {
        method: Method::POST,
        url,
        headers,
        body: prepared.body.clone(),
        key_group: target.key_group.clone(),
        idempotency_key: None,
        sent: Arc::default(),
    })
}

/// The base of a provider is written with its version where its own documents do so, and without it elsewhere.
fn url_of(operation: Operation, target: &Target, prepared: &Prepared) -> String {
    let base = target.base_url.trim_end_matches('/');
    let path = match (prepared.protocol, operation) {
        (_, Operation::Embeddings) => "/embeddings".to_owned(),
        (Protocol::Chat, _) => "/chat/completions".to_owned(),
        (Protocol::Responses, _) => "/responses".to_owned(),
        (Protocol::Messages, Operation::CountTokens) => format!("{}/messages/count_tokens", version(base, "/v1")),
        (Protocol::Messages, _) => format!("{}/messages", version(base, "/v1")),
        (Protocol::Gemini, _) => {
            let verb = if prepared.is_stream { "streamGenerateContent" } else { "generateContent" };
            format!("{}/models/{}:{verb}", version(base, "/v1beta"), encoded(&target.model))
        }
    };
    let is_events = prepared.protocol == Protocol::Gemini && prepared.is_stream;
    let mut query = String::new();
    if is_events {
        query.push_str("?alt=sse");
    }
    if let Some(version) = &target.api_version {
        query.push_str(if is_events { "&api-version=" } else { "?api-version=" });
        query.push_str(&encoded(version));
    }
    format!("{base}{path}{query}")
}

fn version<'v>(base: &str, version: &'v str) -> &'v str {
    if base.ends_with(version) { "" } else { version }
}

/// One segment of a path, whatever the name holds.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A client's header that this provider knows.
fn is_for(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Anthropic => name.starts_with("anthropic-"),
        Kind::Openai | Kind::Azure => name.starts_with("openai-"),
        _ => false,
    }
}

pub(crate) fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let unusable =
        |detail: String| Fault::new(Code::CONFIG_INVALID_VALUE, format!("'{name}' cannot be a header")).detail(detail);
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unusable(error.to_string()))?;
    headers.insert(key, HeaderValue::from_str(value).map_err(|error| unusable(error.to_string()))?);
    Ok(())
}

pub(crate) fn put_key(headers: &mut HeaderMap, kind: Kind, key: &SecretString) -> Result<()> {
    let key = key.expose_secret();
    let (name, value) = match kind {
        Kind::Anthropic => ("x-api-key", key.to_owned()),
        Kind::Gemini => ("x-goog-api-key", key.to_owned()),
        Kind::Azure => ("api-key", key.to_owned()),
        Kind::Openai | Kind::Ollama | Kind::Bedrock | Kind::OpenaiCompatible => {
            ("authorization", format!("Bearer {key}"))
        }
    };
    // Not in the message: the value is a secret.
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| Fault::new(Code::SECRET_KEY_UNUSABLE, "the provider's key holds what no header can"))?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_one_segment_of_the_path() {
        assert_eq!(encoded("gemini-2.5-pro"), "gemini-2.5-pro");
        assert_eq!(encoded("../a b?c#d"), "..%2Fa%20b%3Fc%23d");
    }
}
