//! OpenAI's chat completions, embeddings and list of models, as that provider writes them.

use serde_json::{Value, json};

use super::{
    said::{Said, Why, vector},
    talk::Talk,
};

/// As in 1.x of the protocol's published examples.
const CREATED: u64 = 1_741_569_952;
const DIMENSIONS: usize = 8;

fn finish(said: &Said) -> &'static str {
    match said.why {
        Why::Stop => "stop",
        Why::Length => "length",
        Why::Tools => "tool_calls",
        Why::Filter => "content_filter",
    }
}

fn usage(said: &Said) -> Value {
    let Some((input, output)) = said.usage else { return Value::Null };
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

pub fn whole(talk: &Talk, said: &Said) -> Value {
    let calls: Vec<Value> = said
        .calls
        .iter()
        .map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": said.text, "refusal": null, "annotations": []});
    if !calls.is_empty() {
        message["content"] = Value::Null;
        message["tool_calls"] = Value::Array(calls);
    }
    let mut answer = json!({
        "id": "chatcmpl-test", "object": "chat.completion", "created": CREATED, "model": talk.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(said)}],
        "service_tier": "default", "system_fingerprint": "fp_test",
    });
    if said.usage.is_some() {
        answer["usage"] = usage(said);
    }
    answer
}

pub fn events(talk: &Talk, said: &Said) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-test", "object": "chat.completion.chunk", "created": CREATED, "model": talk.model,
            "system_fingerprint": "fp_test", "choices": choices,
        });
        if talk.usage_in_stream {
            chunk["usage"] = usage;
        }
        frame(&chunk)
    };
    let delta = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk(json!([choice]), Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(said.pieces().into_iter().map(|piece| delta(json!({"content": piece}), Value::Null)));
    for (index, (id, name, arguments)) in said.calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let begin = json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]});
        events.push(delta(begin, Value::Null));
        for part in halves(&arguments.to_string()) {
            let more = json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]});
            events.push(delta(more, Value::Null));
        }
    }
    events.push(delta(json!({}), json!(finish(said))));
    if talk.usage_in_stream && said.usage.is_some() {
        events.push(chunk(json!([]), usage(said)));
    }
    events.push("data: [DONE]\n\n".into());
    events
}

pub fn frame(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// So that a reader has to put arguments together.
pub fn halves(text: &str) -> [String; 2] {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let (first, second) = text.split_at(middle);
    [first.to_owned(), second.to_owned()]
}

pub fn error(status: u16) -> Value {
    let (kind, code) = match status {
        400 => ("invalid_request_error", json!("invalid_value")),
        401 => ("invalid_request_error", json!("invalid_api_key")),
        403 => ("invalid_request_error", json!("unsupported_country_region_territory")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        503 => ("server_error", json!("overloaded")),
        _ => ("server_error", Value::Null),
    };
    json!({"error": {"message": format!("the script says {status}"), "type": kind, "param": null, "code": code}})
}

/// Texts become base64 of little-endian floats where the client asks for it, as the official ones do.
pub fn embeddings(body: &Value) -> Value {
    let texts: Vec<&str> = match &body["input"] {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let dimensions = body["dimensions"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(DIMENSIONS);
    let encoded = |text: &str| {
        let vector = vector(text, dimensions);
        match body["encoding_format"] == "base64" {
            true => json!(base64(&vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())),
            false => json!(vector),
        }
    };
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": encoded(text)}))
        .collect();
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count().max(1)).sum();
    json!({
        "object": "list", "data": data, "model": body["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// By hand, because the tests of the product have no other need for it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().enumerate().fold(0_u32, |bits, (index, byte)| bits | u32::from(*byte) << (16 - 8 * index));
        for place in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or_default();
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Both families read it: OpenAI's by `object` and `created`, Anthropic's by `type`, `created_at` and `has_more`.
pub fn models() -> Value {
    let one = |name: &str| {
        json!({
            "id": name, "object": "model", "created": CREATED, "owned_by": "test", "type": "model",
            "display_name": name, "created_at": "2025-03-10T00:00:00Z",
        })
    };
    json!({"object": "list", "data": [one("small"), one("large")], "has_more": false, "first_id": "small", "last_id": "large"})
}
