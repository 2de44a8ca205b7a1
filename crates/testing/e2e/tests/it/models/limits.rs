//! Providers that say "later", and providers that cannot stream: what the client is told, what is waited for, what is sent.

use std::time::{Duration, Instant};

use agentos_kit::{Act, ModelServer};
use reqwest::Response;
use serde_json::{Value, json};

use super::scene::{Provider, Scene, said};

fn seconds(answer: &Response) -> u64 {
    answer.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_limited_provider_is_left_alone_for_as_long_as_it_says() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server), Provider::openai("beta", &server)], &[]).await;
    // With a time of its own, and without one: then it is five seconds.
    for (model, retry_after, longest) in [("alpha", Some("30"), 30), ("beta", None, 5)] {
        server.for_model(model, Act::rate_limited(retry_after));
        let before = server.generations().len();
        for stream in [false, true] {
            let name = format!("{model}/{model}");
            let answer = scene.chat(&name, stream).await;
            let (status, wait) = (answer.status().as_u16(), seconds(&answer));
            let told: Value = answer.json().await.unwrap();
            let facts = &told["error"]["agent_os"];
            if stream {
                // Cooling: nobody is asked, and the client is told when the earliest one is back.
                assert_eq!((status, &facts["code"]), (503, &json!("AOS-2016")), "{told}");
                assert!(facts["reopens_at"].is_string(), "{told}");
            } else {
                assert_eq!((status, &facts["class"]), (429, &json!("rate_limited")), "{told}");
                assert_eq!(told["error"]["code"], "rate_limit_exceeded", "{told}");
                assert_eq!(facts["provider_status"], 429, "{told}");
            }
            assert!((1..=longest).contains(&wait), "{model}: {wait}");
        }
        assert_eq!(server.generations().len(), before + 1, "{model} was asked while it cooled");
        let explained = scene.os.cli(&["model", "explain", &format!("{model}/{model}")]).await;
        let text = explained.stdout + &explained.stderr;
        assert!(text.contains("its rate is limited"), "{text}");
    }
    let outcomes = scene.records_of("outcome").await;
    let costs: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["facts"]["nano_usd"]).collect();
    assert_eq!(costs, [&json!(0); 4], "who says no bills nothing: {outcomes:#?}");
}

#[tokio::test]
async fn a_short_wait_is_waited_for_and_another_target_is_asked_at_once() {
    let (server, well) = (ModelServer::start().await, ModelServer::start().await);
    let providers = [Provider::openai("alpha", &server), Provider::openai("beta", &well)];
    let scene = Scene::open(&providers, &[("either", &["alpha/small", "beta/small"])]).await;
    server.next(Act::rate_limited(Some("1")));
    let begun = Instant::now();
    let answer = scene.chat("alpha/small", false).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert!(begun.elapsed() >= Duration::from_secs(1), "it came back too early");
    assert_eq!(answer.headers()["x-agent-os-attempts"], "2");
    assert_eq!(server.generations().len(), 2);

    server.always(Act::rate_limited(Some("60")));
    for stream in [false, true] {
        let answer = scene.chat("either", stream).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-agent-os-target"]),
            (200, &"beta/small".parse().unwrap())
        );
        assert!(answer.text().await.unwrap().contains("three"));
    }
    assert_eq!(server.generations().len(), 3, "the second call knew that it cools");
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_delivered_as_one_and_says_so() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server), Provider::anthropic("gamma", &server)], &[]).await;
    let turns = said("", true)["messages"].clone();
    for model in ["alpha/small", "gamma/small"] {
        for (path, end) in [("/v1/chat/completions", "data: [DONE]"), ("/v1/messages", "event: message_stop")] {
            server.next(Act::NotStreamed);
            let body = json!({"model": model, "max_tokens": 40, "stream": true, "messages": turns});
            let answer = scene.ask(path, &body).await;
            let headers = answer.headers().clone();
            let text = answer.text().await.unwrap();
            assert_eq!(headers["x-agent-os-stream"], "whole", "{model} {path}: {headers:?}");
            assert!(headers["content-type"].to_str().unwrap().starts_with("text/event-stream"), "{headers:?}");
            // The whole answer is here, so that its cost is known before its first byte.
            assert_eq!(headers["x-agent-os-cost-nano-usd"], (3 * 500 + 5 * 1_000).to_string().as_str());
            assert_eq!(headers["x-agent-os-estimated"], "false");
            assert!(text.contains("You said: one two three") && !text.contains("\"error\""), "{model} {path}: {text}");
            assert_eq!(text.matches(end).count(), 1, "{model} {path}: {text}");
            let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
            assert!(data.clone().count() >= 2, "{text}");
            assert!(data.clone().all(|data| serde_json::from_str::<Value>(data).is_ok()), "{text}");
        }
    }
    // A stream that is one bears no such mark.
    let answer = scene.chat("alpha/small", true).await;
    assert!(!answer.headers().contains_key("x-agent-os-stream"), "{:?}", answer.headers());
    assert!(answer.text().await.unwrap().contains("three"));
    let outcomes = scene.records_of("outcome").await;
    assert!(outcomes.iter().all(|outcome| outcome["facts"]["end"] == "done"), "{outcomes:#?}");
    assert_eq!(outcomes.len(), 5);
}
