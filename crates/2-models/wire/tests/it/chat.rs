//! Chat, to itself and from there to others and back.

use agentos_wire::{
    Ask, Dialect, Protocol, Refusal, StreamReader, StreamWriter, left_to_provider, read_answer, read_ask, write_answer,
    write_ask, write_ask_as,
};
use serde_json::{Value, json};

use crate::corpus::{assemble, file, files, frames, json, leaves, lost};

const CHAT: Protocol = Protocol::Chat;

/// What means the same in other words: a string is one part, one stop is a list, instructions have two roles, an empty
/// content beside calls is none.
fn normal(mut body: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(fields) => {
                fields.retain(|_, field| !field.is_null());
                if fields.get("role") == Some(&json!("developer")) {
                    fields.insert("role".into(), json!("system"));
                }
                if let Some(Value::String(text)) = fields.get("content") {
                    let parts = json!([{"type": "text", "text": text}]);
                    fields.insert("content".into(), parts);
                }
                fields.values_mut().for_each(walk);
            }
            _ => {}
        }
    }
    walk(&mut body);
    if let Some(stop) = body["stop"].as_str().map(str::to_owned) {
        body["stop"] = json!([stop]);
    }
    if let Some(max) = body.as_object_mut().and_then(|body| body.remove("max_tokens")) {
        body["max_completion_tokens"] = max;
    }
    body
}

#[test]
fn a_request_comes_back_whole() {
    for (name, body) in files("chat/asks") {
        let ask = read_ask(CHAT, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = write_ask(CHAT, &ask, &ask.model).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut wanted = normal(json(&body));
        if ask.stream {
            // Usage is always asked for, and streams that are read have no need of padding.
            wanted["stream_options"] = json!({"include_usage": true});
        }
        assert_eq!(normal(json(&written)), wanted, "{name}");
        let again = read_ask(CHAT, &written).unwrap();
        assert_eq!(write_ask(CHAT, &again, &ask.model).unwrap(), written, "{name}: twice is once");
        assert!(left_to_provider(CHAT, Dialect::Current, &ask).is_empty(), "{name}");
    }
}

#[test]
fn values_keep_their_spelling_and_schemas_their_order() {
    let ask = read_ask(CHAT, &file("chat/asks", "tools")).unwrap();
    let written = String::from_utf8(write_ask(CHAT, &ask, "m").unwrap()).unwrap();
    let (zone, city) = (written.find("\"zone\""), written.find("\"city\": {"));
    assert!(zone.is_some() && zone < city, "{written}");
}

#[test]
fn the_limit_has_the_name_that_the_provider_knows() {
    let ask = read_ask(CHAT, &file("chat/asks", "images")).unwrap();
    let limit = |dialect, name| json(&write_ask_as(CHAT, dialect, &ask, "m").unwrap())[name].clone();
    assert_eq!(limit(Dialect::Current, "max_completion_tokens"), json!(50));
    assert_eq!(limit(Dialect::Compatible, "max_tokens"), json!(50));
    let two = br#"{"model":"m","messages":[],"max_tokens":1,"max_completion_tokens":2}"#;
    assert!(read_ask(CHAT, two).unwrap_err().to_string().contains("max_tokens"));
}

/// What Messages has no place for. All other files lose nothing.
const REFUSED_BY_MESSAGES: &[(&str, &str)] = &[
    ("text", "presence_penalty"),
    ("system_later", "messages["),
    ("system_named", "messages[0]"),
    ("images", "messages[0].content[1].detail"),
    ("json_object", "response_format"),
    ("reasoning", "thinking"),
    ("cache", "prompt_cache_key"),
    ("logprobs", "n"),
    ("vendor", "service_tier"),
    ("files", "messages[0].content[0]"),
    ("custom_tool", "tool"),
    ("old_functions", "function"),
    ("signed_call", "messages[1]"),
    ("parallel_tools", "messages[1].content[2].arguments"),
];

#[test]
fn every_field_arrives_in_messages_or_is_refused_by_name() {
    for (name, body) in files("chat/asks") {
        let mut ask = read_ask(CHAT, &body).unwrap();
        ask.max_output_tokens.get_or_insert(100);
        let refused = REFUSED_BY_MESSAGES.iter().find(|(refused, _)| *refused == name);
        match (write_ask(Protocol::Messages, &ask, &ask.model), refused) {
            (Err(Refusal::NoPlace { field, .. } | Refusal::Malformed { field, .. }), Some((_, wanted))) => {
                assert!(field.contains(wanted), "{name}: {field}");
            }
            (Ok(written), None) => {
                let mut lost = lost(&json(&body), &json(&written));
                let word = |path: &str| {
                    [".role", ".type", ".tool_choice", ".include_usage", ".include_obfuscation", ".parallel_tool_calls"]
                        .iter()
                        .any(|word| path.ends_with(word))
                };
                // A call's arguments are an object there, the name of a schema has no use, and all schemas are strict.
                lost.retain(|(path, _)| {
                    !word(path)
                        && !path.ends_with(".arguments")
                        && !path.ends_with("_schema.name")
                        && !path.ends_with("_schema.strict")
                });
                assert!(lost.is_empty(), "{name}: {lost:?}");
            }
            (written, refused) => panic!("{name}: {written:?} {refused:?}"),
        }
    }
}

#[test]
fn each_field_alone_arrives_or_is_refused_by_its_name() {
    for (name, body) in files("chat/asks") {
        let body = json(&body);
        for (field, value) in body.as_object().unwrap() {
            let mut alone = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 7});
            if matches!(field.as_str(), "model" | "messages" | "max_completion_tokens" | "max_tokens") {
                continue;
            }
            alone[field] = value.clone();
            let ask = read_ask(CHAT, alone.to_string().as_bytes()).unwrap();
            for to in [Protocol::Messages, Protocol::Gemini] {
                match write_ask(to, &ask, "m") {
                    Err(Refusal::NoPlace { field: found, .. } | Refusal::Malformed { field: found, .. }) => {
                        assert!(found.contains(field.as_str()), "{name}: {to}: {field}: {found}");
                    }
                    Err(error) => panic!("{name}: {to}: {error}"),
                    Ok(written) => {
                        let bare =
                            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 7});
                        let bare = write_ask(to, &read_ask(CHAT, bare.to_string().as_bytes()).unwrap(), "m").unwrap();
                        let told = left_to_provider(to, Dialect::Current, &ask).contains(field);
                        // Streams of the others have usage always, a choice without tools says nothing, and the stream is
                        // in the path of Gemini's request.
                        let nothing = matches!(
                            field.as_str(),
                            "stream" | "stream_options" | "tool_choice" | "parallel_tool_calls"
                        );
                        assert!(written != bare || told || nothing, "{name}: {to}: {field} is gone");
                    }
                }
            }
        }
    }
}

/// What Chat has no place for.
const REFUSED_OF_MESSAGES: &[(&str, &str)] = &[
    ("thinking_budget", "thinking.display"),
    ("parallel_tools", "messages[2].content[0].image"),
    ("adaptive", "thinking.display"),
    ("effort_only", "output_config"),
    ("future", "smell"),
    ("own_tools", "service_tier"),
    ("thinking", "thinking"),
    ("text", "top_k"),
];

#[test]
fn every_field_of_messages_arrives_or_is_refused_or_left_to_the_provider_by_name() {
    for (name, body) in files("messages/asks") {
        let ask = read_ask(Protocol::Messages, &body).unwrap();
        match write_ask(CHAT, &ask, &ask.model) {
            Err(Refusal::NoPlace { field, .. }) => {
                let value = field.rsplit(['.', ':']).next().unwrap().trim();
                let known =
                    REFUSED_OF_MESSAGES.iter().any(|(refused, wanted)| *refused == name && field.contains(wanted));
                assert!(known || String::from_utf8_lossy(&body).contains(value), "{name}: {field}");
                assert!(known, "{name}: {field}");
            }
            Err(error) => panic!("{name}: {error}"),
            Ok(written) => {
                let left = left_to_provider(CHAT, Dialect::Current, &ask);
                let mut lost = lost(&json(&body), &json(&written));
                lost.retain(|(path, _)| {
                    let hint = path.contains(".cache_control.") && !left.is_empty();
                    let word = [
                        ".role",
                        ".type",
                        ".tool_choice",
                        ".is_error",
                        ".media_type",
                        ".budget_tokens",
                        ".disable_parallel_tool_use",
                    ];
                    let input = path.contains(".input.") || path.contains(".input[");
                    !hint && !input && !word.iter().any(|word| path.ends_with(word))
                });
                assert!(lost.is_empty(), "{name}: {lost:?}\n{}", String::from_utf8_lossy(&written));
            }
        }
    }
}

#[test]
fn a_call_that_failed_says_so() {
    let content = |result: &str| {
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": result}]}]});
        let ask = read_ask(Protocol::Messages, body.to_string().as_bytes()).unwrap();
        json(&write_ask(CHAT, &ask, "m").unwrap())["messages"][0]["content"].clone()
    };
    assert_eq!(content("no such city"), "Error: no such city");
    assert_eq!(content("error 5"), "error 5");
}

#[test]
fn thoughts_under_two_names_are_told_once() {
    let said = |second: &str| {
        let body = json!({"choices": [{"finish_reason": "stop", "message": {
            "content": "x", "reasoning_content": "a", "reasoning": second}}]});
        let answer = read_answer(CHAT, body.to_string().as_bytes()).unwrap();
        json(&write_answer(CHAT, &answer, &Ask::default()).unwrap())
    };
    assert_eq!(said("a")["choices"][0]["message"]["reasoning_content"], "a");
    assert_eq!(said("a").get("agent_os"), None);
    assert_eq!(said("b")["agent_os"]["extra"]["choices[0].message.reasoning"], "b");
}

#[test]
fn hints_are_written_where_they_are_taken_and_told_where_not() {
    let ask = read_ask(Protocol::Messages, &file("messages/asks", "cache")).unwrap();
    let wide = String::from_utf8(write_ask_as(CHAT, Dialect::Compatible, &ask, "m").unwrap()).unwrap();
    let left = left_to_provider(CHAT, Dialect::Current, &ask);
    assert_eq!(wide.matches("cache_control").count(), left.len(), "{left:?} {wide}");
    assert!(left_to_provider(CHAT, Dialect::Compatible, &ask).is_empty());
}

#[test]
fn an_answer_comes_back_whole() {
    for (name, body) in files("chat/answers") {
        let answer = read_answer(CHAT, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = write_answer(CHAT, &answer, &Ask::default()).unwrap();
        let (mut wanted, mut found) = (json(&body), json(&written));
        let notes = found.as_object_mut().unwrap().remove("agent_os").unwrap_or_default();
        // What is new stands in the notes.
        for (field, value) in notes["extra"].as_object().into_iter().flatten() {
            let place = match field.strip_prefix("choices[0].") {
                Some(field) => wanted["choices"][0].as_object_mut().unwrap().remove(field),
                None => wanted.as_object_mut().unwrap().remove(field),
            };
            assert_eq!(place.as_ref(), Some(value), "{name}: {field}");
        }
        assert_eq!(leaves(&normal(found)).len(), leaves(&normal(wanted.clone())).len(), "{name}");
        assert_eq!(normal(json(&written))["choices"], normal(wanted.clone())["choices"], "{name}");
        assert_eq!(json(&written)["usage"], wanted["usage"], "{name}");
    }
}

#[test]
fn every_field_of_an_answer_arrives_in_messages() {
    for (name, body) in files("chat/answers") {
        let answer = read_answer(CHAT, &body).unwrap();
        let written = match write_answer(Protocol::Messages, &answer, &Ask::default()) {
            Ok(written) => json(&written),
            Err(Refusal::Malformed { field, .. }) => {
                let wanted = if name == "tools" { "content[1]" } else { "choices" };
                assert!(matches!(name.as_str(), "tools" | "logprobs") && field.contains(wanted), "{name}: {field}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let mut lost = lost(&json(&body), &written);
        let word = |path: &str| {
            [".role", ".object", ".finish_reason", ".index", ".type", "_tokens"].iter().any(|word| path.ends_with(word))
        };
        lost.retain(|(path, _)| !word(path));
        assert!(lost.is_empty(), "{name}: {lost:?} {written}");
    }
}

/// Puts a stream together as the official SDKs do. An `Err` is what an SDK would raise, or what is missing.
pub fn put_together(stream: &[u8]) -> Result<Value, String> {
    let mut answer = json!({"choices": [], "extra": {}});
    for frame in frames(stream, stream.len().max(1)) {
        if frame.is_comment() {
            continue;
        }
        if frame.data == "[DONE]" {
            return Ok(answer);
        }
        let chunk = json(&frame.data);
        if !chunk["error"].is_null() {
            return Err(chunk["error"].to_string());
        }
        for field in ["id", "model", "created", "usage"] {
            if !chunk[field].is_null() {
                answer[field] = chunk[field].clone();
            }
        }
        for (name, value) in chunk["agent_os"]["extra"].as_object().into_iter().flatten() {
            answer["extra"][name] = value.clone();
        }
        for choice in chunk["choices"].as_array().unwrap() {
            let at = choice["index"].as_u64().unwrap() as usize;
            let choices = answer["choices"].as_array_mut().unwrap();
            while choices.len() <= at {
                choices.push(json!({"calls": []}));
            }
            grow(&mut choices[at], choice);
        }
    }
    Err("cut".to_owned())
}

fn grow(said: &mut Value, choice: &Value) {
    let delta = &choice["delta"];
    for field in ["content", "refusal", "reasoning_content"] {
        if let Some(text) = delta[field].as_str().filter(|text| !text.is_empty()) {
            said[field] = json!(format!("{}{text}", said[field].as_str().unwrap_or_default()));
        }
    }
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        let calls = said["calls"].as_array_mut().unwrap();
        let at = call["index"].as_u64().map_or(calls.len(), |at| at as usize);
        if calls.len() <= at {
            calls.push(json!({"id": call["id"], "name": call["function"]["name"], "arguments": ""}));
        }
        let more = call["function"]["arguments"].as_str().unwrap_or_default();
        calls[at]["arguments"] = json!(format!("{}{more}", calls[at]["arguments"].as_str().unwrap()));
    }
    if !choice["finish_reason"].is_null() {
        said["finish_reason"] = choice["finish_reason"].clone();
    }
}

/// From one protocol into another one.
pub fn through(from: Protocol, to: Protocol, stream: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let ask = Ask { stream_usage: true, ..Ask::default() };
    let (mut reader, mut writer) = (StreamReader::new(from), StreamWriter::new(to, &ask));
    let mut out = Vec::new();
    for frame in frames(stream, size) {
        reader.frame(&frame)?.iter().for_each(|delta| out.extend(writer.delta(delta)));
    }
    reader.end()?.iter().for_each(|delta| out.extend(writer.delta(delta)));
    Ok(out)
}

const BROKEN: &[(&str, &str)] = &[
    ("cut", "without '[DONE]'"),
    ("no_reason", "before a reason"),
    ("error", "The server had an error"),
    ("error_reason", "finish_reason"),
];

#[test]
fn a_stream_comes_back_whole_however_it_is_cut() {
    for (name, stream) in files("chat/streams") {
        if BROKEN.iter().any(|(broken, _)| *broken == name) || name.starts_with("tools_") {
            continue;
        }
        let mut wanted = put_together(&stream).unwrap();
        wanted["extra"] = Value::Null;
        for size in [1, 2, 3, 7, 64, stream.len()] {
            let written = through(CHAT, CHAT, &stream, size).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut found = put_together(&written).unwrap();
            let extra = found["extra"].take();
            assert_eq!(found, wanted, "{name} in pieces of {size}");
            let news = String::from_utf8_lossy(&stream).contains("fp_1");
            assert_eq!(extra["system_fingerprint"].as_str(), news.then_some("fp_1"), "{name}");
        }
    }
    let choices = put_together(&through(CHAT, CHAT, &file("chat/streams", "choices"), 9).unwrap()).unwrap();
    assert_eq!(choices["extra"]["choices[0].logprobs"]["content"][0]["token"], "a");
}

#[test]
fn calls_are_told_apart_however_a_server_numbers_them() {
    for name in ["tools_unnumbered", "tools_all_zero"] {
        let found = put_together(&through(CHAT, CHAT, &file("chat/streams", name), 64).unwrap()).unwrap();
        let calls = &found["choices"][0]["calls"];
        assert_eq!(calls[0], json!({"id": "c1", "name": "a", "arguments": "{}"}), "{name}");
        assert_eq!(calls[1], json!({"id": "c2", "name": "b", "arguments": "{\"y\":1}"}), "{name}");
    }
}

#[test]
fn a_broken_stream_has_no_end() {
    for (name, why) in BROKEN {
        for to in [CHAT, Protocol::Messages, Protocol::Responses] {
            let error = through(CHAT, to, &file("chat/streams", name), 5).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
    let whole = file("chat/streams", "tools");
    for end in 0..whole.len() - 2 {
        let error = through(CHAT, CHAT, &whole[..end], 64);
        assert!(error.is_err() || whole[..end].ends_with(b"[DONE]"), "cut behind {end} bytes");
    }
}

#[test]
fn a_stream_says_in_messages_what_it_said() {
    for name in ["text", "tools", "reasoning", "refusal", "crlf"] {
        let stream = file("chat/streams", name);
        let said = put_together(&stream).unwrap();
        let found = assemble(&through(CHAT, Protocol::Messages, &stream, 3).unwrap()).unwrap();
        let missing = lost(&said["choices"][0]["content"], &found["content"]);
        assert!(missing.is_empty(), "{name}: {missing:?}");
        assert_eq!(
            found["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use").count(),
            said["choices"][0]["calls"].as_array().unwrap().len()
        );
    }
    let second = through(CHAT, Protocol::Messages, &file("chat/streams", "choices"), 64).unwrap();
    assert!(assemble(&second).unwrap_err().contains("second answer"));
}

#[test]
fn a_stream_of_messages_says_in_chat_what_it_said() {
    for (name, stream) in files("messages/streams") {
        let Ok(said) = assemble(&stream) else { continue };
        let written = through(Protocol::Messages, CHAT, &stream, 3).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = put_together(&written).unwrap();
        for block in said["content"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "text" => assert!(lost(&block["text"], &found).is_empty(), "{name}: {block}"),
                "thinking" => assert!(lost(block, &json!([found, "thinking"])).is_empty(), "{name}: {block} {found}"),
                "tool_use" => assert!(lost(&json!([block["id"], block["name"]]), &found).is_empty(), "{name}: {block}"),
                _ => assert!(lost(&block["data"], &found).is_empty(), "{name}: {block}"),
            }
        }
        assert_eq!(found["usage"]["completion_tokens"], said["usage"]["output_tokens"], "{name}");
        assert!(found["choices"][0]["finish_reason"].is_string(), "{name}");
    }
}
