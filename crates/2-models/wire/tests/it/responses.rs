//! Responses, as clients speak it to providers of other protocols.

use std::time::Duration;

use agentos_wire::{
    Ask, Class, Object, Protocol, StreamWriter, WireError, broken, read_answer, read_ask, write_answer, write_ask,
    write_error,
};
use serde_json::{Value, json};

use crate::{
    chat::through,
    corpus::{file, files, frames, json, lost},
};

const RESPONSES: Protocol = Protocol::Responses;

#[test]
fn every_field_of_a_request_arrives_in_chat() {
    for (name, body) in files("responses/asks") {
        let ask = read_ask(RESPONSES, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = json(&write_ask(Protocol::Chat, &ask, &ask.model).unwrap());
        let answer = read_answer(Protocol::Chat, &file("chat/answers", "text")).unwrap();
        let answered = json(&write_answer(RESPONSES, &answer, &ask).unwrap());
        let mut lost = lost(&json(&body), &written);
        // Names in a memory that is not there, what the answer repeats, and kinds that have other names.
        let word = [".id", ".status", ".type", ".role", ".store"];
        lost.retain(|(path, _)| !word.iter().any(|word| path.ends_with(word)) && !path.starts_with(".metadata"));
        assert!(lost.is_empty(), "{name}: {lost:?} {written}");
        assert_eq!(answered["metadata"], json(&body).get("metadata").cloned().unwrap_or(json!({})), "{name}");
    }
}

#[test]
fn what_a_model_said_at_once_is_one_turn() {
    let ask = read_ask(RESPONSES, &file("responses/asks", "tools")).unwrap();
    let messages = json(&write_ask(Protocol::Chat, &ask, "m").unwrap())["messages"].clone();
    let roles: Vec<&str> =
        messages.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool"]);
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{\"x\": 1.0}");
}

#[test]
fn what_needs_a_memory_is_refused_by_name() {
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("background", json!(true)),
        ("store", json!(true)),
        ("truncation", json!("auto")),
        ("prompt", json!({"id": "p"})),
        ("max_tool_calls", json!(3)),
        ("include[0]", json!(["web_search_call.action.sources"])),
        ("tools[0].type: web_search", json!([{"type": "web_search"}])),
        ("input[0].type: item_reference", json!([{"type": "item_reference", "id": "x"}])),
        ("stream_options.include_obfuscation", json!({"include_obfuscation": true})),
        ("text.format.type", json!({"format": {"type": "grammar"}})),
    ] {
        let mut body = json!({"model": "m", "input": "x"});
        let name = field.split(['[', '.']).next().unwrap();
        body[name] = value;
        let error = read_ask(RESPONSES, body.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
    let unknown = br#"{"model":"m","input":"x","tomorrow":1}"#;
    let error = write_ask(Protocol::Chat, &read_ask(RESPONSES, unknown).unwrap(), "m").unwrap_err().to_string();
    assert!(error.contains("tomorrow"), "{error}");
    assert!(write_ask(RESPONSES, &Ask::default(), "m").is_err(), "no provider is translated for");
}

#[test]
fn every_field_of_an_answer_arrives() {
    for folder in ["chat/answers", "messages/answers"] {
        let from = if folder.starts_with("chat") { Protocol::Chat } else { Protocol::Messages };
        for (name, body) in files(folder) {
            let answer = read_answer(from, &body).unwrap();
            let Ok(written) = write_answer(RESPONSES, &answer, &Ask::default()) else {
                assert_eq!(name, "logprobs", "several choices");
                continue;
            };
            let written = json(&written);
            let mut lost = lost(&json(&body), &written);
            let word = [".role", ".type", ".object", ".finish_reason", ".stop_reason", ".index", "_tokens"];
            lost.retain(|(path, _)| {
                !word.iter().any(|word| path.ends_with(word)) && !path.contains(".input") && path != ".stop_sequence"
            });
            assert!(lost.is_empty(), "{folder}/{name}: {lost:?} {written}");
            assert!(written["usage"]["total_tokens"].is_u64(), "{name}");
        }
    }
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete() {
    let status = |name| {
        let answer = read_answer(Protocol::Messages, &file("messages/answers", name)).unwrap();
        let written = json(&write_answer(RESPONSES, &answer, &Ask::default()).unwrap());
        let unsaid = written["agent_os"]["extra"]["finish"].clone();
        assert_eq!(
            unsaid.as_str(),
            if name == "pause_turn" { Some("paused") } else { (name == "refusal").then_some("refused") }
        );
        (written["status"].clone(), written["incomplete_details"]["reason"].clone())
    };
    assert_eq!(status("text"), (json!("completed"), Value::Null));
    assert_eq!(status("max_tokens"), (json!("incomplete"), json!("max_output_tokens")));
    assert_eq!(status("pause_turn"), (json!("incomplete"), json!("max_output_tokens")));
    assert_eq!(status("refusal"), (json!("incomplete"), json!("content_filter")));
}

/// Puts a stream together as the official SDKs do, with their demands. An `Err` is what an SDK would raise.
fn put_together(stream: &[u8]) -> Result<Value, String> {
    let mut items: Vec<Value> = Vec::new();
    let mut last = Value::Null;
    for (number, frame) in frames(stream, stream.len().max(1)).into_iter().enumerate() {
        let event = json(&frame.data);
        let kind = event["type"].as_str().unwrap().to_owned();
        assert_eq!(frame.event.as_deref(), Some(kind.as_bytes()), "name and type are the same");
        assert_eq!(event["sequence_number"].as_u64(), Some(number as u64));
        assert_eq!(kind == "response.created", number == 0, "it begins once");
        assert!(last.is_null() || kind == "error", "{kind} behind the end");
        let at = event["output_index"].as_u64().map(|at| at as usize);
        if let (Some(at), Some(id)) = (at, event["item_id"].as_str()) {
            assert_eq!(items[at]["id"], id, "{kind}");
        }
        let part = event["content_index"].as_u64().or(event["summary_index"].as_u64()).map(|at| at as usize);
        match kind.as_str() {
            "response.created" | "response.in_progress" => assert_eq!(event["response"]["status"], "in_progress"),
            "response.output_item.added" => {
                assert_eq!(at, Some(items.len()));
                items.push(event["item"].clone());
            }
            "response.content_part.added" => {
                let content = items[at.unwrap()]["content"].as_array_mut().unwrap();
                assert_eq!(part, Some(content.len()));
                content.push(event["part"].clone());
            }
            "response.reasoning_summary_part.added" => {
                items[at.unwrap()]["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.output_text.delta" => add(&mut items[at.unwrap()]["content"][part.unwrap()]["text"], &event),
            "response.refusal.delta" => add(&mut items[at.unwrap()]["content"][part.unwrap()]["refusal"], &event),
            "response.reasoning_summary_text.delta" => {
                add(&mut items[at.unwrap()]["summary"][part.unwrap()]["text"], &event);
            }
            "response.function_call_arguments.delta" => add(&mut items[at.unwrap()]["arguments"], &event),
            "response.output_text.done" => {
                assert_eq!(items[at.unwrap()]["content"][part.unwrap()]["text"], event["text"])
            }
            "response.content_part.done" => assert_eq!(items[at.unwrap()]["content"][part.unwrap()], event["part"]),
            "response.function_call_arguments.done" => assert_eq!(items[at.unwrap()]["arguments"], event["arguments"]),
            "response.output_item.done" => {
                let item = &mut items[at.unwrap()];
                for field in ["content", "arguments", "name", "summary"] {
                    assert_eq!(item[field], event["item"][field], "what grew is what is done");
                }
                *item = event["item"].clone();
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                if kind != "response.failed" {
                    assert_eq!(event["response"]["output"].as_array().unwrap(), &items, "the whole is its items");
                }
                last = event["response"].clone();
            }
            "error" => return Err(event["error"].to_string()),
            "response.refusal.done"
            | "response.reasoning_summary_text.done"
            | "response.reasoning_summary_part.done" => {}
            other => panic!("{other}"),
        }
    }
    if last.is_null() { Err("cut".to_owned()) } else { Ok(last) }
}

fn add(text: &mut Value, event: &Value) {
    *text = json!(format!("{}{}", text.as_str().unwrap(), event["delta"].as_str().unwrap()));
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    for (from, folder) in [(Protocol::Chat, "chat/streams"), (Protocol::Messages, "messages/streams")] {
        for (name, stream) in files(folder) {
            let Ok(written) = through(from, RESPONSES, &stream, 3) else { continue };
            if name == "choices" {
                assert!(put_together(&written).unwrap_err().contains("second answer"));
                continue;
            }
            let found = put_together(&written).unwrap_or_else(|error| panic!("{folder}/{name}: {error}"));
            assert!(matches!(found["status"].as_str(), Some("completed" | "incomplete")), "{name}: {found}");
            match name.as_str() {
                "text" | "crlf" if from == Protocol::Chat => {
                    assert_eq!(found["output"][0]["content"][0]["text"], "Grüß Gott 👋🏽");
                    assert_eq!(found["usage"]["input_tokens_details"]["cached_tokens"], 4);
                }
                "tools" if from == Protocol::Chat => {
                    assert_eq!(found["output"][1]["arguments"], "{\"ort\": \"Köln\"}");
                    assert_eq!(found["output"][2]["call_id"], "c2");
                }
                "thinking" => assert!(found["output"][0]["encrypted_content"].is_string(), "{found}"),
                _ => assert_eq!(found["output"].as_array().unwrap().is_empty(), name == "empty", "{name}"),
            }
        }
    }
}

#[test]
fn thoughts_find_back_through_a_client() {
    let answer = read_answer(Protocol::Messages, &file("messages/answers", "thinking")).unwrap();
    let output = json(&write_answer(RESPONSES, &answer, &Ask::default()).unwrap())["output"].clone();
    let mut input = vec![json!({"role": "user", "content": "x"})];
    input.extend(output.as_array().unwrap().iter().cloned());
    let body =
        json!({"model": "m", "max_output_tokens": 9, "include": ["reasoning.encrypted_content"], "input": input});
    let ask = read_ask(RESPONSES, body.to_string().as_bytes()).unwrap();
    let written = json(&write_ask(Protocol::Messages, &ask, "claude").unwrap());
    let whole = json(&file("messages/answers", "thinking"))["content"].clone();
    assert_eq!(written["messages"][1]["content"], whole, "signatures included");
}

fn error() -> WireError {
    let mut facts = Object::default();
    facts.put_as("remaining_nano_usd", &5).unwrap();
    WireError {
        status: 429,
        kind: Some(Class::RateLimited),
        code: "AOS-1042".to_owned(),
        message: "too fast".to_owned(),
        retry_after: Some(Duration::from_millis(1500)),
        facts,
    }
}

#[test]
fn errors_are_told_as_each_sdk_reads_them() {
    let body = |protocol| json(&write_error(protocol, &error()));
    for protocol in [Protocol::Chat, RESPONSES] {
        let error = &body(protocol)["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("rate_limit_exceeded")));
        assert_eq!(error["message"], "too fast");
        let notes =
            json!({"code": "AOS-1042", "class": "rate_limited", "retry_after_ms": 1500, "remaining_nano_usd": 5});
        assert_eq!(error["agent_os"], notes);
    }
    let messages = body(Protocol::Messages);
    assert_eq!((&messages["type"], &messages["error"]["type"]), (&json!("error"), &json!("rate_limit_error")));
    assert_eq!(body(Protocol::Gemini)["error"]["status"], "RESOURCE_EXHAUSTED");
    let own = WireError { status: 402, kind: None, ..error() };
    let own = json(&write_error(Protocol::Chat, &own))["error"].clone();
    assert_eq!((&own["type"], &own["code"]), (&json!("insufficient_quota"), &json!("AOS-1042")));
}

#[test]
fn a_broken_stream_ends_with_an_error_and_no_end() {
    for protocol in [Protocol::Chat, RESPONSES, Protocol::Messages] {
        let last = String::from_utf8(broken(protocol, &error())).unwrap();
        assert!(last.contains("too fast") && last.contains("AOS-1042"), "{last}");
        assert!(!last.contains("[DONE]") && !last.contains("completed") && !last.contains("message_stop"), "{last}");
        let mut writer = StreamWriter::new(protocol, &Ask::default());
        assert!(!writer.error(&error()).is_empty());
        assert!(writer.error(&error()).is_empty(), "once");
        assert!(writer.delta(&agentos_wire::Delta::End).is_empty(), "and nothing follows");
    }
    let mut stream = through(Protocol::Chat, RESPONSES, &file("chat/streams", "text"), 64).unwrap();
    stream.clear();
    let mut writer = StreamWriter::new(RESPONSES, &Ask::default());
    let begin = agentos_wire::Delta::Begin { id: "1".into(), model: "m".into(), created_s: None };
    stream.extend(writer.delta(&begin));
    stream.extend(writer.delta(&agentos_wire::Delta::Text { choice: 0, text: "half".into() }));
    stream.extend(writer.error(&error()));
    let text = String::from_utf8(stream.clone()).unwrap();
    assert!(put_together(&stream).unwrap_err().contains("too fast"));
    assert!(text.contains("response.failed") && text.contains("\"status\":\"failed\""), "{text}");
}
