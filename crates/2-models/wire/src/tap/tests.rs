use super::*;
use crate::sse::Scanner;

fn check(protocol: Protocol, stream: &str, expected: &[Seen], usage: Option<(u64, u64)>) -> Tap {
    let mut tap = Tap::new(protocol);
    let mut scanner = Scanner::default();
    scanner.push(stream.as_bytes());
    let mut seen = Vec::new();
    while let Some(frame) = scanner.next_frame().unwrap() {
        seen.push(tap.frame(&frame));
    }
    assert_eq!(seen, expected, "{stream}");
    assert_eq!(tap.usage().map(|usage| (usage.input, usage.output)), usage);
    assert_eq!(tap.is_terminal(), expected.contains(&Seen::Terminal));
    tap
}

#[test]
fn a_chat_stream_tells_content_usage_and_end() {
    let tap = check(
        Protocol::Chat,
        ": hello\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"0123456789\"},\"finish_reason\":null}],\"usage\":null}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"abc\"},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0,\"total_tokens\":5}}\n\ndata: [DONE]\n\n",
        &[Seen::Other, Seen::Content, Seen::Content, Seen::Content, Seen::Usage, Seen::Terminal],
        Some((5, 0)),
    );
    assert_eq!(tap.delivered_bytes(), 13);
}

#[test]
fn an_error_within_a_stream_is_one() {
    let error = r#"{"error":{"message":"overloaded","code":529}}"#;
    let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#;
    check(
        Protocol::Chat,
        &format!("data: {error}\n\ndata: {last}\n\nevent: error\ndata: {{\"message\":\"x\"}}\n\n"),
        &[
            Seen::Error(Bytes::copy_from_slice(error.as_bytes())),
            Seen::Error(Bytes::copy_from_slice(last.as_bytes())),
            Seen::Error(Bytes::from_static(br#"{"message":"x"}"#)),
        ],
        None,
    );
    check(Protocol::Chat, "data: {\"choices\":[\n\n", &[Seen::Malformed], None);
    check(Protocol::Chat, "data: [DONE\n\n", &[Seen::Malformed], None);
    check(Protocol::Responses, "data: {\"delta\":\"x\"}\n\n", &[Seen::Malformed], None);
}

#[test]
fn a_responses_stream_ends_with_its_usage() {
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}"#;
    let tap = check(
        Protocol::Responses,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"output\":[],\"usage\":null}}\n\n\
         data: {\"type\":\"response.output_text.delta\",\"delta\":\"hello\"}\n\n\
         data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\
         \"input_tokens_details\":{\"cached_tokens\":4,\"cache_write_tokens\":2},\"output_tokens\":7,\"output_tokens_details\":{\"reasoning_tokens\":3}}}}\n\n",
        &[Seen::Other, Seen::Content, Seen::Terminal],
        Some((9, 7)),
    );
    assert_eq!(
        tap.usage().unwrap(),
        Usage { input: 9, cache_read: 4, cache_write: 2, output: 7, reasoning: 3, ..Usage::default() }
    );
    assert_eq!(tap.delivered_bytes(), 5);
    check(
        Protocol::Responses,
        &format!("data: {failed}\n\n"),
        &[Seen::Error(Bytes::copy_from_slice(failed.as_bytes()))],
        None,
    );
}

#[test]
fn a_whole_answer_is_judged() {
    let check = |mut tap: Tap, body: &str, expected: Seen, usage: Option<Usage>| {
        assert_eq!(tap.whole(body.as_bytes()), expected, "{body}");
        assert_eq!(tap.usage(), usage, "{body}");
    };
    let chat = || Tap::new(Protocol::Chat);
    let error = |body: &str| Seen::Error(Bytes::copy_from_slice(body.as_bytes()));
    check(
        chat(),
        r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#,
        Seen::Terminal,
        Some(Usage::default()),
    );
    check(
        chat(),
        r#"{"choices":[{"message":{}}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":20,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":8}}}"#,
        Seen::Terminal,
        Some(Usage { input: 10, cache_read: 4, cache_write: 0, output: 10, reasoning: 8, ..Usage::default() }),
    );
    check(chat(), r#"{"choices":[],"usage":null}"#, Seen::Malformed, None);
    check(chat(), "<html>", Seen::Malformed, None);
    check(chat(), r#"{"error":{"message":"x"}}"#, error(r#"{"error":{"message":"x"}}"#), None);
    let responses = || Tap::new(Protocol::Responses);
    check(responses(), r#"{"status":"completed","output":[],"error":null}"#, Seen::Terminal, None);
    check(responses(), r#"{"status":"failed","output":[]}"#, error(r#"{"status":"failed","output":[]}"#), None);
    check(responses(), "{}", Seen::Malformed, None);
    check(
        Tap::embeddings(),
        r#"{"data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        Seen::Terminal,
        Some(Usage { input: 8, ..Usage::default() }),
    );
    check(Tap::embeddings(), r#"{"data":[]}"#, Seen::Malformed, None);
}

#[test]
fn the_tier_that_served_is_the_one_that_was_told_last() {
    let whole = |protocol: Protocol, body: &str| {
        let mut tap = Tap::new(protocol);
        assert_eq!(tap.whole(body.as_bytes()), Seen::Terminal, "{body}");
        tap.tier().map(str::to_owned)
    };
    let chat = |tier: &str| format!(r#"{{"choices":[{{"message":{{}}}}],"service_tier":{tier}}}"#);
    assert_eq!(whole(Protocol::Chat, &chat("\"flex\"")).as_deref(), Some("flex"));
    for none in ["null", "7", "{}", "\"\"", "\"a\\u0062\"", &format!("\"{}\"", "x".repeat(65))] {
        assert_eq!(whole(Protocol::Chat, &chat(none)), None, "{none} passes and is no tier");
    }
    let response = r#"{"status":"completed","output":[],"service_tier":"default"}"#;
    assert_eq!(whole(Protocol::Responses, response).as_deref(), Some("default"));
    let message = r#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1,"service_tier":"priority"}}"#;
    assert_eq!(whole(Protocol::Messages, message).as_deref(), Some("priority"));
    let tap = check(
        Protocol::Responses,
        "data: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"service_tier\":\"auto\"}}\n\n\
         data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[],\"service_tier\":\"priority\"}}\n\n",
        &[Seen::Other, Seen::Terminal],
        None,
    );
    assert_eq!(tap.tier(), Some("priority"));
}

#[test]
fn the_reason_to_stop_is_told_before_the_end() {
    let check = |protocol: Protocol, expected: &[(&str, bool)]| {
        let (mut tap, mut scanner) = (Tap::new(protocol), Scanner::default());
        for (data, is_ending) in expected {
            scanner.push(format!("data: {data}\n\n").as_bytes());
            let _ = tap.frame(&scanner.next_frame().unwrap().unwrap());
            assert_eq!(tap.is_ending(), *is_ending, "{protocol}: {data}");
        }
    };
    let choice = |index: u32, said: &str, reason: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{{said}}},"finish_reason":{reason}}}]}}"#)
    };
    let says = r#""content":"x""#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    check(
        Protocol::Chat,
        &[
            (&choice(0, says, "null"), false),
            (&choice(1, says, r#""""#), false),
            (&choice(1, "", r#""length""#), false),
            (&choice(0, says, r#""stop""#), true),
            // Figures, and what filters say.
            (&choice(0, "", "null"), true),
            (usage, true),
            // It begins late.
            (&choice(2, says, "null"), false),
            (&choice(2, "", r#""stop""#), true),
            ("[DONE]", true),
        ],
    );
    let without_index = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
    check(Protocol::Chat, &[(without_index, true)]);
    // What this one calls an end is none.
    check(Protocol::Chat, &[(&choice(0, says, r#""stop""#), true), (&choice(0, says, r#""stop""#), false)]);
    check(Protocol::Chat, &[(&choice(128, "", r#""stop""#), false), ("[DONE]", true)]);
    check(
        Protocol::Messages,
        &[
            (r#"{"type":"content_block_delta","delta":{"text":"x"}}"#, false),
            (r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":1}}"#, false),
            (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#, true),
            (r#"{"type":"message_stop"}"#, true),
        ],
    );
    check(
        Protocol::Gemini,
        &[
            (r#"{"candidates":[{"index":0,"content":{"parts":[{"text":"x"}]}}]}"#, false),
            (r#"{"candidates":[{"index":0,"finishReason":"STOP"}]}"#, true),
        ],
    );
    check(
        Protocol::Responses,
        &[
            (r#"{"type":"response.output_item.done"}"#, false),
            (r#"{"type":"response.completed","response":{"status":"completed"}}"#, true),
        ],
    );
}
