//! What is rare: huge pieces, trickles, dead connections, clients that vanish early.

use std::time::Duration;

use agentos_router::Kind;
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::chunk,
};

#[tokio::test]
async fn a_huge_chunk_passes_and_an_endless_event_breaks_the_stream() {
    let huge = chunk(&"x".repeat(3 << 20));
    let sent = [huge.as_str(), "data: [DONE]\n\n"].concat();
    let provider = Provider::start(vec![
        Play::Events(vec![Piece::Bytes(sent)]),
        Play::Events(vec![Piece::Bytes(chunk("h")), Piece::Bytes(format!("data: {}", "x".repeat(17 << 20)))]),
    ])
    .await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let text = streamed(house.chat(hello(true)).await).await;
    assert!(text.starts_with(&huge) && text.ends_with("data: [DONE]\n\n"));
    let text = streamed(house.chat(hello(true)).await).await;
    assert!(!text.contains("[DONE]") && text.contains("\"error\""), "{}", &text[text.len().saturating_sub(500)..]);
}

#[tokio::test]
async fn a_trickle_byte_by_byte_is_the_same_stream() {
    let sent = [chunk("h\u{e9}llo").as_str(), "data: [DONE]\n\n"].concat();
    let drops = sent.chars().map(|c| Piece::Bytes(c.to_string())).collect();
    let provider = Provider::start(vec![Play::Events(drops)]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let text = streamed(house.chat(hello(true)).await).await;
    let events: String = text.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect();
    assert_eq!(events, sent);
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_attempt() {
    let with_close = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        answer().len(),
        answer()
    );
    let provider = Provider::start(vec![Play::Raw(with_close), Play::Whole(200, "", answer())]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    assert_eq!(whole(house.chat(hello(false)).await), answer());
    let reply = house.chat(hello(false)).await;
    // The provider has closed what it never promised to keep; whether we saw it in time, or sent into it and were told that
    // nothing arrived, the request is sent once.
    if reply.status == 200 {
        assert_eq!(header(&reply, "x-agent-os-attempts"), Some("1"));
        assert_eq!(provider.got().len(), 2);
    } else {
        assert_eq!(reply.status, 502, "it was sent into a connection that was closing, which nobody can tell apart");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_recorded_and_what_was_held_is_spent() {
    let provider = Provider::start(vec![Play::Silence]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    house.budget(agentos_types::budget::BudgetUnit::NanoUsd, 1_000_000).await;
    {
        let mut asked = Box::pin(house.chat(hello(false)));
        tokio::select! {
            _ = &mut asked => panic!("no answer was sent"),
            () = until(|| !provider.got().is_empty()) => {}
        }
    }
    provider.left().await;
    until(|| house.records().len() == 2).await;
    let outcome = house.outcome().await;
    assert_eq!((&outcome["end"], &outcome["estimated"]), (&json!("abandoned"), &json!(true)));
    let (used, reserved) = house.stands().await;
    assert_eq!((json!(used), reserved), (outcome["nano_usd"].clone(), 0));
    assert!(used >= 50 * 20, "as much as it could have cost: {used}");
}

/// Only ever waits on a condition.
pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn nothing_of_a_body_stops_the_engine() {
    let bodies = ["{}", "[]", "null", "{\"model\":1}", "{\"model\":\"\"}", "{\"model\":\"m\"", "\u{0}"];
    for body in bodies {
        let request = Default::default();
        let bytes = bytes::Bytes::copy_from_slice(body.as_bytes());
        let id = "req_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap();
        assert!(
            agentos_models::ModelCall::read(agentos_models::Operation::Chat, bytes, id, request).is_err(),
            "{body}"
        );
    }
    let odd = [json!({"choices": []}), json!({"choices": "x"}), json!([]), json!({"choices": [{"message": null}]})];
    for answer in odd {
        let provider = Provider::start(vec![Play::Whole(200, "", answer.to_string())]).await;
        let house = House::new(vec![target(Kind::Openai, &provider)]).await;
        let reply = house.chat(hello(false)).await;
        assert_eq!(reply.status, 502, "{answer}");
        let told: Value = serde_json::from_str(&whole(reply)).unwrap();
        assert_eq!(told["error"]["agent_os"]["class"], "malformed", "{told}");
    }
}
