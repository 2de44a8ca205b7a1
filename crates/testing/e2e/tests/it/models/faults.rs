//! Each fault of a provider, through the gateway: the status, the class, and that no broken stream ends well.

use agentos_kit::{Act, ModelServer};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, said};

fn quick() -> Value {
    json!({"timeouts": {"connect_ms": 2000, "first_byte_ms": 700, "idle_ms": 700, "whole_ms": 700}})
}

fn faults() -> Vec<(&'static str, Act, u16)> {
    vec![
        ("limited", Act::rate_limited(Some("30")), 429),
        ("unsure", Act::rate_limited(None), 429),
        ("internal", Act::status(500), 502),
        ("gateway", Act::status(502), 502),
        ("unavailable", Act::status(503), 503),
        ("overloaded", Act::status(529), 503),
        ("badkey", Act::status(401), 502),
        ("forbidden", Act::status(403), 502),
        ("invalid", Act::status(400), 400),
        ("silent", Act::Hold { after: 0 }, 504),
        ("hangup", Act::Hangup, 502),
        ("inside", Act::ErrorInside200, 502),
        ("nonsense", Act::Raw(200, "application/json", b"{\"choices\":".to_vec()), 502),
        ("page", Act::Raw(200, "text/html", b"<html>hello</html>".to_vec()), 502),
        ("nothing", Act::Raw(200, "application/json", Vec::new()), 502),
    ]
}

/// A provider for each, so that what one does cools or opens nothing of another.
async fn scene_of(server: &ModelServer, names: &[&str]) -> Scene {
    let providers: Vec<Provider<'_>> = names.iter().map(|name| Provider::openai(name, server).with(quick())).collect();
    Scene::open(&providers, &[]).await
}

#[tokio::test]
async fn faults_before_the_first_word_have_their_status_for_whole_answers_and_streams() {
    let server = ModelServer::start().await;
    let faults = faults();
    let names: Vec<&str> = faults.iter().map(|(name, _, _)| *name).collect();
    let scene = scene_of(&server, &names).await;
    for (name, act, status) in faults {
        server.for_model(name, act);
        for stream in [false, true] {
            let answer = scene.chat(&format!("{name}/{name}"), stream).await;
            let (found, headers) = (answer.status().as_u16(), answer.headers().clone());
            let text = answer.text().await.unwrap();
            // A breaker or a cooldown may hold the second one back; it then says when to come again.
            let is_held_back = stream && [429, 503].contains(&found) && headers.contains_key("retry-after");
            assert!(found == status || is_held_back, "{name}: {found} instead of {status}: {text}");
            let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{name}: {text}"));
            assert!(body["error"]["message"].is_string(), "{name}: {text}");
            assert!(!text.contains(&Provider::key(name)), "{name}: {text}");
            if name == "limited" && !stream {
                let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=30).contains(&wait), "{wait}");
            }
        }
    }
}

#[tokio::test]
async fn a_provider_that_refuses_connections_or_speaks_no_tls_is_a_failed_one() {
    let server = ModelServer::start().await;
    let refused = ModelServer::refused_url().await;
    let providers = [
        Provider { name: "closed", kind: "openai", base_url: format!("{refused}/v1"), more: quick() },
        Provider {
            name: "plain",
            kind: "openai",
            base_url: format!("{}/v1", server.url_of_failing_tls()),
            more: quick(),
        },
        Provider::openai("well", &server),
    ];
    let scene = Scene::open(&providers, &[("fast", &["closed/small", "plain/small", "well/small"])]).await;
    for model in ["closed/small", "plain/small"] {
        assert_eq!(scene.chat(model, false).await.status(), 502, "{model}");
    }
    assert_eq!(scene.chat("fast", false).await.status(), 200);
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_in_the_clients_protocol_and_never_ends_well() {
    let server = ModelServer::start().await;
    let broken = [
        ("cut", Act::Cut { after: 3 }),
        ("ended", Act::End { after: 3 }),
        ("garbled", Act::Malformed { after: 3 }),
        ("failed", Act::ErrorEvent { after: 3 }),
        ("stalled", Act::Hold { after: 3 }),
    ];
    let names: Vec<&str> = broken.iter().map(|(name, _)| *name).collect();
    let scene = scene_of(&server, &names).await;
    for (name, act) in broken {
        server.for_model(name, act);
        let model = format!("{name}/{name}");
        let answer = scene.chat(&model, true).await;
        assert_eq!(answer.status(), 200, "{name}");
        let text = answer.text().await.unwrap_or_default();
        assert!(text.contains("You") && text.contains("\"error\""), "{name}: {text}");
        assert!(!text.contains("[DONE]") && !text.contains("\"finish_reason\":\"stop\""), "{name}: {text}");
        let body = json!({"model": model, "max_tokens": 30, "stream": true, "messages": said("", true)["messages"]});
        let answer = scene.ask("/v1/messages", &body).await;
        if answer.status() == 200 {
            let text = answer.text().await.unwrap_or_default();
            assert!(text.contains("event: error") && !text.contains("message_stop"), "{name}: {text}");
        } else {
            assert!(answer.headers().contains_key("retry-after"), "{name}: held back by its breaker");
        }
    }
    let outcomes = scene.records_of("outcome").await;
    assert!(outcomes.iter().filter(|outcome| outcome["facts"]["end"] == "broken").count() >= 5, "{outcomes:#?}");
}

#[tokio::test]
async fn slow_and_large_answers_are_whole() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[]).await;
    server.next(Act::Trickle);
    let text = scene.chat("alpha/small", true).await.text().await.unwrap();
    assert!(text.contains("three") && text.trim_end().ends_with("[DONE]"), "{text}");
    for stream in [false, true] {
        server.next(Act::Huge(3 << 20));
        let text = scene.ask("/v1/chat/completions", &said("alpha/small", stream)).await.text().await.unwrap();
        assert!(text.len() > 3 << 20, "{stream}: {}", text.len());
    }
    // Who cannot stream is delivered as one, and says so.
    server.next(Act::NotStreamed);
    let answer = scene.chat("alpha/small", true).await;
    let text = answer.text().await.unwrap();
    assert!(text.contains("three") || text.contains("\"error\""), "{text}");
}
