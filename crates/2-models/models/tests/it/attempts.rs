//! What goes with an attempt, what it is billed by, and whom a deadline blames.

use std::{sync::Arc, time::Duration};

use agentos_catalog::{Catalog, Family};
use agentos_models::{Operation, Policy};
use agentos_router::Kind;
use agentos_types::budget::BudgetUnit::NanoUsd;
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, parsed, streamed, target},
    provider::{Got, Play, Provider},
    streams::{DONE, chunk, finish, pieces},
};

fn key(got: &Got) -> Option<&str> {
    got.head.lines().find_map(|line| line.strip_prefix("idempotency-key: "))
}

#[tokio::test]
async fn an_attempt_of_unknown_fate_is_repeated_under_its_key_and_an_answered_one_is_not() {
    let plays = vec![Play::Silence, Play::Whole(500, "", "oops".into()), Play::Whole(200, "", answer())];
    let provider = Provider::start(plays).await;
    let mut first = target(Kind::Openai, &provider);
    first.waits.whole = Duration::from_millis(200);
    let mut later = first.clone();
    later.waits.whole = Duration::from_secs(20);
    let house = House::new(vec![first, later.clone(), later]).await;
    let mut call = house.call(Operation::Chat, &hello(false).to_string());
    call.idempotency_key = Some("of-the-client".into());
    assert_eq!(house.run(call).await.status, 200);
    let got = provider.got();
    let keys: Vec<&str> = got.iter().filter_map(key).collect();
    assert_eq!((keys.len(), keys[0] == keys[1], keys[1] == keys[2]), (3, true, false), "{keys:?}");
    assert!(keys[0].starts_with("agent-os-") && keys[0].len() == 49, "{keys:?}");
    assert!(got.iter().all(|got| !got.head.contains("of-the-client")), "a client's key stays here");
}

#[tokio::test]
async fn no_two_calls_share_a_key_and_who_documents_none_gets_none() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    house.chat(hello(false)).await;
    house.chat(hello(false)).await;
    let got = provider.got();
    assert_ne!(key(&got[0]), key(&got[1]), "the same body of another call is another call");
    for kind in [Kind::OpenaiCompatible, Kind::Azure, Kind::Ollama] {
        let provider = Provider::always(Play::Whole(200, "", answer())).await;
        let house = House::new(vec![target(kind, &provider)]).await;
        house.chat(hello(false)).await;
        assert_eq!(key(&provider.got()[0]), None, "{kind}");
    }
}

#[tokio::test]
async fn the_tier_that_served_is_billed_and_not_the_one_that_was_asked_for() {
    let catalog = Catalog::vendored().unwrap();
    let price = catalog.facts(Family::Openai, "gpt-4.1").unwrap().price.clone();
    let cost = |asked: Option<&'static str>, served: Option<&'static str>, is_stream: bool| {
        let price = price.clone();
        async move {
            let mut body: Value = serde_json::from_str(&answer()).unwrap();
            body["service_tier"] = json!(served);
            let mut last: Value = json!({"choices": [], "usage": body["usage"]});
            last["service_tier"] = json!(served);
            let events = [chunk("h"), finish(), format!("data: {last}\n\n"), DONE.to_owned()].concat();
            let play =
                if is_stream { Play::Events(pieces(&[&events])) } else { Play::Whole(200, "", body.to_string()) };
            let provider = Provider::always(play).await;
            let mut target = target(Kind::Openai, &provider);
            target.price = price;
            let house = House::new(vec![target]).await;
            let mut ask = hello(is_stream);
            ask["service_tier"] = json!(asked);
            let reply = house.chat(ask).await;
            assert_eq!(reply.status, 200);
            if is_stream {
                streamed(reply).await;
            }
            house.outcome().await["nano_usd"].as_i64().unwrap()
        }
    };
    // Seven tokens in and two out, in thousandths of a nano-USD each: 2,000 and 8,000, or 3,500 and 14,000.
    let (usual, dear) = (7 * 2_000 + 2 * 8_000, 7 * 3_500 + 2 * 14_000);
    for is_stream in [false, true] {
        assert_eq!(cost(Some("priority"), Some("default"), is_stream).await, usual, "served at the usual tier");
        assert_eq!(cost(Some("priority"), Some("priority"), is_stream).await, dear);
        assert_eq!(cost(None, Some("priority"), is_stream).await, dear, "a project may have another default");
        assert_eq!(cost(Some("priority"), None, is_stream).await, dear, "who says nothing did what was asked for");
        assert_eq!(cost(Some("auto"), Some("auto"), is_stream).await, usual);
    }
}

#[tokio::test]
async fn a_deadline_blames_only_who_had_the_time_that_is_his_own() {
    for (own, expected) in [(20_000, "nothing"), (50, "timeout")] {
        let provider = Provider::start(vec![Play::Silence]).await;
        let mut target = target(Kind::Openai, &provider);
        target.waits.whole = Duration::from_millis(own);
        let policy = Policy { deadline: Duration::from_millis(400), ..Policy::default() };
        let house = House::with(vec![target], policy).await;
        assert_eq!(house.chat(hello(false)).await.status, 504);
        assert_eq!(house.reports.lock().unwrap().as_slice(), [expected], "{own}");
        assert_eq!(house.outcome().await["class"], "timeout", "the client is told all the same");
    }
}

/// What the first refusal of a budget of one says was needed, at ten for a token of input and twenty for one of output.
async fn needed(body: Value, change: impl Fn(&mut agentos_router::Target)) -> i64 {
    let provider = Provider::start(Vec::new()).await;
    let mut target = target(Kind::Openai, &provider);
    change(&mut target);
    let house = House::new(vec![target]).await;
    house.budget(NanoUsd, 1).await;
    let reply = house.chat(body).await;
    assert_eq!(reply.status, 402);
    assert!(provider.got().is_empty());
    parsed(reply)["error"]["agent_os"]["needed"].as_i64().unwrap()
}

#[tokio::test]
async fn a_budget_holds_for_bytes_that_are_a_token_each_for_any_image_and_for_files() {
    let mut hostile = hello(false);
    hostile["messages"][0]["content"] = json!("\u{1F9FF}7".repeat(3_000));
    let bytes = i64::try_from(hostile.to_string().len()).unwrap();
    assert_eq!(needed(hostile, |_| {}).await, (bytes + 64) * 10 + 50 * 20);

    let mut image = hello(false);
    image["messages"][0]["content"] = json!([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]);
    let bytes = i64::try_from(image.to_string().len()).unwrap();
    let with = |tokens, context| {
        needed(image.clone(), move |target| (target.image_tokens, target.context) = (tokens, context))
    };
    assert_eq!(with(48_169, None).await, (bytes + 64 + 48_169) * 10 + 50 * 20);
    assert_eq!(with(48_169, Some(8_000)).await, (bytes + 64 + 8_000) * 10 + 50 * 20, "no more than its window");

    let mut file = hello(false);
    file["messages"][0]["content"] =
        json!([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}]);
    assert_eq!(needed(file, |_| {}).await, 8_000 * 10 + 50 * 20, "it may unfold to all that the model reads");
}

#[tokio::test]
async fn what_nobody_counted_is_billed_by_the_usual_bound_and_not_by_the_one_that_was_held() {
    let silent = Provider::start(vec![Play::Silence]).await;
    let mut target = target(Kind::Openai, &silent);
    target.waits.whole = Duration::from_millis(200);
    let house = Arc::new(House::new(vec![target]).await);
    house.budget(NanoUsd, 10_000_000).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-estimated")), (504, Some("true")));
    let bytes = i64::try_from(hello(false).to_string().len()).unwrap();
    assert_eq!(house.stands().await, (((bytes + 2) / 3 + 64) * 10, 0));
}
