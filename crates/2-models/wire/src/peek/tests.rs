use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Map, Value, json};

use super::*;

fn chat_of(body: &str) -> Peek {
    peek(Protocol::Chat, body.as_bytes()).unwrap()
}

#[test]
fn only_the_fields_on_top_count() {
    let seen = chat_of(
        r#"{"messages":[{"role":"user","content":"\"model\":\"x\"","model":"inner","stream":true,"max_tokens":9}],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"stream":true,"model":"deep"}}}],
            "\u006dodel":"outer","max_completion_tokens":7,"n":3,"stream":false}"#,
    );
    assert_eq!((seen.model.as_str(), seen.max_output_tokens, seen.choices, seen.stream), ("outer", Some(7), 3, false));
    assert!(seen.needs.tools && !seen.needs.hosted_tools);
}

#[test]
fn a_field_that_comes_twice_is_refused_however_it_is_spelled() {
    for body in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","\u006dodel":"b"}"#,
        r#"{"model":"a","x":1,"x":1}"#,
        r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text","type":"image_url"}]}]}"#,
        r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
    ] {
        let refusal = peek(Protocol::Chat, body.as_bytes()).unwrap_err();
        assert!(refusal.to_string().contains("comes twice"), "{body}: {refusal}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_its_field() {
    for (body, field) in [
        ("", "body"),
        ("[]", "body"),
        ("{", "body"),
        (r#"{"model":"a"} x"#, "body"),
        (r#"{"model":"a",}"#, "body"),
        ("{\"model\":\"a\u{0}\"}", "body"),
        (r#"{"model":"\ud800"}"#, "body"),
        (r#"{"messages":[]}"#, "model"),
        (r#"{"model":7}"#, "model"),
        (r#"{"model":""}"#, "model"),
        (r#"{"model":"a","stream":"yes"}"#, "stream"),
        (r#"{"model":"a","max_tokens":-1}"#, "max_tokens"),
        (r#"{"model":"a","max_tokens":1.5}"#, "max_tokens"),
        (r#"{"model":"a","max_tokens":99999999999999999999}"#, "max_tokens"),
        (r#"{"model":"a","n":0}"#, "n"),
        (r#"{"model":"a","stream_options":[]}"#, "stream_options"),
        (r#"{"model":"a","messages":"x"}"#, "messages"),
        (r#"{"model":"a","messages":["x"]}"#, "messages"),
    ] {
        match peek(Protocol::Chat, body.as_bytes()) {
            Err(Refusal::Malformed { field: found, .. }) => assert_eq!(found, field, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(peek(Protocol::Chat, b"{\"model\":\"\xff\"}").is_err(), "not UTF-8");
    let deep = format!(r#"{{"model":"a","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(peek(Protocol::Chat, deep.as_bytes()).unwrap_err().to_string().contains("127 levels"));
    let wide: String = (0..300).map(|field| format!(r#""f{field}":1,"#)).collect();
    assert!(peek(Protocol::Chat, format!(r#"{{{wide}"model":"a"}}"#).as_bytes()).is_err());
}

#[test]
fn the_data_of_an_image_is_no_text() {
    let data = format!("data:image/png;base64,{}", "A".repeat(30_000));
    for (protocol, body) in [
        (
            Protocol::Chat,
            json!({"model": "m", "messages": [{"role": "user", "content": [
            {"image_url": {"url": data}, "type": "image_url"}, {"type": "text", "text": "hi"}]}]}),
        ),
        (
            Protocol::Responses,
            json!({"model": "m", "input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": data}]}]}),
        ),
        (
            Protocol::Responses,
            json!({"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_image", "image_url": data}]}]}),
        ),
        (
            Protocol::Messages,
            json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]}]}]}),
        ),
        (
            Protocol::Gemini,
            json!({"contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": "image/png", "data": data}}]}]}),
        ),
    ] {
        let seen = peek(protocol, body.to_string().as_bytes()).unwrap();
        assert_eq!((seen.images, seen.needs.images), (1, true), "{body:.80}");
        assert!(seen.text_bytes < 400, "{protocol}: {}", seen.text_bytes);
    }
    let disguised = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "x", "image_url": {"url": data}}]}]});
    let seen = peek(Protocol::Chat, disguised.to_string().as_bytes()).unwrap();
    assert!(seen.text_bytes > 30_000, "what is no image counts as text");
}

#[test]
fn each_need_is_seen_in_each_protocol() {
    type Of = fn(&Needs) -> bool;
    let cases: &[(Protocol, &str, Of)] = &[
        (Protocol::Chat, r#""tools":[{"type":"function"}]"#, |n| n.tools && !n.hosted_tools),
        (Protocol::Chat, r#""functions":[{"name":"f"}]"#, |n| n.tools),
        (Protocol::Chat, r#""tools":[]"#, |n| !n.tools),
        (Protocol::Chat, r#""response_format":{"type":"json_schema"}"#, |n| n.json_schema),
        (Protocol::Chat, r#""response_format":{"type":"json_object"}"#, |n| n.json_object && !n.json_schema),
        (Protocol::Chat, r#""reasoning_effort":"low""#, |n| n.thinking),
        (Protocol::Chat, r#""reasoning_effort":"none""#, |n| !n.thinking),
        (Protocol::Chat, r#""logprobs":true"#, |n| n.logprobs),
        (Protocol::Chat, r#""logprobs":false"#, |n| !n.logprobs),
        (Protocol::Chat, r#""audio":{"voice":"x"}"#, |n| n.audio),
        (Protocol::Chat, r#""web_search_options":{}"#, |n| n.hosted_tools),
        (Protocol::Chat, r#""messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]"#, |n| {
            n.files && n.stored_input
        }),
        (Protocol::Responses, r#""text":{"format":{"type":"json_schema"}}"#, |n| n.json_schema),
        (Protocol::Responses, r#""reasoning":{"effort":"high"}"#, |n| n.thinking),
        (Protocol::Responses, r#""tools":[{"type":"web_search"}]"#, |n| n.hosted_tools),
        (Protocol::Responses, r#""previous_response_id":"r""#, |n| n.stored_input),
        (Protocol::Responses, r#""input":[{"type":"item_reference","id":"x"}]"#, |n| n.stored_input),
        (Protocol::Messages, r#""thinking":{"type":"enabled","budget_tokens":1024}"#, |n| n.thinking),
        (Protocol::Messages, r#""thinking":{"type":"disabled"}"#, |n| !n.thinking),
        (Protocol::Messages, r#""tools":[{"name":"f"},{"type":"bash_20250124","name":"b"}]"#, |n| {
            n.tools && !n.hosted_tools
        }),
        (Protocol::Messages, r#""tools":[{"type":"web_search_20250305"}]"#, |n| n.hosted_tools),
        (Protocol::Messages, r#""output_config":{"format":{"type":"json_schema"}}"#, |n| n.json_schema),
        (Protocol::Gemini, r#""generationConfig":{"responseSchema":{"type":"OBJECT"}}"#, |n| n.json_schema),
        (Protocol::Gemini, r#""tools":[{"googleSearch":{}}]"#, |n| n.hosted_tools),
        (Protocol::Gemini, r#""tools":[{"functionDeclarations":[{"name":"f"}]}]"#, |n| n.tools && !n.hosted_tools),
        (Protocol::Gemini, r#""cachedContent":"c""#, |n| n.stored_input),
    ];
    for (protocol, fields, of) in cases {
        let body = format!(r#"{{"model":"m",{fields}}}"#);
        assert!(of(&peek(*protocol, body.as_bytes()).unwrap().needs), "{protocol}: {fields}");
    }
}

#[test]
fn embeddings_count_their_inputs_and_tokens() {
    let check = |input: Value, inputs: u64, least: u64| {
        let body = json!({"model": "m", "input": input}).to_string();
        let seen = peek_embeddings(body.as_bytes()).unwrap();
        assert_eq!(seen.choices, inputs, "{body}");
        assert!(seen.text_bytes / 3 >= least, "{body}");
    };
    check(json!("hello"), 1, 1);
    check(json!(["a", "b", "c"]), 3, 3);
    check(json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8]), 1, 17);
    check(json!([[1, 2], [3]]), 2, 3);
    assert!(peek_embeddings(br#"{"model":"m"}"#).is_err());
    assert!(peek_embeddings(br#"{"model":"m","input":[]}"#).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300_f64..1e300).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map("[a-z\"\\\\é]{0,6}|model|type|content", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn request() -> impl Strategy<Value = Value> {
    let other = proptest::collection::hash_map("[a-z_\"\\\\é]{0,9}", value(), 0..6);
    (other, ".{1,12}", any::<Option<bool>>(), any::<Option<u64>>(), any::<Option<bool>>(), value()).prop_map(
        |(other, model, stream, max, usage, content)| {
            let mut body: Map<String, Value> = other.into_iter().collect();
            // Fields whose form is checked.
            for checked in ["n", "input", "text", "stream", "tools", "max_tokens", "messages", "functions"] {
                body.remove(checked);
            }
            body.insert("model".into(), model.into());
            body.insert("messages".into(), json!([{"role": "user", "content": content}]));
            body.extend(stream.map(|stream| ("stream".into(), stream.into())));
            body.extend(max.map(|max| ("max_completion_tokens".into(), max.into())));
            body.extend(usage.map(|usage| ("stream_options".into(), json!({"x": 1, "include_usage": usage}))));
            Value::Object(body)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn it_reads_what_serde_json_reads(body in request(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let seen = peek(Protocol::Chat, text.as_bytes()).unwrap();
        prop_assert_eq!(seen.model, body["model"].as_str().unwrap());
        prop_assert_eq!(seen.stream, body["stream"] == json!(true));
        prop_assert_eq!(seen.max_output_tokens, body["max_completion_tokens"].as_u64());
        prop_assert_eq!(seen.stream_usage, body["stream_options"]["include_usage"] == json!(true));
        prop_assert_eq!(&text[seen.spans.model.unwrap()], body["model"].to_string());
    }

    #[test]
    fn it_refuses_what_serde_json_refuses(body in request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = body.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = Cursor::new(&text).and_then(|mut cursor| { cursor.skip()?; cursor.end() });
        let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn what_a_provider_keeps_is_known() {
    for (protocol, field, kept) in [
        (Protocol::Chat, "", false),
        (Protocol::Chat, r#","store":true"#, true),
        (Protocol::Chat, r#","store":null"#, false),
        (Protocol::Responses, "", true),
        (Protocol::Responses, r#","store":null"#, true),
        (Protocol::Responses, r#","store": false"#, false),
        (Protocol::Messages, "", false),
    ] {
        let seen = peek(protocol, format!(r#"{{"model":"a"{field}}}"#).as_bytes()).unwrap();
        assert_eq!(seen.is_kept, kept, "{protocol} {field}");
    }
}
