//! The end of a stream: nothing that tells it leaves before the outcome is durable, and nothing else is held.

use std::time::Duration;

use agentos_models::{Body, Operation};
use agentos_router::Kind;
use serde_json::{Value, json};

use super::{
    house::{House, hello, streamed, target},
    provider::{Piece, Play, Provider},
    streams::{DONE, chunk, events, finish, pieces, usage},
};

fn event(body: &Value) -> String {
    format!("event: {}\ndata: {body}\n\n", body["type"].as_str().unwrap())
}

/// As Anthropic streams "hi".
fn messages() -> [String; 6] {
    [
        event(&json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
            "model": "real-m1", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": 1}}})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        event(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}})),
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 3}})),
        event(&json!({"type": "message_stop"})),
    ]
}

/// As Gemini streams "hi", with the reason beside the last of the text.
fn gemini() -> [String; 2] {
    let data = |body: Value| format!("data: {body}\n\n");
    [
        data(json!({"candidates": [{"content": {"parts": [{"text": "h"}], "role": "model"}, "index": 0}],
            "responseId": "r1", "modelVersion": "real-m1"})),
        data(json!({"candidates": [{"content": {"parts": [{"text": "i"}], "role": "model"}, "index": 0,
            "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}})),
    ]
}

fn of_choice(index: u32, delta: &Value, reason: Option<&str>) -> String {
    let body = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1",
        "choices": [{"index": index, "delta": delta, "finish_reason": reason}]});
    format!("data: {body}\n\n")
}

fn request(operation: Operation) -> String {
    match operation {
        Operation::Responses => json!({"model": "fast", "input": "hello", "max_output_tokens": 50, "stream": true}),
        _ => hello(true),
    }
    .to_string()
}

/// Whatever tells a client of either protocol that the answer is whole.
const TELLS: [&str; 6] =
    [r#""finish_reason":"stop""#, "end_turn", "message_stop", "response.completed", "[DONE]", "cost-nano-usd"];

#[tokio::test]
async fn nothing_that_tells_the_end_leaves_before_the_record() {
    let chat = [chunk("hi").as_str(), &finish(), &usage(), DONE].concat();
    let (messages, gemini) = (messages().concat(), gemini().concat());
    for (kind, operation, sent) in [
        (Kind::Openai, Operation::Chat, &chat),
        (Kind::Anthropic, Operation::Messages, &messages),
        (Kind::Anthropic, Operation::Chat, &messages),
        (Kind::Anthropic, Operation::Responses, &messages),
        (Kind::Gemini, Operation::Chat, &gemini),
        (Kind::Gemini, Operation::Messages, &gemini),
        (Kind::OpenaiCompatible, Operation::Messages, &chat),
    ] {
        let told = format!("{kind}, {operation:?}");
        let provider = Provider::always(Play::Events(pieces(&[sent]))).await;
        let house = House::new(vec![target(kind, &provider)]).await;
        house.record_by_commit();
        let whole = streamed(house.ask(operation, &request(operation)).await).await;
        assert!(TELLS.iter().filter(|tells| whole.contains(**tells)).count() >= 2, "{told}: {whole}");

        *house.log.refuses.lock().unwrap() = Some("outcome");
        let text = streamed(house.ask(operation, &request(operation)).await).await;
        assert!(text.contains("hi") || text.contains(r#""h""#) && text.contains(r#""i""#), "{told}: {text}");
        assert!(text.contains("AOS-1405"), "{told}: {text}");
        assert_eq!(TELLS.iter().find(|tells| text.contains(**tells)), None, "{told}: {text}");
    }
}

#[tokio::test]
async fn a_choice_that_ends_holds_nothing_of_the_others() {
    let mut play = pieces(&[
        &of_choice(0, &json!({"content": "a"}), None),
        &of_choice(0, &json!({}), Some("stop")),
        &of_choice(1, &json!({"content": "b"}), None),
    ]);
    play.push(Piece::Stall);
    let provider = Provider::start(vec![Play::Events(play)]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let mut body = hello(true);
    body["n"] = json!(2);
    let Body::Stream(mut receiver) = house.chat(body).await.body else { panic!("no stream") };
    let mut text = String::new();
    while !text.contains(r#""content":"b""#) {
        text.push_str(std::str::from_utf8(&receiver.recv().await.unwrap()).unwrap());
    }
    let (end, other) = (text.find(r#""stop""#).unwrap(), text.find(r#""content":"b""#).unwrap());
    assert!(end < other, "in the order in which they came: {text}");
}

#[tokio::test]
async fn a_provider_that_goes_on_behind_its_ends_is_passed_on_as_it_comes() {
    // Some write a reason into every chunk, others an empty one.
    for reason in ["stop", ""] {
        let said = |text: &str| of_choice(0, &json!({"content": text}), Some(reason));
        let mut play = pieces(&[&said("a"), &said("b"), &said("c")]);
        play.push(Piece::Stall);
        let provider = Provider::start(vec![Play::Events(play)]).await;
        let house = House::new(vec![target(Kind::OpenaiCompatible, &provider)]).await;
        let Body::Stream(mut receiver) = house.chat(hello(true)).await.body else { panic!("no stream") };
        let mut text = String::new();
        while !text.contains(r#""content":"c""#) {
            text.push_str(std::str::from_utf8(&receiver.recv().await.unwrap()).unwrap());
        }
        assert_eq!(events(&text), [said("a"), said("b"), said("c")].concat());
    }
}

#[tokio::test]
async fn an_end_without_end_is_a_stream_that_broke() {
    let filler = of_choice(0, &json!({}), None);
    let more = filler.repeat((1 << 20) / filler.len() + 1);
    let sent = [chunk("hi").as_str(), &finish(), &more].concat();
    let provider = Provider::start(vec![Play::Events(vec![Piece::Bytes(sent), Piece::Stall])]).await;
    let mut target = target(Kind::Openai, &provider);
    target.waits.idle = Duration::from_secs(600);
    let house = House::new(vec![target]).await;
    let text = streamed(house.chat(hello(true)).await).await;
    assert!(text.starts_with(&chunk("hi")) && text.contains("goes on without ending"), "{}", text.len());
    assert!(!text.contains(r#""finish_reason":"stop""#));
    assert_eq!(house.outcome().await["end"], "broken");
}

#[tokio::test]
async fn a_last_event_without_the_line_behind_it_is_all_there() {
    let [first, last] = gemini();
    let sent = [first.as_str(), last.trim_end()].concat();
    let provider = Provider::start(vec![Play::Events(pieces(&[&sent]))]).await;
    let house = House::new(vec![target(Kind::Gemini, &provider)]).await;
    let text = streamed(house.chat(hello(true)).await).await;
    for told in [r#""content":"h""#, r#""content":"i""#, r#""finish_reason":"stop""#] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(text.ends_with(DONE), "{text}");
    assert_eq!(house.outcome().await["tokens_output"], 2);
}
