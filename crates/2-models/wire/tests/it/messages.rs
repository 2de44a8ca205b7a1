//! Anthropic's Messages, to themselves and from there to others.

use agentos_wire::{
    Ask, Finish, Object, Protocol, Refusal, StreamReader, StreamWriter, WireError, read_answer, read_ask, read_count,
    write_answer, write_ask, write_count,
};
use serde_json::{Value, json as value};

use crate::corpus::{self, assemble, file, files, frames, json, lost, normal};

#[test]
fn a_request_comes_back_whole() {
    for (name, body) in files("messages/asks") {
        let ask = read_ask(Protocol::Messages, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = write_ask(Protocol::Messages, &ask, &ask.model).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(normal(json(&written)), normal(json(&body)), "{name}");
        assert_eq!(ask.stream, ask.stream_usage, "{name}");
    }
}

#[test]
fn values_keep_their_spelling_and_schemas_their_order() {
    let body = file("messages/asks", "tools");
    let ask = read_ask(Protocol::Messages, &body).unwrap();
    let written = String::from_utf8(write_ask(Protocol::Messages, &ask, "m").unwrap()).unwrap();
    assert!(written.contains(r#""days":1.0"#), "{written}");
    assert!(written.contains(r#"{"zone":{"type":"string"},"city":"#), "{written}");
}

#[test]
fn an_answer_comes_back_whole() {
    for (name, body) in files("messages/answers") {
        let answer = read_answer(Protocol::Messages, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = corpus::for_messages(&answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(json(&written), json(&body), "{name}");
    }
}

/// Reads a stream and writes it again.
fn through(stream: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let (mut reader, mut writer) =
        (StreamReader::new(Protocol::Messages), StreamWriter::new(Protocol::Messages, &Ask::default()));
    let mut out = Vec::new();
    for frame in frames(stream, size) {
        for delta in reader.frame(&frame)? {
            out.extend(writer.delta(&delta));
        }
    }
    for delta in reader.end()? {
        out.extend(writer.delta(&delta));
    }
    Ok(out)
}

#[test]
fn a_stream_comes_back_whole_however_it_is_cut() {
    for (name, stream) in files("messages/streams") {
        let Ok(mut wanted) = assemble(&stream) else { continue };
        // Blocks of the provider's own tools stand in events that only we know.
        let own = |kind: &str| kind.starts_with("server_tool") || kind.ends_with("_result");
        wanted["content"].as_array_mut().unwrap().retain(|block| !own(block["type"].as_str().unwrap()));
        for size in [1, 2, 3, 7, 64, stream.len()] {
            let written = through(&stream, size).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(assemble(&written).unwrap(), wanted, "{name} in pieces of {size}");
        }
    }
    let written = String::from_utf8(through(&file("messages/streams", "pause_turn"), 5).unwrap()).unwrap();
    assert!(written.contains("srvtoolu_1") && written.contains("citations_delta"), "{written}");
}

#[test]
fn what_bedrock_tells_with_the_end_comes_before_it_in_every_protocol() {
    let stream = file("messages/streams", "bedrock");
    for to in [Protocol::Messages, Protocol::Chat, Protocol::Responses] {
        let written = crate::chat::through(Protocol::Messages, to, &stream, 64).unwrap();
        let text = String::from_utf8(written.clone()).unwrap();
        assert_eq!(text.matches("amazon-bedrock-invocationMetrics").count(), 1, "{to}: {text}");
        let mut tap = agentos_wire::Tap::new(to);
        let seen: Vec<_> = frames(&written, written.len()).iter().map(|frame| tap.frame(frame)).collect();
        assert_eq!(seen.last(), Some(&agentos_wire::Seen::Terminal), "{to}: {seen:?}");
        assert!(!seen.contains(&agentos_wire::Seen::Malformed), "{to}: {seen:?}");
    }
}

#[test]
fn a_broken_stream_has_no_end() {
    for name in ["error", "cut"] {
        let stream = file("messages/streams", name);
        let error = through(&stream, 3).unwrap_err().to_string();
        assert!(error.contains(if name == "error" { "overloaded_error" } else { "without 'message_stop'" }), "{error}");
    }
    // Whatever it is cut behind, it is no whole answer.
    let whole = file("messages/streams", "tools");
    for end in 0..whole.len() - 2 {
        assert!(through(&whole[..end], 64).is_err(), "cut behind {end} bytes");
    }
}

#[test]
fn an_error_within_a_stream_is_the_last_event() {
    let mut writer = StreamWriter::new(Protocol::Messages, &Ask::default());
    let mut reader = StreamReader::new(Protocol::Messages);
    let error = WireError {
        status: 502,
        kind: None,
        code: "AOS-9999".to_owned(),
        message: "the provider's stream broke off".to_owned(),
        retry_after: None,
        facts: Object::default(),
    };
    let mut out = Vec::new();
    for frame in frames(&file("messages/streams", "cut"), 9) {
        reader.frame(&frame).unwrap().iter().for_each(|delta| out.extend(writer.delta(delta)));
    }
    out.extend(writer.error(&error));
    assert!(writer.delta(&agentos_wire::Delta::End).is_empty(), "an end behind an error is none");
    assert!(assemble(&out).unwrap_err().contains("broke off"));
}

#[test]
fn a_writer_ends_nothing_that_has_not_ended() {
    let mut writer = StreamWriter::new(Protocol::Messages, &Ask::default());
    let out: Vec<u8> = [agentos_wire::Delta::Text { choice: 0, text: "a".to_owned() }, agentos_wire::Delta::End]
        .iter()
        .flat_map(|delta| writer.delta(delta))
        .collect();
    assert!(assemble(&out).is_err());
}

#[test]
fn max_tokens_are_never_made_up() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    assert!(read_ask(Protocol::Messages, body).unwrap_err().to_string().starts_with("max_tokens"));
    let mut ask = read_count(body).unwrap();
    assert!(write_ask(Protocol::Messages, &ask, "m").unwrap_err().to_string().starts_with("max_tokens"));
    ask.max_output_tokens = Some(8_192);
    assert_eq!(json(&write_ask(Protocol::Messages, &ask, "m").unwrap())["max_tokens"], 8_192);
    assert_eq!(json(&write_count(&ask, "m").unwrap()).get("max_tokens"), None);
}

#[test]
fn turns_are_merged_and_results_stand_first() {
    let body = br#"{"model":"m","max_tokens":9,"messages":[
        {"role":"user","content":"a"},{"role":"user","content":"b"},
        {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]},
        {"role":"user","content":[{"type":"text","text":"c"},{"type":"tool_result","tool_use_id":"t","content":"r"}]},
        {"role":"user","content":"d"}]}"#;
    let written = json(&write_ask(Protocol::Messages, &read_ask(Protocol::Messages, body).unwrap(), "m").unwrap());
    let kinds: Vec<Vec<&str>> = written["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| turn["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect())
        .collect();
    assert_eq!(kinds, [vec!["text", "text"], vec!["tool_use"], vec!["tool_result", "text", "text"]]);
}

#[test]
fn an_empty_turn_is_no_lost_turn() {
    let body = br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[]}]}"#;
    let written = write_ask(Protocol::Messages, &read_ask(Protocol::Messages, body).unwrap(), "m").unwrap();
    assert_eq!(json(&written)["messages"], json(body)["messages"], "the provider says what is wrong with it");
}

#[test]
fn extras_of_another_protocol_are_refused_by_name() {
    for (name, field) in [("future", "messages[0].mood"), ("effort_only", "")] {
        let mut ask = read_ask(Protocol::Messages, &file("messages/asks", name)).unwrap();
        ask.from = Some(Protocol::Chat);
        match write_ask(Protocol::Messages, &ask, "m") {
            Err(Refusal::NoPlace { field: found, .. }) => assert_eq!(found, field),
            Ok(written) => {
                assert_eq!(lost(&json(&file("messages/asks", name)), &json(&written)).len(), 1, "the model's name")
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn an_answer_that_cannot_be_said_is_refused() {
    let mut answer = read_answer(Protocol::Messages, &file("messages/answers", "tools")).unwrap();
    answer.choices[0].parts.push(agentos_wire::Part::ToolCall {
        id: "x".to_owned(),
        name: "f".to_owned(),
        arguments: "{\"a\":".to_owned(),
        extra: Object::default(),
    });
    assert!(corpus::for_messages(&answer).unwrap_err().to_string().starts_with("content[3].arguments"));
    answer.choices[0].parts.pop();
    answer.choices[0].finish = Finish::ContentFilter;
    let written = json(&corpus::for_messages(&answer).unwrap());
    assert_eq!(
        (&written["stop_reason"], &written["agent_os"]["finish"]),
        (&"refusal".into(), &"content_filter".into())
    );
}

#[test]
fn malformed_requests_name_their_field() {
    for (body, field) in [
        (r#"[]"#, "body"),
        (r#"{"model":"m","max_tokens":1}"#, "messages"),
        (r#"{"model":"m","max_tokens":-1,"messages":[]}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":1,"messages":[{"role":"wizard","content":""}]}"#, "messages[0].role"),
        (
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "messages[0].content[0].text",
        ),
        (r#"{"model":"m","max_tokens":1,"messages":[],"tools":[{"name":"a"}]}"#, "tools[0].input_schema"),
        (r#"{"model":"m","max_tokens":1,"messages":[],"tool_choice":{"type":"some"}}"#, "tool_choice.type"),
        (r#"{"model":"m","model":"n","max_tokens":1,"messages":[]}"#, "body"),
    ] {
        match read_ask(Protocol::Messages, body.as_bytes()) {
            Err(Refusal::Malformed { field: found, .. }) => assert_eq!(found, field, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

/// A block without `type` would break every client of this protocol.
#[test]
fn a_part_that_only_gemini_knows_stands_beside_the_blocks() {
    let body = br#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Here."},
        {"executableCode":{"language":"PYTHON","code":"1+1"}}]},"finishReason":"STOP","index":0}]}"#;
    let answer = read_answer(Protocol::Gemini, body).unwrap();
    let written = write_answer(Protocol::Messages, &answer, &Ask::default()).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["content"], value!([{"type": "text", "text": "Here."}]));
    let beside = &written["agent_os"]["extra"]["content[1].executableCode"];
    assert_eq!(beside["executableCode"]["code"], "1+1", "{written}");
}
