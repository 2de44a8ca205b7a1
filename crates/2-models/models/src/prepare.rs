//! A request as a target wants it: untouched but for what must be changed where both sides speak one protocol, else written
//! anew. The key is put in here and held nowhere.

use std::borrow::Cow;

use agentos_router::{Kind, Operation, Target};
use agentos_secrets::SecretString;
use agentos_types::{Code, Fault, Result, Timestamp};
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
    addresses::Addresses,
    bedrock::invocation,
    call::{ModelCall, peeked},
    place::{ToSign, address_of, key_headers},
    upstream::{EVENT_STREAM, Outgoing},
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
    let prepared = in_its_protocol(call, target, max, prefill)?;
    if target.kind != Kind::Bedrock || prepared.protocol != Protocol::Messages {
        return Ok(prepared);
    }
    let betas = call.headers.iter().find(|(name, _)| name == "anthropic-beta").map(|(_, value)| value.as_str());
    Ok(Prepared { body: invocation(&prepared.body, betas)?, ..prepared })
}

fn in_its_protocol(
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
        Kind::Openai | Kind::Azure | Kind::Bedrock => Dialect::Current,
        _ => Dialect::Compatible,
    }
}

/// The prepared body with its place and the provider's key.
pub(crate) fn outgoing(
    addresses: &Addresses,
    call: &ModelCall,
    target: &Target,
    prepared: &Prepared,
    key: Option<&SecretString>,
    at: Timestamp,
) -> Result<Outgoing> {
    let url = addresses.checked(address_of(call.operation, target, prepared.protocol, prepared.is_stream)?)?;
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = match (prepared.is_stream, target.kind, prepared.protocol) {
        (false, ..) => "application/json",
        (true, Kind::Bedrock, Protocol::Messages) => EVENT_STREAM,
        (true, ..) => "text/event-stream",
    };
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
    let mut outgoing = Outgoing::new(Method::POST, url, headers, &target.key_group);
    outgoing.body = prepared.body.clone();
    if let Some(key) = key {
        put_key(&mut outgoing, (target.kind, target.sigv4_region.as_deref()), key, at)?;
    }
    Ok(outgoing)
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

/// `to`: kind and region of the provider.
pub(crate) fn put_key(
    outgoing: &mut Outgoing,
    to: (Kind, Option<&str>),
    key: &SecretString,
    at: Timestamp,
) -> Result<()> {
    let request = ToSign { method: outgoing.method.as_str(), url: &outgoing.url, body: &outgoing.body, at };
    for (name, value) in key_headers(to.0, to.1, key, request)? {
        // Not in the message: the value is a secret.
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Fault::new(Code::SECRET_KEY_UNUSABLE, "the provider's key holds what no header can"))?;
        value.set_sensitive(true);
        outgoing.headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}
