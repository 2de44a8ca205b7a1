//! Requests of Messages for Gemini, and its answers for a client of Messages.

use agentos_wire::{
    Ask, Dialect, Protocol, Refusal, StreamReader, StreamWriter, left_to_provider, read_answer, read_ask, write_ask,
};
use serde_json::Value;

use crate::corpus::{self, assemble, file, files, frames, json, lost};

/// What Gemini has no place for.
const REFUSED: &[(&str, &str)] = &[
    ("effort_only", "output_config"),
    ("future", "speed"),
    ("image_url", "messages[0].content[0].image by URL"),
    ("own_tools", "mcp_servers"),
    ("thinking", "messages[1].content[0].signature"),
    ("tools", "parallel_tool_calls: false"),
];

/// Paths whose values have another word there, or stand in the path of the request.
const OTHER_WORDS: &[&str] =
    &[".model", ".stream", ".role", ".type", ".is_error", ".ttl", ".user_id", ".strict", ".display"];

#[test]
fn every_field_of_a_request_arrives_or_is_refused() {
    for (name, body) in files("messages/asks") {
        let ask = read_ask(Protocol::Messages, &body).unwrap();
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (write_ask(Protocol::Gemini, &ask, "gemini-3-pro"), refused) {
            (Err(Refusal::NoPlace { field, .. }), Some((_, wanted))) => {
                assert!(field.starts_with(wanted), "{name}: {field}")
            }
            (Ok(written), None) => {
                let mut lost = lost(&json(&body), &json(&written));
                lost.retain(|(path, _)| !OTHER_WORDS.iter().any(|word| path.ends_with(word)));
                assert!(lost.is_empty(), "{name}: {lost:?}");
                assert_eq!(
                    json(&written),
                    json(&file("gemini/asks", &name)),
                    "{name}: {}",
                    String::from_utf8_lossy(&written)
                );
            }
            (written, _) => panic!("{name}: {written:?}"),
        }
    }
}

#[test]
fn an_effort_is_a_level_or_a_number_of_tokens() {
    let ask = read_ask(Protocol::Messages, &file("messages/asks", "adaptive")).unwrap();
    let thinking =
        |model| json(&write_ask(Protocol::Gemini, &ask, model).unwrap())["generationConfig"]["thinkingConfig"].clone();
    assert_eq!(thinking("gemini-2.5-pro"), serde_json::json!({"thinkingBudget": 24_576, "includeThoughts": false}));
    assert_eq!(thinking("gemini-3-pro"), serde_json::json!({"thinkingLevel": "high", "includeThoughts": false}));
}

#[test]
fn what_is_left_to_the_provider_is_told() {
    let told = |name| {
        left_to_provider(
            Protocol::Gemini,
            Dialect::default(),
            &read_ask(Protocol::Messages, &file("messages/asks", name)).unwrap(),
        )
    };
    let cache = ["system[0].cache_control", "messages[0].content[0].cache_control", "tools[0].cache_control"];
    assert_eq!(told("cache"), cache);
    assert_eq!(told("text"), ["user"]);
    assert!(told("images").is_empty());
}

#[test]
fn every_field_of_an_answer_arrives() {
    for (name, body) in files("gemini/answers") {
        let answer = read_answer(Protocol::Gemini, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = json(&corpus::for_messages(&answer).unwrap_or_else(|error| panic!("{name}: {error}")));
        let mut lost = lost(&json(&body), &written);
        let word =
            |path: &str| [".role", ".finishReason", ".index", ".thought"].iter().any(|word| path.ends_with(word));
        lost.retain(|(path, _)| !word(path) && !path.starts_with(".usageMetadata"));
        assert!(lost.is_empty(), "{name}: {lost:?} {written}");
        assert!(!written["stop_reason"].is_null(), "{name}");
    }
}

#[test]
fn reasons_and_figures_are_told_as_they_are() {
    let written = |name| {
        json(&corpus::for_messages(&read_answer(Protocol::Gemini, &file("gemini/answers", name)).unwrap()).unwrap())
    };
    let tools = written("tools");
    assert_eq!(tools["stop_reason"], "tool_use");
    assert_eq!(tools["usage"]["output_tokens"], 36, "thoughts are paid for");
    assert_eq!((&tools["usage"]["input_tokens"], &tools["usage"]["cache_read_input_tokens"]), (&2.into(), &8.into()));
    assert_eq!(
        tools["content"][1],
        serde_json::json!({"type": "thinking", "thinking": "", "signature": "gemini:CiQB"})
    );
    assert_eq!(tools["content"][2]["id"], "call_r2_0");
    for (name, why) in [("safety", "SAFETY"), ("blocked", "PROHIBITED_CONTENT")] {
        let filtered = written(name);
        assert_eq!(
            (&filtered["stop_reason"], &filtered["agent_os"]["finish"]),
            (&"refusal".into(), &"content_filter".into())
        );
        assert!(filtered["agent_os"]["extra"].to_string().contains(why), "{filtered}");
    }
}

#[test]
fn a_signature_finds_back_to_its_call() {
    let body = file("gemini/answers", "tools");
    let answer = json(&corpus::for_messages(&read_answer(Protocol::Gemini, &body).unwrap()).unwrap());
    let again = serde_json::json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_r2_0", "content": "12"},
            {"type": "tool_result", "tool_use_id": "own", "content": "13"}]}]});
    let ask = read_ask(Protocol::Messages, again.to_string().as_bytes()).unwrap();
    let written = json(&write_ask(Protocol::Gemini, &ask, "gemini-3-pro").unwrap());
    let parts = &written["contents"][1]["parts"];
    assert_eq!(parts[0], serde_json::json!({"text": "Hm.", "thought": true}));
    assert_eq!((&parts[1]["thoughtSignature"], &parts[1]["functionCall"]["args"]["z"]), (&"CiQB".into(), &1.5.into()));
    assert_eq!(parts[2].get("thoughtSignature"), None);
    assert_eq!(written["contents"][2]["parts"][0]["functionResponse"]["name"], "get_weather");
    // Anthropic checks its own signatures and takes no others.
    let error = write_ask(Protocol::Messages, &ask, "claude").unwrap_err().to_string();
    assert!(error.contains("thinking"), "{error}");
}

#[test]
fn a_chat_client_keeps_the_signature_with_the_call() {
    let answer = read_answer(Protocol::Gemini, &file("gemini/answers", "tools")).unwrap();
    let chat = json(&agentos_wire::write_answer(Protocol::Chat, &answer, &Ask::default()).unwrap());
    let calls = &chat["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["extra_content"]["google"]["thought_signature"], "CiQB");
    assert_eq!(calls[1].get("extra_content"), None);
    let again = serde_json::json!({"model": "m", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_r2_0", "content": "12"},
        {"role": "tool", "tool_call_id": "own", "content": "13"}]});
    let ask = read_ask(Protocol::Chat, again.to_string().as_bytes()).unwrap();
    let written = json(&write_ask(Protocol::Gemini, &ask, "gemini-3-pro").unwrap());
    assert_eq!(written["contents"][1]["parts"][0]["thoughtSignature"], "CiQB");
    assert_eq!(written["contents"][1]["parts"][1].get("thoughtSignature"), None);
    let (mut reader, mut writer) =
        (StreamReader::new(Protocol::Gemini), StreamWriter::new(Protocol::Chat, &Ask::default()));
    let mut out = Vec::new();
    for frame in frames(&file("gemini/streams", "tools"), 64) {
        reader.frame(&frame).unwrap().iter().for_each(|delta| out.extend(writer.delta(delta)));
    }
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches(r#""extra_content":{"google":{"thought_signature":"CiQB"}}"#).count(), 1, "{out}");
}

#[test]
fn a_call_of_another_model_is_marked_where_calls_are_signed() {
    let ask = read_ask(Protocol::Messages, &file("messages/asks", "parallel_tools")).unwrap();
    let written = json(&write_ask(Protocol::Gemini, &ask, "gemini-2.5-pro").unwrap());
    assert_eq!(written["contents"][1]["parts"][0].get("thoughtSignature"), None);
}

fn through(stream: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let (mut reader, mut writer) =
        (StreamReader::new(Protocol::Gemini), StreamWriter::new(Protocol::Messages, &Ask::default()));
    let mut out = Vec::new();
    for frame in frames(stream, size) {
        reader.frame(&frame)?.iter().for_each(|delta| out.extend(writer.delta(delta)));
    }
    reader.end()?.iter().for_each(|delta| out.extend(writer.delta(delta)));
    Ok(out)
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    for name in ["text", "tools", "safety"] {
        let stream = file("gemini/streams", name);
        for size in [1, 2, 3, 7, stream.len()] {
            let assembled =
                assemble(&through(&stream, size).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let text = |value: &Value| value["content"][0]["text"].as_str().map(str::to_owned);
            match name {
                "text" => assert_eq!(text(&assembled).as_deref(), Some("Grüß Gott 👋🏽")),
                "safety" => assert_eq!(assembled["stop_reason"], "refusal"),
                _ => {
                    let kinds: Vec<&str> = assembled["content"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|block| block["type"].as_str().unwrap())
                        .collect();
                    assert_eq!(kinds, ["thinking", "tool_use", "tool_use"]);
                    assert_eq!(assembled["content"][0]["signature"], "gemini:CiQB");
                    assert_eq!(assembled["usage"]["output_tokens"], 36);
                    assert_eq!(assembled["stop_reason"], "tool_use");
                }
            }
        }
    }
}

#[test]
fn a_broken_stream_has_no_end() {
    for (name, why) in
        [("cut", "before a reason"), ("error", "UNAVAILABLE"), ("malformed_call", "MALFORMED_FUNCTION_CALL")]
    {
        let error = through(&file("gemini/streams", name), 5).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    assert!(read_answer(Protocol::Gemini, br#"{"candidates":[]}"#).is_err());
    assert!(
        read_answer(Protocol::Gemini, br#"{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}"#).is_err(),
        "no reason"
    );
}
