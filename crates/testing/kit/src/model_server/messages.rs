//! Anthropic's messages, as that provider writes them.

use serde_json::{Value, json};

use super::{
    chat::halves,
    said::{Said, Why},
    talk::Talk,
};

fn stop_reason(said: &Said) -> &'static str {
    match said.why {
        Why::Stop => "end_turn",
        Why::Length => "max_tokens",
        Why::Tools => "tool_use",
        Why::Filter => "refusal",
    }
}

fn usage(said: &Said) -> Value {
    let (input, output) = said.usage.unwrap_or_default();
    json!({
        "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": output,
        "service_tier": "standard",
    })
}

fn message(talk: &Talk, said: &Said, content: Value, stop: Value) -> Value {
    let mut message = json!({
        "id": "msg_test", "type": "message", "role": "assistant", "model": talk.model, "content": content,
        "stop_reason": stop, "stop_sequence": null,
    });
    if said.usage.is_some() {
        message["usage"] = usage(said);
    }
    message
}

pub fn whole(talk: &Talk, said: &Said) -> Value {
    let mut content: Vec<Value> = said.calls.iter().map(|(id, name, arguments)| block(id, name, arguments)).collect();
    if content.is_empty() && said.why != Why::Filter {
        content.push(json!({"type": "text", "text": said.text}));
    }
    message(talk, said, Value::Array(content), json!(stop_reason(said)))
}

fn block(id: &str, name: &str, input: &Value) -> Value {
    // Anthropic's own ids begin so, and its clients do not care.
    json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": input})
}

pub fn events(talk: &Talk, said: &Said) -> Vec<String> {
    let begun = Said { usage: said.usage.map(|(input, _)| (input, 1)), ..said.clone() };
    let start = message(talk, &begun, json!([]), Value::Null);
    let mut events = vec![frame("message_start", json!({"message": start})), frame("ping", json!({}))];
    let mut blocks: Vec<(Value, Vec<Value>)> = Vec::new();
    for (id, name, arguments) in &said.calls {
        let deltas =
            halves(&arguments.to_string()).map(|part| json!({"type": "input_json_delta", "partial_json": part}));
        blocks.push((block(id, name, &json!({})), deltas.to_vec()));
    }
    if blocks.is_empty() && said.why != Why::Filter {
        let deltas = said.pieces().into_iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
        blocks.push((json!({"type": "text", "text": ""}), deltas));
    }
    for (index, (block, deltas)) in blocks.into_iter().enumerate() {
        events.push(frame("content_block_start", json!({"index": index, "content_block": block})));
        events.extend(
            deltas.into_iter().map(|delta| frame("content_block_delta", json!({"index": index, "delta": delta}))),
        );
        events.push(frame("content_block_stop", json!({"index": index})));
    }
    let mut last = json!({"delta": {"stop_reason": stop_reason(said), "stop_sequence": null}});
    if said.usage.is_some() {
        last["usage"] = usage(said);
    }
    events.push(frame("message_delta", last));
    events.push(frame("message_stop", json!({})));
    events
}

fn frame(name: &str, fields: Value) -> String {
    let mut whole = json!({"type": name});
    for (field, value) in fields.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    format!("event: {name}\ndata: {whole}\n\n")
}

pub fn error(status: u16) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let inner = json!({"type": kind, "message": format!("the script says {status}")});
    json!({"type": "error", "error": inner, "request_id": "req_test"})
}

pub fn error_event() -> String {
    let whole = error(529);
    format!("event: error\ndata: {whole}\n\n")
}
