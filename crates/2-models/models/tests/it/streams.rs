//! Streams: bytes through, the end held until it is recorded, an error where it broke.

use std::time::Duration;

use agentos_models::{Body, Operation};
use agentos_router::Kind;
use serde_json::{Value, json};

use super::{
    house::{House, header, hello, streamed, target},
    provider::{Piece, Play, Provider},
};

pub fn chunk(text: &str) -> String {
    let body = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {body}\n\n")
}

pub fn finish() -> String {
    let body = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    format!("data: {body}\n\n")
}

pub fn usage() -> String {
    let body = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1", "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}});
    format!("data: {body}\n\n")
}

pub const DONE: &str = "data: [DONE]\n\n";

pub fn pieces(texts: &[&str]) -> Vec<Piece> {
    texts.iter().map(|text| Piece::Bytes((*text).to_owned())).collect()
}

/// Without our comments.
pub fn events(text: &str) -> String {
    text.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect()
}

#[tokio::test]
async fn events_pass_byte_for_byte_and_the_usage_that_nobody_asked_for_stays_here() {
    let (first, second, last) = (chunk("h"), chunk("i"), finish());
    let sent = [first.as_str(), &second, &last, &usage(), DONE].concat();
    // Cut anywhere: in the middle of an event, of a line, of a character.
    let (left, right) = sent.split_at(first.len() + 20);
    let provider = Provider::start(vec![Play::Events(pieces(&[left, right]))]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let reply = house.chat(hello(true)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(header(&reply, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&reply, "x-agent-os-target"), Some("openai/m1"));
    let text = streamed(reply).await;
    assert_eq!(events(&text), [first.as_str(), &second, &last, DONE].concat());
    assert!(text.contains(": agent-os cost-nano-usd=110 estimated=false\n\n"), "{text}");
    assert!(provider.got()[0].body.contains(r#""stream_options":{"include_usage":true}"#));
    assert_eq!(house.outcome().await["end"], "done");
    assert_eq!(house.outcome().await["nano_usd"], 110);
    assert_eq!(house.ledger.reserved_in_all(), 0);
}

#[tokio::test]
async fn a_client_that_asked_for_usage_gets_it() {
    let sent = [chunk("h").as_str(), &finish(), &usage(), DONE].concat();
    let provider = Provider::start(vec![Play::Events(pieces(&[&sent]))]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let mut body = hello(true);
    body["stream_options"] = json!({"include_usage": true});
    assert_eq!(events(&streamed(house.chat(body).await).await), sent);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_never_well() {
    for (end, reason) in [
        (vec![Piece::Cut], "broke off"),
        (Vec::new(), "ended before its answer was whole"),
        (vec![Piece::BadChunk], "broke off"),
        (pieces(&["data: {\"nonsense\n\n"]), "none of its protocol"),
        (pieces(&["data: {\"error\":{\"message\":\"it is too hot\",\"code\":500}}\n\n"]), "it is too hot"),
        (vec![Piece::Stall], "fell silent"),
    ] {
        let mut play = pieces(&[&chunk("hello there")]);
        play.extend(end);
        let provider = Provider::start(vec![Play::Events(play)]).await;
        let mut target = target(Kind::Openai, &provider);
        target.waits.idle = Duration::from_millis(300);
        let house = House::new(vec![target]).await;
        let reply = house.chat(hello(true)).await;
        assert_eq!(reply.status, 200, "{reason}");
        let text = streamed(reply).await;
        assert!(text.starts_with(&chunk("hello there")), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        assert!(text.contains("\"error\"") && text.contains(reason), "{reason}: {text}");
        let outcome = house.outcome().await;
        assert_eq!((&outcome["end"], &outcome["class"]), (&json!("broken"), &json!("stream_broken")));
        assert_eq!((&outcome["estimated"], &outcome["tokens_output"]), (&json!(true), &json!(4)), "11 bytes, by three");
        let reports = house.reports.lock().unwrap().clone();
        assert_eq!(reports, ["answered", "stream_broken"]);
        assert_eq!(house.ledger.reserved_in_all(), 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_provider_and_pays_for_what_came() {
    let mut play = pieces(&[&chunk("hello there")]);
    play.push(Piece::Stall);
    let provider = Provider::start(vec![Play::Events(play)]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let reply = house.chat(hello(true)).await;
    let Body::Stream(mut receiver) = reply.body else { panic!("no stream") };
    receiver.recv().await.unwrap();
    drop(receiver);
    provider.left().await;
    assert!(house.background.stop(Duration::from_secs(20)).await);
    let outcome = house.outcome().await;
    assert_eq!((&outcome["end"], &outcome["tokens_output"]), (&json!("client-gone"), &json!(4)));
    assert_eq!(house.ledger.reserved_in_all(), 0);
}

#[tokio::test]
async fn a_stream_of_another_protocol_is_told_in_the_clients() {
    let event = |kind: &str, body: Value| format!("event: {kind}\ndata: {body}\n\n");
    let sent = [
        event(
            "message_start",
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
            "role": "assistant", "model": "real-m1", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        ),
        event(
            "content_block_start",
            json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}}),
        ),
        event(
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "hi"}}),
        ),
        event("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
        event(
            "message_delta",
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn",
            "stop_sequence": null}, "usage": {"output_tokens": 3}}),
        ),
        event("message_stop", json!({"type": "message_stop"})),
    ];
    for (play, is_whole) in [(sent.concat(), true), (sent[..4].concat(), false)] {
        let provider = Provider::start(vec![Play::Events(pieces(&[&play]))]).await;
        let house = House::new(vec![target(Kind::Anthropic, &provider)]).await;
        let text = streamed(house.chat(hello(true)).await).await;
        assert!(text.contains(r#""content":"hi""#), "{text}");
        assert_eq!(text.ends_with(DONE), is_whole, "{text}");
        assert_eq!(text.contains("\"error\""), !is_whole, "{text}");
        assert_eq!(house.outcome().await["estimated"], !is_whole);
        assert_eq!(house.outcome().await["tokens_input"], 5);
    }
}

#[tokio::test]
async fn who_cannot_stream_is_delivered_as_a_stream_and_says_so() {
    // By its settings, and by surprise.
    for is_known in [true, false] {
        let provider = Provider::start(vec![Play::Whole(200, "", super::house::answer())]).await;
        let mut target = target(Kind::OpenaiCompatible, &provider);
        target.is_whole_only = is_known;
        let house = House::new(vec![target]).await;
        let reply = house.ask(Operation::Chat, &hello(true).to_string()).await;
        assert_eq!(header(&reply, "content-type"), Some("text/event-stream"));
        assert_eq!(header(&reply, "x-agent-os-stream"), Some("whole"));
        let text = super::house::whole(reply);
        assert!(text.contains(r#""content":"hi""#) && text.ends_with(DONE), "{text}");
        assert!(text.contains("kept"), "what Chat's events have no place for is told: {text}");
    }
}
