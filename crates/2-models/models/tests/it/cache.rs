//! The exact cache: for those whom the operator names, for requests that may be answered from memory, and honest about it.

use std::time::Duration;

use agentos_models::Operation;
use agentos_router::{Caching, Kind};
use agentos_types::budget::BudgetUnit::{NanoUsd, Requests};
use serde_json::{Value, json};

use super::BACKEND;
use crate::{
    house::{House, answer, header, parsed, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::chunk,
};

const CACHING: Caching =
    Caching { ttl: Duration::from_secs(60), bytes_max: 1 << 20, any_temperature: false, revision: 1 };
const OTHER_TOKEN: &str = "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2F";

async fn house(provider: &Provider) -> House {
    let house = House::on(BACKEND, vec![target(Kind::Openai, provider)]).await;
    *house.caching.lock().unwrap() = Some(CACHING);
    house
}

fn fixed(text: &str, stream: bool) -> Value {
    json!({"model": "fast", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 50, "stream": stream})
}

#[tokio::test]
async fn a_hit_asks_nobody_costs_nothing_and_says_what_it_is() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let house = house(&provider).await;
    house.budget(Requests, 3).await;
    let first = house.chat(fixed("a", false)).await;
    assert_eq!(header(&first, "x-agent-os-cache"), Some("miss"));
    assert_eq!(whole(first), answer());
    house.clock.advance(Duration::from_secs(10));
    // Spelled in another way.
    let spaced = fixed("a", false).to_string().replace("\"temperature\":0", " \"temperature\" : 0 ");
    let hit = house.ask(Operation::Chat, &spaced).await;
    assert_eq!((header(&hit, "x-agent-os-cache"), header(&hit, "age")), (Some("hit"), Some("10")));
    assert_eq!((header(&hit, "x-agent-os-cost-nano-usd"), header(&hit, "x-agent-os-attempts")), (Some("0"), Some("0")));
    assert_eq!(header(&hit, "x-agent-os-target"), Some("openai/m1"));
    assert_eq!(whole(hit), answer(), "byte for byte");
    assert_eq!(provider.got().len(), 1);
    house.store.settle().await;
    let records = house.records();
    let outcome = &records.last().unwrap().1;
    assert_eq!(
        records.iter().map(|(phase, _)| phase.as_str()).collect::<Vec<_>>(),
        ["intent", "outcome", "intent", "outcome"]
    );
    assert_eq!(
        (&outcome["end"], &outcome["nano_usd"], &outcome["target"]),
        (&json!("cached"), &json!(0), &json!("openai/m1"))
    );
    // It is a request all the same.
    assert_eq!(house.stands().await, (2, 0));
    assert_eq!(house.chat(fixed("a", false)).await.status, 200);
    assert_eq!(house.chat(fixed("a", false)).await.status, 402, "the budget of requests is used up");
    house.ledger.close().await;
    let now = house.ambient.now();
    let total = house.store.read(move |conn| agentos_ledger::Spend::total(conn, now)).await.unwrap();
    assert_eq!((total.requests, total.cached, total.nano_usd), (3, 2, 110));
}

#[tokio::test]
async fn nobody_has_a_cache_who_was_not_given_one_and_nobody_reads_anothers() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = house(&provider).await;
    *house.caching.lock().unwrap() = None;
    for _ in 0..2 {
        assert_eq!(header(&house.chat(fixed("a", false)).await, "x-agent-os-cache"), None);
    }
    *house.caching.lock().unwrap() = Some(CACHING);
    assert_eq!(header(&house.chat(fixed("a", false)).await, "x-agent-os-cache"), Some("miss"));
    let of_other = house.call_of(OTHER_TOKEN, house.call(Operation::Chat, &fixed("a", false).to_string()));
    assert_eq!(header(&house.run(of_other).await, "x-agent-os-cache"), Some("miss"));
    assert_eq!(header(&house.chat(fixed("a", false)).await, "x-agent-os-cache"), Some("hit"));
    // Another document, or a request whose answer is drawn.
    *house.caching.lock().unwrap() = Some(Caching { revision: 2, ..CACHING });
    assert_eq!(header(&house.chat(fixed("a", false)).await, "x-agent-os-cache"), Some("miss"));
    let mut drawn = fixed("a", false);
    drawn["temperature"] = json!(0.7);
    assert_eq!(header(&house.chat(drawn).await, "x-agent-os-cache"), None);
    assert_eq!(provider.got().len(), 6);
}

#[tokio::test]
async fn an_answer_ends_with_its_time_and_the_oldest_make_room() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = house(&provider).await;
    let cached =
        async |text: &str| header(&house.chat(fixed(text, false)).await, "x-agent-os-cache").unwrap().to_owned();
    assert_eq!([cached("a").await, cached("a").await], ["miss", "hit"]);
    house.clock.advance(Duration::from_secs(61));
    assert_eq!([cached("a").await, cached("a").await], ["miss", "hit"]);
    // Room for two.
    *house.caching.lock().unwrap() = Some(Caching { bytes_max: 2_400, ..CACHING });
    for text in ["b", "c"] {
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(cached(text).await, "miss");
    }
    assert_eq!([cached("c").await, cached("b").await, cached("a").await], ["hit", "hit", "miss"]);
    *house.caching.lock().unwrap() = Some(Caching { bytes_max: 100, ..CACHING });
    assert_eq!([cached("d").await, cached("d").await], ["miss", "miss"], "what does not fit is not kept");
}

#[tokio::test]
async fn errors_and_broken_streams_are_not_kept_and_whole_streams_are_as_they_came() {
    let last = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-m1",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let whole_stream = vec![
        Piece::Bytes(chunk("Hello")),
        Piece::Bytes(format!("data: {last}\n\n")),
        Piece::Bytes("data: [DONE]\n\n".into()),
    ];
    let broken = vec![Piece::Bytes(chunk("Hel")), Piece::Cut];
    let bad = json!({"error": {"message": "no", "type": "invalid_request_error"}}).to_string();
    let provider = Provider::start(vec![
        Play::Whole(400, "", bad),
        Play::Events(broken),
        Play::Events(whole_stream),
        Play::Whole(200, "", answer()),
    ])
    .await;
    let house = house(&provider).await;
    assert_eq!(house.chat(fixed("a", true)).await.status, 400);
    let text = streamed(house.chat(fixed("a", true)).await).await;
    assert!(text.contains("error") && !text.contains("[DONE]"), "{text}");
    let first = house.chat(fixed("a", true)).await;
    assert_eq!(header(&first, "x-agent-os-cache"), Some("miss"));
    let first = streamed(first).await;
    let hit = house.chat(fixed("a", true)).await;
    assert_eq!(
        (header(&hit, "x-agent-os-cache"), header(&hit, "content-type")),
        (Some("hit"), Some("text/event-stream"))
    );
    assert_eq!(header(&hit, "x-agent-os-cost-nano-usd"), Some("0"));
    let events =
        |text: &str| text.lines().filter(|line| line.starts_with("data:")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(events(&streamed(hit).await), events(&first), "event for event");
    // Who wants no stream asks for something else.
    assert_eq!(header(&house.chat(fixed("a", false)).await, "x-agent-os-cache"), Some("miss"));
    assert_eq!(provider.got().len(), 4);
}

#[tokio::test]
async fn a_budget_without_money_pays_for_a_hit_and_a_key_keeps_it() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let house = house(&provider).await;
    assert_eq!(house.chat(fixed("a", false)).await.status, 200);
    house.budget(NanoUsd, 1).await;
    let keyed = house.run(house.keyed("k1", &fixed("a", false))).await;
    assert_eq!((keyed.status, header(&keyed, "x-agent-os-cache")), (200, Some("hit")));
    house.clock.advance(Duration::from_secs(120));
    let again = house.run(house.keyed("k1", &fixed("a", false))).await;
    assert_eq!((again.status, header(&again, "x-agent-os-replayed")), (200, Some("idempotency-key")));
    assert_eq!(house.chat(fixed("a", false)).await.status, 402, "the cache has forgotten it");
}

#[tokio::test]
async fn an_answer_in_which_a_secret_stands_is_kept_nowhere() {
    let provider = Provider::always(Play::Whole(200, "", answer().replace("\"hi\"", "\"it is swordfish-1234\""))).await;
    let house = house(&provider).await;
    house.redactor.know(["swordfish-1234"]);
    for _ in 0..2 {
        let reply = house.run(house.keyed("k1", &fixed("a", false))).await;
        assert_eq!(header(&reply, "x-agent-os-cache"), Some("miss"));
        assert!(parsed(reply).to_string().contains("swordfish"), "its client asked for it");
    }
    assert_eq!(provider.got().len(), 2);
}
