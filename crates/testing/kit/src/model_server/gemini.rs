//! Gemini's generateContent, as that provider writes it.

use serde_json::{Value, json};

use super::{
    chat::frame,
    said::{Said, Why},
    talk::Talk,
};

fn answer(talk: &Talk, said: &Said, parts: Vec<Value>, is_last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    let mut answer = json!({"modelVersion": talk.model, "responseId": "test"});
    if is_last {
        candidate["finishReason"] = json!(match said.why {
            Why::Stop | Why::Tools => "STOP",
            Why::Length => "MAX_TOKENS",
            Why::Filter => "SAFETY",
        });
        if let Some((input, output)) = said.usage {
            answer["usageMetadata"] =
                json!({"promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output});
        }
    }
    answer["candidates"] = json!([candidate]);
    answer
}

fn calls(said: &Said) -> Vec<Value> {
    let call = |(id, name, arguments): &(String, String, Value)| json!({"functionCall": {"id": id, "name": name, "args": arguments}});
    said.calls.iter().map(call).collect()
}

pub fn whole(talk: &Talk, said: &Said) -> Value {
    let mut parts = calls(said);
    if parts.is_empty() && said.why != Why::Filter {
        parts.push(json!({"text": said.text}));
    }
    answer(talk, said, parts, true)
}

/// The last event is the one with a reason for the end; there is no other sign of it.
pub fn events(talk: &Talk, said: &Said) -> Vec<String> {
    let mut groups: Vec<Vec<Value>> = calls(said).into_iter().map(|call| vec![call]).collect();
    if groups.is_empty() && said.why != Why::Filter {
        groups = said.pieces().into_iter().map(|piece| vec![json!({"text": piece})]).collect();
    }
    if groups.is_empty() {
        groups.push(Vec::new());
    }
    let last = groups.len().saturating_sub(1);
    groups.into_iter().enumerate().map(|(index, parts)| frame(&answer(talk, said, parts, index == last))).collect()
}

pub fn error(status: u16) -> Value {
    let word = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": format!("the script says {status}"), "status": word}})
}
