//! Which requests an exact cache may answer, and what two requests must have in common to be the same one.
//!
//! The same: operation, model as it was named, headers that reach the provider, and the body but for white space and the order
//! of its outermost fields. The order further inside stays: a model writes a schema's properties, and reads tools, in the
//! order in which they stand. A field that is not in the list below may mean something that must happen each time, so that a
//! request with one is never answered from memory.

use agentos_router::{Caching, Operation};
use agentos_types::hex;
use agentos_wire::Object;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    ModelCall,
    call::name_of,
    kept::{Kind, Place},
};

/// Fields that shape an answer and do nothing else.
const CHAT: &[&str] = &[
    "model",
    "messages",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "stream",
    "stream_options",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "store",
];
const RESPONSES: &[&str] = &[
    "model",
    "input",
    "instructions",
    "temperature",
    "top_p",
    "max_output_tokens",
    "text",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "reasoning",
    "include",
    "truncation",
    "top_logprobs",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "store",
];
const MESSAGES: &[&str] = &[
    "model",
    "messages",
    "system",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "service_tier",
    "metadata",
];
const EMBEDDINGS: &[&str] = &["model", "input", "dimensions", "encoding_format", "user", "input_type", "truncate"];

/// Where the answer of such a request lies, if the cache may have one.
pub(crate) fn place_of(call: &ModelCall, caching: &Caching) -> Option<Place> {
    let known = match call.operation {
        Operation::Chat => CHAT,
        Operation::Responses => RESPONSES,
        Operation::Messages => MESSAGES,
        Operation::Embeddings => EMBEDDINGS,
        // Counting costs nothing, and no client of ours speaks the other.
        Operation::CountTokens | Operation::Gemini => return None,
    };
    let needs = &call.peek.needs;
    // What lies with a provider can change, and what it runs itself sees another world each time.
    if needs.hosted_tools || needs.stored_input {
        return None;
    }
    let body = Object::parse(&call.body).ok()?;
    let is_known = body.names().all(|name| known.contains(&name));
    let is_drawn = call.operation != Operation::Embeddings && !is_zero(&body, "temperature");
    if !is_known || leaves_something(call.operation, &body) || (is_drawn && !caching.any_temperature) {
        return None;
    }
    let id = hex::encode(&digest(call, caching.revision, &body));
    Some(Place { kind: Kind::Cache, owner: call.payer.shown(), id })
}

/// The provider is asked to store the answer, which it does once for each call. Of Responses that is what it does unasked.
fn leaves_something(operation: Operation, body: &Object) -> bool {
    let store = body.get("store").map(|value| value.get());
    match operation {
        Operation::Responses => store != Some("false"),
        _ => !matches!(store, None | Some("false" | "null")),
    }
}

fn is_zero(body: &Object, name: &str) -> bool {
    let number = body.get(name).and_then(|value| serde_json::from_str::<Value>(value.get()).ok()?.as_f64());
    number == Some(0.0)
}

fn digest(call: &ModelCall, revision: u64, body: &Object) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Each part with its length, so that no two lists of parts read the same.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(b"agent-os model cache 1");
    part(&revision.to_be_bytes());
    part(name_of(call.operation).as_bytes());
    let mut headers: Vec<_> = call.headers.iter().collect();
    headers.sort();
    for (name, value) in headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(b"body");
    let mut fields: Vec<_> = body.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    for (name, value) in fields {
        part(name.as_bytes());
        part(&without_space(value.get()));
    }
    hash.finalize().into()
}

/// JSON without the white space between its words. What stands in texts stays.
fn without_space(json: &str) -> Vec<u8> {
    let (mut kept, mut in_text, mut is_escaped) = (Vec::with_capacity(json.len()), false, false);
    for byte in json.bytes() {
        if in_text {
            in_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if byte == b'"' {
            in_text = true;
        } else if byte.is_ascii_whitespace() {
            continue;
        }
        kept.push(byte);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agentos_ledger::Payer;
    use agentos_types::{RequestId, Timestamp};
    use bytes::Bytes;

    use super::*;

    const CACHING: Caching = Caching { ttl: Duration::from_secs(1), bytes_max: 1, any_temperature: false, revision: 1 };

    fn call(operation: Operation, agent: &str, body: &str) -> ModelCall {
        let payer = Payer { agent: Some(agent.parse().unwrap()), ..Payer::default() };
        let id = RequestId::generate(Timestamp(1), 1);
        ModelCall::read(operation, Bytes::copy_from_slice(body.as_bytes()), id, payer).unwrap()
    }

    fn chat(body: &str) -> Option<Place> {
        place_of(&call(Operation::Chat, "a", body), &CACHING)
    }

    const ASKED: &str = r#"{"model":"m","messages":[{"role":"user","content":"a \" b"}],"temperature":0}"#;

    #[test]
    fn the_same_request_is_one_that_reads_the_same() {
        let place = chat(ASKED).unwrap();
        let spaced =
            r#" { "temperature" : 0 , "messages" : [ {"role":"user", "content":"a \" b"} ], "mod\u0065l":"m"}"#;
        assert_eq!(chat(spaced), Some(place.clone()));
        for other in [
            r#"{"model":"m","messages":[{"role":"user","content":"a \"  b"}],"temperature":0}"#,
            r#"{"model":"m","messages":[{"content":"a \" b","role":"user"}],"temperature":0}"#,
            r#"{"model":"m2","messages":[{"role":"user","content":"a \" b"}],"temperature":0}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a \" b"}],"temperature":0,"stream":true}"#,
        ] {
            assert_ne!(chat(other).unwrap().id, place.id, "{other}");
        }
        let owned = place_of(&call(Operation::Chat, "b", ASKED), &CACHING).unwrap();
        assert_eq!((owned.id == place.id, owned.owner.as_str()), (true, "agent:b"), "an owner is a column of its own");
        let later = Caching { revision: 2, ..CACHING };
        assert_ne!(place_of(&call(Operation::Chat, "a", ASKED), &later).unwrap().id, place.id);
        let mut with_header = call(Operation::Chat, "a", ASKED);
        with_header.headers.push(("openai-beta".into(), "x".into()));
        assert_ne!(place_of(&with_header, &CACHING).unwrap().id, place.id);
    }

    #[test]
    fn what_must_happen_each_time_is_not_cached() {
        let check = |operation, body: &str, drawn: bool, always: bool| {
            let call = call(operation, "a", body);
            let any = Caching { any_temperature: true, ..CACHING };
            let found = [place_of(&call, &CACHING).is_some(), place_of(&call, &any).is_some()];
            assert_eq!(found, [always, always || drawn], "{body}");
        };
        let said = r#""model":"m","messages":[{"role":"user","content":"x"}]"#;
        let input = r#""model":"m","input":"x""#;
        for (more, drawn, always) in [
            ("", true, false),
            (r#","temperature":0.0"#, true, true),
            (r#","temperature":0,"store":false"#, true, true),
            (r#","temperature":0,"store":true"#, false, false),
            (r#","temperature":1e-9"#, true, false),
            (r#","temperature":null"#, true, false),
            (r#","temperature":0,"surprise":1"#, false, false),
            (r#","temperature":0,"web_search_options":{}"#, false, false),
        ] {
            check(Operation::Chat, &format!("{{{said}{more}}}"), drawn, always);
        }
        check(Operation::Messages, &format!("{{{said},\"max_tokens\":5,\"temperature\":0}}"), true, true);
        check(Operation::CountTokens, &format!("{{{said},\"temperature\":0}}"), false, false);
        check(Operation::Embeddings, &format!("{{{input}}}"), true, true);
        check(Operation::Responses, &format!("{{{input},\"temperature\":0}}"), false, false);
        check(Operation::Responses, &format!("{{{input},\"temperature\":0,\"store\":false}}"), true, true);
        let before = format!("{{{input},\"temperature\":0,\"store\":false,\"previous_response_id\":\"r\"}}");
        check(Operation::Responses, &before, false, false);
    }
}
