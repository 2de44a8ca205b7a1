use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};

use super::*;
use crate::peek;

const NOTHING: Changes<'static> =
    Changes { model: "m", stream_usage: false, max_output_tokens: None, dialect: Dialect::Current };

fn check(protocol: Protocol, body: &str, changes: Changes<'_>, expected: &str) {
    let seen = peek(protocol, body.as_bytes()).unwrap();
    let found = String::from_utf8(splice(body.as_bytes(), &seen, &changes)).unwrap();
    assert_eq!(found, expected, "{body}");
    peek(protocol, found.as_bytes()).unwrap();
}

#[test]
fn nothing_else_changes() {
    let odd = "{ \"temperature\": 1.0e0,\n\t\"model\" :\"m\",\"x\":[1 ,2.50,\"\\u0061\"] }\n";
    check(Protocol::Chat, odd, NOTHING, odd);
    let named = odd.replace(":\"m\"", ":\"q\\\"é\"");
    check(Protocol::Chat, odd, Changes { model: "q\"é", ..NOTHING }, &named);
}

#[test]
fn usage_is_asked_for_where_the_client_did_not() {
    let ask = Changes { stream_usage: true, ..NOTHING };
    for (body, expected) in [
        (r#"{"model":"m","stream":true}"#, r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#),
        (
            r#"{"model":"m","stream":true,"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{ }}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage": false }}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage": true }}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        check(Protocol::Chat, body, ask, expected);
    }
    let messages = r#"{"model":"m","max_tokens":3,"stream":true}"#;
    check(Protocol::Messages, messages, ask, messages);
}

#[test]
fn a_limit_is_lowered_where_it_stands_or_written() {
    let lower = Changes { max_output_tokens: Some(5), ..NOTHING };
    let both = r#"{"max_tokens":9,"model":"m","max_completion_tokens":null}"#;
    check(Protocol::Chat, both, lower, r#"{"max_tokens":5,"model":"m","max_completion_tokens":5}"#);
    check(Protocol::Chat, r#"{"model":"m"}"#, lower, r#"{"max_completion_tokens":5,"model":"m"}"#);
    let old = Changes { dialect: Dialect::Compatible, ..lower };
    check(Protocol::Chat, r#"{"model":"m"}"#, old, r#"{"max_tokens":5,"model":"m"}"#);
    check(Protocol::Responses, r#"{"model":"m"}"#, lower, r#"{"max_output_tokens":5,"model":"m"}"#);
    check(Protocol::Gemini, "{}", lower, r#"{"generationConfig":{"maxOutputTokens":5}}"#);
    check(
        Protocol::Gemini,
        r#"{"generationConfig":{"topK":1}}"#,
        lower,
        r#"{"generationConfig":{"maxOutputTokens":5,"topK":1}}"#,
    );
    check(
        Protocol::Gemini,
        r#"{"generationConfig":{"maxOutputTokens":9}}"#,
        lower,
        r#"{"generationConfig":{"maxOutputTokens":5}}"#,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn only_what_it_says_changes(
        extra in proptest::collection::btree_map("x[a-z\"é]{0,8}", ".{0,20}", 0..8),
        name in ".{0,12}",
        max in any::<Option<u64>>(),
        usage in any::<bool>(),
        stream in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let mut body = json!({"model": "before", "stream": stream, "messages": [{"role": "user", "content": "model"}]});
        for (field, value) in &extra {
            body[field] = json!(value);
        }
        let text = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let seen = peek(Protocol::Chat, text.as_bytes()).unwrap();
        let changes = Changes { model: &name, stream_usage: usage, max_output_tokens: max, dialect: Dialect::Current };
        let after: Value = serde_json::from_slice(&splice(text.as_bytes(), &seen, &changes)).unwrap();
        body["model"] = json!(name);
        if let Some(max) = max {
            body["max_completion_tokens"] = json!(max);
        }
        if usage && stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        prop_assert_eq!(after, body);
    }
}
