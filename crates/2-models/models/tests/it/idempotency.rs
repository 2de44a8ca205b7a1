//! Idempotency keys: one request, one provider's call, one answer, for whoever chose the key and for nobody else.

use std::{sync::Arc, time::Duration};

use agentos_models::{Body, Engine, ModelCall, Reply};
use agentos_monitor::ModelStart;
use agentos_router::Kind;
use agentos_store::Arg;
use agentos_types::Code;
use serde_json::{Value, json};

use super::BACKEND;
use crate::{
    house::{House, answer, header, hello, parsed, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::chunk,
};

const OTHER_TOKEN: &str = "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2F";

async fn house(provider: &Provider) -> House {
    House::on(BACKEND, vec![target(Kind::Openai, provider)]).await
}

/// The same call at another engine over the same store.
async fn run_on(engine: &Engine, house: &House, call: ModelCall) -> Reply {
    match house.monitor.model(&house.party, None, call).await.unwrap() {
        ModelStart::Go(pass) => engine.run(pass).await,
        ModelStart::Recorded(_) => panic!("no task"),
    }
}

fn code(reply: Reply) -> String {
    parsed(reply)["error"]["agent_os"]["code"].as_str().unwrap().to_owned()
}

fn stream() -> Vec<Piece> {
    let last = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    vec![
        Piece::Bytes(chunk("Hel")),
        Piece::Bytes(chunk("lo")),
        Piece::Bytes(format!("data: {last}\n\n")),
        Piece::Bytes("data: [DONE]\n\n".into()),
    ]
}

#[tokio::test]
async fn a_key_asks_once_and_stands_for_one_request_of_one_caller() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer()), Play::Whole(200, "", answer())]).await;
    let house = house(&provider).await;
    let first = house.run(house.keyed("k1", &hello(false))).await;
    assert_eq!(header(&first, "x-agent-os-replayed"), None);
    assert_eq!(whole(first), answer());
    let again = house.run(house.keyed("k1", &hello(false))).await;
    assert_eq!(header(&again, "x-agent-os-replayed"), Some("idempotency-key"));
    assert_eq!(header(&again, "x-agent-os-cost-nano-usd"), Some("0"));
    assert_eq!(header(&again, "x-agent-os-target"), Some("openai/m1"), "whose answer it is");
    assert_eq!(whole(again), answer(), "byte for byte");
    let other = house.run(house.keyed("k1", &json!({"model": "fast", "messages": []}))).await;
    assert_eq!((other.status, code(other)), (422, Code::MODEL_KEY_REUSED.to_string()));
    assert_eq!(provider.got().len(), 1);
    let of_other = house.call_of(OTHER_TOKEN, house.keyed("k1", &hello(false)));
    let of_other = house.run(of_other).await;
    assert_eq!((of_other.status, header(&of_other, "x-agent-os-replayed")), (200, None), "its own key");
    assert_eq!(provider.got().len(), 2);
    house.store.settle().await;
    let ends: Vec<Value> =
        house.records().iter().filter(|(phase, _)| phase == "outcome").map(|(_, facts)| facts["end"].clone()).collect();
    assert_eq!(ends, ["done", "replayed", "failed", "done"]);
    for key in ["", &"k".repeat(256)] {
        assert_eq!(house.run(house.keyed(key, &hello(false))).await.status, 400);
    }
}

#[tokio::test]
async fn an_answer_outlives_the_engine_that_gave_it_and_ends_after_a_day() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = house(&provider).await;
    assert_eq!(house.run(house.keyed("k1", &hello(false))).await.status, 200);
    let other = house.other_engine("b");
    let again = run_on(&other, &house, house.keyed("k1", &hello(false))).await;
    assert_eq!(header(&again, "x-agent-os-replayed"), Some("idempotency-key"));
    assert_eq!(whole(again), answer());
    let reused = run_on(&other, &house, house.keyed("k1", &hello(true))).await;
    assert_eq!(reused.status, 422);
    house.clock.advance(Duration::from_secs(86_401));
    let late = run_on(&other, &house, house.keyed("k1", &hello(true))).await;
    assert_ne!(late.status, 422, "a day later it is a new key");
    assert_eq!(provider.got().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_calls_with_one_key_are_one_call_of_the_provider() {
    let provider = Provider::start(vec![Play::Held(200, answer())]).await;
    let house = Arc::new(house(&provider).await);
    let run = |house: &Arc<House>| {
        let house = house.clone();
        tokio::spawn(async move { house.run(house.keyed("k1", &hello(false))).await })
    };
    let mut calls = vec![run(&house)];
    provider.asked().await;
    calls.extend((1..50).map(|_| run(&house)));
    // Whoever waits has an intent in the log by then.
    until(|| house.records().len() >= 50).await;
    provider.release();
    let mut replayed = 0;
    for call in calls {
        let reply = call.await.unwrap();
        replayed += usize::from(header(&reply, "x-agent-os-replayed") == Some("idempotency-key"));
        assert_eq!((reply.status, whole(reply)), (200, answer()));
    }
    assert_eq!((provider.got().len(), replayed), (1, 49));
    house.store.settle().await;
    assert_eq!(house.records().iter().filter(|(phase, _)| phase == "outcome").count(), 50);
}

/// Polls what no notice tells of.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_the_failure_of_the_first_and_the_next_one_tries_again() {
    let provider = Provider::start(vec![Play::Held(500, "{}".into()), Play::Whole(200, "", answer())]).await;
    let house = Arc::new(house(&provider).await);
    let run = |house: &Arc<House>| {
        let house = house.clone();
        tokio::spawn(async move { house.run(house.keyed("k1", &hello(false))).await })
    };
    let first = run(&house);
    provider.asked().await;
    let second = run(&house);
    until(|| house.records().len() >= 2).await;
    provider.release();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.status, second.status), (502, 502));
    assert_eq!(header(&second, "x-agent-os-replayed"), Some("idempotency-key"));
    assert_eq!(whole(first), whole(second));
    assert_eq!(provider.got().len(), 1, "nobody was asked for the second");
    assert_eq!(house.run(house.keyed("k1", &hello(false))).await.status, 200, "a failure is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_first_client_goes_away_one_of_those_who_wait_asks() {
    let provider = Provider::start(vec![Play::Silence, Play::Whole(200, "", answer())]).await;
    let house = Arc::new(house(&provider).await);
    let run = |house: &Arc<House>| {
        let house = house.clone();
        tokio::spawn(async move { house.run(house.keyed("k1", &hello(false))).await })
    };
    let first = run(&house);
    provider.asked().await;
    let second = run(&house);
    until(|| house.records().len() >= 2).await;
    first.abort();
    let second = second.await.unwrap();
    assert_eq!((second.status, header(&second, "x-agent-os-replayed")), (200, None));
    assert_eq!(provider.got().len(), 2);
}

#[tokio::test]
async fn a_stream_is_not_joined_and_is_given_again_once_it_is_whole() {
    let (mut begun, whole_stream) = (stream(), stream());
    begun.truncate(1);
    begun.push(Piece::Stall);
    let provider = Provider::start(vec![Play::Events(begun), Play::Events(whole_stream)]).await;
    let house = house(&provider).await;
    let first = house.run(house.keyed("k1", &hello(true))).await;
    let Body::Stream(receiver) = first.body else { panic!("no stream") };
    let second = house.run(house.keyed("k1", &hello(true))).await;
    assert_eq!((second.status, header(&second, "retry-after")), (409, Some("1")));
    assert_eq!(code(second), Code::MODEL_CALL_IN_FLIGHT.to_string());
    drop(receiver);
    provider.left().await;
    // What broke off is not kept.
    let text = loop {
        let again = house.run(house.keyed("k1", &hello(true))).await;
        if again.status == 200 {
            break streamed(again).await;
        }
        tokio::task::yield_now().await;
    };
    let replayed = house.run(house.keyed("k1", &hello(true))).await;
    assert_eq!(header(&replayed, "x-agent-os-replayed"), Some("idempotency-key"));
    assert_eq!(header(&replayed, "x-agent-os-cost-nano-usd"), Some("0"));
    let without_cost = |text: &str| text.lines().filter(|line| !line.starts_with(':')).collect::<Vec<_>>().join("\n");
    let given = streamed(replayed).await;
    assert!(given.contains("Hel") && given.trim_end().ends_with("[DONE]"), "{given}");
    assert_eq!(without_cost(&given).trim(), without_cost(&text).replace("\n\n\n", "\n\n").trim());
    assert_eq!(provider.got().len(), 2);
}

#[tokio::test]
async fn an_answer_that_the_log_did_not_take_is_told_to_nobody_and_asked_for_again() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = house(&provider).await;
    *house.log.refuses.lock().unwrap() = Some("outcome");
    assert_eq!(house.run(house.keyed("k1", &hello(false))).await.status, 503);
    *house.log.refuses.lock().unwrap() = None;
    let again = house.run(house.keyed("k1", &hello(false))).await;
    assert_eq!((again.status, header(&again, "x-agent-os-replayed")), (200, None));
}

#[tokio::test]
async fn the_answers_of_a_caller_have_a_bound() {
    let text = "x".repeat(3 << 20);
    let provider = Provider::always(Play::Whole(200, "", answer().replace("\"hi\"", &format!("\"{text}\"")))).await;
    let house = house(&provider).await;
    for key in 0..24 {
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(house.run(house.keyed(&format!("k{key}"), &hello(false))).await.status, 200);
    }
    let sums = |house: &House| {
        let store = house.store.clone();
        async move {
            let read = store.read(|conn| {
                conn.query_one(
                    "SELECT CAST(sum(bytes) AS BIGINT), count(*), (SELECT CAST(sum(bytes) AS BIGINT) FROM model_answer_use)
                     FROM model_answer WHERE kind = $1",
                    &[Arg::Text("key")],
                    |row| Ok((row.integer(0)?, row.integer(1)?, row.integer(2)?)),
                )
            });
            read.await.unwrap().unwrap()
        }
    };
    let (bytes, rows, counted) = sums(&house).await;
    assert!(bytes <= 64 << 20 && rows == 21, "{bytes} bytes in {rows} rows");
    assert_eq!(counted, bytes, "the sum is that of the rows");
    assert_eq!(
        header(&house.run(house.keyed("k23", &hello(false))).await, "x-agent-os-replayed"),
        Some("idempotency-key")
    );
    assert_eq!(
        header(&house.run(house.keyed("k0", &hello(false))).await, "x-agent-os-replayed"),
        None,
        "the oldest made room"
    );
    house.clock.advance(Duration::from_secs(90_000));
    let now = house.ambient.now();
    let taken = house.store.write(move |tx| agentos_models::prune_ended_answers(tx, now, 1_000)).await.unwrap();
    assert_eq!(taken, 21);
    let left = house.store.read(move |conn| agentos_models::count_ended_answers(conn, now)).await.unwrap();
    let use_rows = house.store.read(|conn| conn.query("SELECT bytes FROM model_answer_use", &[], |row| row.integer(0)));
    assert_eq!((left, use_rows.await.unwrap()), (0, Vec::new()));
}
