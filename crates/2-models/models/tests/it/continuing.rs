//! A stream that breaks and is written on by a model that takes its beginning as a prefill.

use agentos_models::Operation;
use agentos_router::{Kind, Target};
use agentos_types::budget::BudgetUnit::NanoUsd;
use agentos_wire::{Delta, Gather, Part, Protocol, StreamReader, sse::Scanner};
use serde_json::{Value, json};

use super::{
    house::{House, header, hello, streamed, target},
    provider::{Piece, Play, Provider},
    streams::{DONE, chunk, finish, pieces},
};

fn event(kind: &str, mut body: Value) -> String {
    body["type"] = json!(kind);
    format!("event: {kind}\ndata: {body}\n\n")
}

fn begin(id: &str) -> String {
    let message = json!({"id": id, "type": "message", "role": "assistant", "model": "real-m1", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 1}});
    let start = event("message_start", json!({"message": message}));
    start + &event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}}))
}

fn text(text: &str) -> String {
    event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": text}}))
}

fn end() -> String {
    let delta = json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 3}});
    [event("content_block_stop", json!({"index": 0})), event("message_delta", delta), event("message_stop", json!({}))]
        .concat()
}

/// The first breaks and may be continued, by the second.
async fn two(kind: Kind, first: Vec<Piece>, second: Play) -> (House, Provider, Provider) {
    two_with(kind, first, second, |_| {}).await
}

async fn two_with(
    kind: Kind,
    first: Vec<Piece>,
    second: Play,
    change: impl Fn(&mut Target),
) -> (House, Provider, Provider) {
    let (one, other) = (Provider::start(vec![Play::Events(first)]).await, Provider::start(vec![second]).await);
    let mut targets = [target(kind, &one), target(Kind::Anthropic, &other)];
    targets.iter_mut().for_each(|target| target.may_continue = true);
    (targets[1].attempt, targets[1].is_continuation) = (2, true);
    targets[1].id = "anthropic/m2".into();
    targets.iter_mut().for_each(change);
    let house = House::new(targets.to_vec()).await;
    house.budget(NanoUsd, 10_000_000).await;
    (house, one, other)
}

fn read(protocol: Protocol, stream: &str) -> (String, Option<(u64, u64)>) {
    let (mut scanner, mut reader, mut gather) = (Scanner::default(), StreamReader::new(protocol), Gather::default());
    scanner.push(stream.as_bytes());
    let mut deltas: Vec<Delta> = Vec::new();
    while let Some(frame) = scanner.next_frame().unwrap() {
        if !frame.is_comment() {
            deltas.extend(reader.frame(&frame).unwrap());
        }
    }
    deltas.extend(reader.end().unwrap());
    deltas.into_iter().for_each(|delta| gather.delta(delta).unwrap());
    let answer = gather.end().unwrap();
    assert_eq!(answer.choices.len(), 1);
    let texts = answer.choices[0].parts.iter().map(|part| match part {
        Part::Text { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    });
    (texts.collect(), answer.usage.map(|usage| (usage.input, usage.output)))
}

#[tokio::test]
async fn a_stream_of_chat_goes_on_as_one_answer_that_says_where_it_was_joined() {
    let rest = begin("msg_2") + &text(" there,") + &text(" friend") + &end();
    let (house, _one, other) =
        two(Kind::Openai, [pieces(&[&chunk("Hello")]), vec![Piece::Cut]].concat(), Play::Events(pieces(&[&rest])))
            .await;
    let mut body = hello(true);
    body["stream_options"] = json!({"include_usage": true});
    let stream = streamed(house.chat(body).await).await;
    assert!(stream.starts_with(&chunk("Hello")) && stream.ends_with(DONE), "{stream}");
    assert!(!stream.contains("\"error\""), "{stream}");
    assert!(stream.contains(": agent-os continued target=anthropic/m2 after-bytes=5\n\n"), "{stream}");
    assert!(stream.contains(r#""continued":{"target":"anthropic/m2","after_bytes":5}"#), "{stream}");
    let (joined, used) = read(Protocol::Chat, &stream);
    assert_eq!(joined, "Hello there, friend");
    let ids = stream.matches(r#""id":"c1""#).count();
    assert!(ids > 3 && !stream.contains("msg_2"), "one answer has one id: {stream}");
    // What the first has read and written by our count, and what the second says.
    let (input, output) = used.unwrap();
    assert!(input > 5 && output == 2 + 3, "{input} {output}");
    let sent: Value = serde_json::from_str(&other.got()[0].body).unwrap();
    assert_eq!(sent["messages"].as_array().unwrap().last().unwrap()["role"], "assistant");
    assert_eq!(sent["messages"][1]["content"][0]["text"], "Hello");
    assert_eq!(sent["max_tokens"], 48, "what was delivered counts against the client's limit");
    let outcome = house.outcome().await;
    assert_eq!((&outcome["end"], &outcome["continued"], &outcome["attempts"]), (&json!("done"), &json!(1), &json!(2)));
    assert_eq!((&outcome["target"], &outcome["tokens_output"]), (&json!("anthropic/m2"), &json!(5)));
    let (held, reserved) = house.stands().await;
    assert_eq!((json!(held), reserved), (outcome["nano_usd"].clone(), 0));
    assert_eq!(house.reports.lock().unwrap().as_slice(), ["answered", "stream_broken", "answered"]);
}

#[tokio::test]
async fn a_stream_of_messages_that_was_passed_through_goes_on_in_its_open_block() {
    let error = event("error", json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}));
    let first = pieces(&[&begin("msg_1"), &text("Hello"), &error]);
    let rest = begin("msg_2") + &text(" there") + &end();
    let (house, ..) = two(Kind::Anthropic, first, Play::Events(pieces(&[&rest]))).await;
    let body =
        json!({"model": "fast", "max_tokens": 50, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let stream = streamed(house.ask(Operation::Messages, &body.to_string()).await).await;
    assert!(stream.starts_with(&(begin("msg_1") + &text("Hello"))), "{stream}");
    let (joined, used) = read(Protocol::Messages, &stream);
    // Of the first by our count, in which the beginning of a block is a part; of the second as it says.
    assert_eq!((joined.as_str(), used), ("Hello there", Some((10, 10 + 3))));
    assert_eq!((stream.matches("message_start\n").count(), stream.matches("content_block_start\n").count()), (1, 1));
    assert!(stream.contains("agent_os") && !stream.contains("event: error"), "{stream}");
    assert_eq!(house.outcome().await["continued"], 1);
}

#[tokio::test]
async fn a_field_that_the_second_must_not_see_is_named_at_the_joint() {
    let rest = begin("msg_2") + &text(" there") + &end();
    let first = [pieces(&[&chunk("Hello")]), vec![Piece::Cut]].concat();
    let (house, _one, other) = two_with(Kind::Openai, first, Play::Events(pieces(&[&rest])), |target| {
        if target.is_continuation {
            target.drop_fields = vec!["temperature".to_owned()].into();
        }
    })
    .await;
    let mut body = hello(true);
    body["temperature"] = json!(0.5);
    let stream = streamed(house.chat(body).await).await;
    assert!(stream.contains(r#""dropped_fields":["temperature"]"#) && stream.ends_with(DONE), "{stream}");
    assert!(!other.got()[0].body.contains("temperature"));
}

#[tokio::test]
async fn what_cannot_be_joined_honestly_ends_with_its_error() {
    let call = json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "t", "type": "function",
        "function": {"name": "f", "arguments": ""}}]}, "finish_reason": null}]});
    let thought = json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": null}]});
    let event = |body: &Value| format!("data: {body}\n\n");
    let asked = |field: &str, value: Value| {
        let mut body = hello(true);
        body[field] = value;
        body
    };
    let begun = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So"}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
    for (delivered, body, why) in [
        (vec![chunk("Hello ")], hello(true), "a blank at the end"),
        (vec![chunk("Hello"), event(&call)], hello(true), "within a call of a tool"),
        (vec![event(&thought), chunk("Hello")], hello(true), "thoughts cannot be given back"),
        (vec![chunk("Hello"), finish()], hello(true), "it had ended but for its last word"),
        (vec![chunk("Hello")], asked("n", json!(2)), "two answers"),
        (vec![chunk("Hello")], asked("response_format", schema), "a form that was asked for"),
        (vec![chunk("Hello")], asked("messages", begun), "the client has begun it"),
        (vec![chunk("Hello")], asked("reasoning_effort", json!("low")), "thinking was asked for"),
    ] {
        let texts: Vec<&str> = delivered.iter().map(String::as_str).collect();
        let broken = [pieces(&texts), vec![Piece::Cut]].concat();
        let (house, _one, other) = two(Kind::Openai, broken, Play::Silence).await;
        let stream = streamed(house.chat(body).await).await;
        assert!(stream.contains("\"error\"") && !stream.contains(DONE), "{why}: {stream}");
        assert!(other.got().is_empty(), "{why}");
        let outcome = house.outcome().await;
        assert_eq!((&outcome["end"], outcome.get("continued")), (&json!("broken"), None), "{why}");
    }
}

#[tokio::test]
async fn who_did_not_want_it_or_finds_nobody_reads_the_error_of_before() {
    let broken = || [pieces(&[&chunk("Hello")]), vec![Piece::Cut]].concat();
    let refused = json!({"type": "error", "error": {"type": "invalid_request_error",
        "message": "This model does not support assistant message prefill."}});
    type Change = fn(&mut Target);
    let cases: [(Play, Change, usize, &str); 4] = [
        (Play::Silence, |target| target.may_continue = false, 0, "not wanted"),
        (Play::Silence, |target| target.is_continuation = false, 0, "no prefill"),
        (Play::Whole(400, "", refused.to_string()), |_| {}, 1, "refused"),
        (Play::Hangup, |_| {}, 1, "no answer"),
    ];
    for (play, change, asked, why) in cases {
        let (house, _one, other) = two_with(Kind::Openai, broken(), play, change).await;
        let stream = streamed(house.chat(hello(true)).await).await;
        assert!(stream.starts_with(&chunk("Hello")) && stream.contains("broke off in the middle"), "{why}: {stream}");
        assert!(!stream.contains(DONE), "{why}: {stream}");
        assert_eq!(other.got().len(), asked, "{why}");
        assert_eq!(house.outcome().await["end"], "broken", "{why}");
        assert_eq!(house.ledger.reserved_in_all(), 0, "{why}");
    }
}

#[tokio::test]
async fn the_second_breaks_too_and_a_client_that_leaves_meanwhile_stops_it() {
    let broken = || [pieces(&[&chunk("Hello")]), vec![Piece::Cut]].concat();
    let again = Play::Events([pieces(&[&(begin("msg_2") + &text(" there"))]), vec![Piece::Cut]].concat());
    let (house, ..) = two(Kind::Openai, broken(), again).await;
    let stream = streamed(house.chat(hello(true)).await).await;
    assert!(stream.contains(r#""content":" there""#) && stream.contains("\"error\""), "{stream}");
    assert!(!stream.contains(DONE));
    let outcome = house.outcome().await;
    assert_eq!((&outcome["end"], &outcome["continued"]), (&json!("broken"), &json!(1)));
    assert_eq!(house.ledger.reserved_in_all(), 0);

    let (house, _one, other) = two(Kind::Openai, broken(), Play::Silence).await;
    let reply = house.chat(hello(true)).await;
    assert_eq!(header(&reply, "x-agent-os-attempts"), Some("1"));
    let agentos_models::Body::Stream(receiver) = reply.body else { panic!("no stream") };
    super::hard::until(|| other.got().len() == 1).await;
    drop(receiver);
    other.left().await;
    super::hard::until(|| house.records().len() == 2).await;
    assert_eq!(house.outcome().await["end"], "client-gone");
    assert_eq!(house.ledger.reserved_in_all(), 0);
}
