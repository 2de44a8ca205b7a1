//! Budgets around calls: nothing is sent that does not fit, and what was sent is settled by what it used.

use std::{sync::Arc, time::Duration};

use agentos_models::{Operation, Policy};
use agentos_router::{Caching, Kind};
use agentos_types::budget::BudgetUnit::{NanoUsd, Tokens};
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, parsed, target},
    provider::{Play, Provider},
};

#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_is_left() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    house.budget(NanoUsd, 3_000).await;
    assert_eq!(house.chat(hello(false)).await.status, 200);
    assert_eq!(house.stands().await, (110, 0), "settled by what the provider counted");
    let mut large = hello(false);
    large["max_tokens"] = json!(500);
    let reply = house.chat(large).await;
    assert_eq!(reply.status, 402);
    assert!(header(&reply, "retry-after").is_some());
    let error = parsed(reply)["error"].clone();
    assert_eq!(error["type"], "insufficient_quota");
    let facts = &error["agent_os"];
    assert_eq!((&facts["code"], &facts["remaining"]), (&json!("AOS-2001"), &json!(2_890)));
    assert!(facts["needed"].as_i64().unwrap() > 10_000, "{facts}");
    assert!(facts["resets_at"].is_string(), "{facts}");
    assert_eq!(provider.got().len(), 1, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_calls_at_the_limit_never_use_more_than_there_is() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = Arc::new(House::new(vec![target(Kind::Openai, &provider)]).await);
    // Each holds some two thousand while it is under way and uses 110.
    house.budget(NanoUsd, 4_200).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { house.chat(hello(false)).await.status })
        })
        .collect();
    let mut answered = 0;
    for call in calls {
        match call.await.unwrap() {
            200 => answered += 1,
            status => assert_eq!(status, 402),
        }
    }
    let (used, reserved) = house.stands().await;
    assert_eq!((used, reserved), (answered * 110, 0));
    assert!(used <= 4_200 && answered > 0, "{answered} answers, {used} used");
    assert_eq!(provider.got().len(), usize::try_from(answered).unwrap());
}

#[tokio::test]
async fn an_explicit_zero_is_zero_and_silence_is_an_estimate() {
    let told = |usage: Value| {
        let mut body: Value = serde_json::from_str(&answer()).unwrap();
        body["usage"] = usage;
        Play::Whole(200, "", body.to_string())
    };
    let zero = told(json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}));
    let provider = Provider::start(vec![zero, told(Value::Null)]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    house.budget(Tokens, 1_000_000).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("0"));
    assert_eq!(header(&reply, "x-agent-os-estimated"), Some("false"));
    assert_eq!(house.stands().await, (0, 0));
    let reply = house.chat(hello(false)).await;
    assert_eq!(header(&reply, "x-agent-os-estimated"), Some("true"));
    assert!(house.stands().await.0 > 0);
}

#[tokio::test]
async fn an_unknown_price_is_refused_under_a_budget_or_taken_at_the_worst() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let unpriced = || {
        let mut target = target(Kind::Openai, &provider);
        target.price = None;
        vec![target]
    };
    let house = House::new(unpriced()).await;
    assert_eq!(house.chat(hello(false)).await.status, 200, "without a budget nobody asks");
    house.budget(NanoUsd, 1_000_000).await;
    let refused = house.chat(hello(false)).await;
    assert_eq!((refused.status, parsed(refused)["error"]["agent_os"]["code"].clone()), (402, json!("AOS-2033")));
    let mut assumed = target(Kind::Openai, &provider);
    assumed.price_is_assumed = true;
    let house = House::new(vec![assumed]).await;
    house.budget(NanoUsd, 1_000_000).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-estimated")), (200, Some("true")));
}

#[tokio::test]
async fn without_a_limit_the_models_own_is_held_and_a_smaller_one_is_written() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let policy = Policy { output_max: 400, ..Policy::default() };
    let house = House::with(vec![target(Kind::Openai, &provider)], policy).await;
    let body = r#"{"model":"fast","messages":[]}"#;
    house.ask(Operation::Chat, body).await;
    assert_eq!(provider.got()[0].body, body.replace("fast", "real-m1"), "without a budget nothing is touched");
    house.budget(NanoUsd, 1_000_000).await;
    house.ask(Operation::Chat, body).await;
    assert!(provider.got()[1].body.contains(r#""max_completion_tokens":400"#), "{}", provider.got()[1].body);
}

#[tokio::test]
async fn where_the_policy_says_so_a_small_rest_makes_a_short_answer() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let policy = Policy { lowers_output: true, ..Policy::default() };
    let house = House::with(vec![target(Kind::Openai, &provider)], policy).await;
    house.budget(NanoUsd, 3_000).await;
    let mut large = hello(false);
    (large["max_tokens"], large["temperature"]) = (json!(500), json!(0));
    let caching = Caching { ttl: Duration::from_secs(60), bytes_max: 1 << 20, any_temperature: false, revision: 1 };
    *house.caching.lock().unwrap() = Some(caching);
    let short = house.chat(large.clone()).await;
    let told = header(&short, "x-agent-os-shortened-to").map(str::to_owned);
    assert_eq!(short.status, 200);
    let sent: Value = serde_json::from_str(&provider.got()[0].body).unwrap();
    let max = sent["max_tokens"].as_u64().unwrap();
    assert!((16..120).contains(&max), "{max}");
    assert_eq!(told, Some(max.to_string()));
    assert_eq!(house.stands().await, (110, 0));
    // With a larger budget the answer could be a longer one.
    house.budget(NanoUsd, 300_000).await;
    let whole = house.chat(large.clone()).await;
    assert_eq!((header(&whole, "x-agent-os-cache"), header(&whole, "x-agent-os-shortened-to")), (Some("miss"), None));
    assert_eq!(header(&house.chat(large).await, "x-agent-os-cache"), Some("hit"));
}

#[tokio::test]
async fn a_provider_that_needs_a_limit_gets_one() {
    let told = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-m1",
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 3}});
    let provider = Provider::always(Play::Whole(200, "", told.to_string())).await;
    for (known, written) in [(Some(1_000), 1_000), (None, 16_384)] {
        let mut target = target(Kind::Anthropic, &provider);
        target.output_max = known;
        let house = House::new(vec![target]).await;
        let reply = house.ask(Operation::Chat, r#"{"model":"fast","messages":[{"role":"user","content":"x"}]}"#).await;
        assert_eq!(reply.status, 200);
        let sent: Value = serde_json::from_str(&provider.got().pop().unwrap().body).unwrap();
        assert_eq!(sent["max_tokens"], written);
    }
}
