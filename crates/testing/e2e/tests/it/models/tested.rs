//! `model test`: what an operator is told of a model that answers, and of each that does not.

use agentos_kit::{Act, ModelServer};
use serde_json::{Value, json};

use super::scene::{Provider, Scene};

fn quick() -> Value {
    json!({"timeouts": {"connect_ms": 2000, "first_byte_ms": 700, "idle_ms": 700, "whole_ms": 700}})
}

async fn tested(scene: &Scene, model: &str) -> (i32, Value, String) {
    let output = scene.os.cli(&["--output", "json", "model", "test", model]).await;
    (output.code, serde_json::from_str(&output.stdout).unwrap_or_default(), output.stderr)
}

#[tokio::test]
async fn a_model_that_answers_says_what_it_was_and_what_it_cost() {
    let server = ModelServer::start().await;
    let providers = [Provider::openai("alpha", &server), Provider::anthropic("beta", &server)];
    let scene = Scene::open(&providers, &[("fast", &["alpha/small"])]).await;
    for (model, target) in [("fast", "alpha/small"), ("alpha/small", "alpha/small"), ("beta/large", "beta/large")] {
        server.next(Act::Usage(10, 2));
        let (code, test, text) = tested(&scene, model).await;
        assert_eq!(code, 0, "{test} {text}");
        assert_eq!((&test["ok"], &test["status"], &test["target"]), (&json!(true), &json!(200), &json!(target)));
        assert_eq!((&test["attempts"], &test["estimated"]), (&json!(1), &json!(false)), "{test}");
        assert_eq!(test["nano_usd"], 10 * 500 + 2 * 1_000, "{test}");
        assert!(test["text"].as_str().unwrap().contains("You said"), "{test}");
    }
    let asked = server.generations();
    assert!(asked.iter().all(|asked| asked.json()["max_tokens"].as_u64().unwrap() <= 64), "it costs little");
    // Who looks has a name, and pays.
    let records = scene.records().await;
    assert_eq!(records.len(), 6, "{records:#?}");
    assert!(records.iter().all(|record| record["actor"]["kind"] == "token"), "{records:#?}");
    let shown = scene.os.cli_ok(&["model", "test", "fast"]).await;
    assert!(shown.contains("alpha/small") && !shown.contains(&Provider::key("alpha")), "{shown}");
}

#[tokio::test]
async fn each_kind_of_failure_has_its_status_and_its_words() {
    let server = ModelServer::start().await;
    let refused = ModelServer::refused_url().await;
    let acts = [
        ("limited", Act::rate_limited(Some("30")), 429),
        ("badkey", Act::status(401), 502),
        ("forbidden", Act::status(403), 502),
        ("unknown", Act::status(404), 404),
        ("invalid", Act::status(400), 400),
        ("broken", Act::status(500), 502),
        ("overloaded", Act::status(503), 503),
        ("silent", Act::Hold { after: 0 }, 504),
        ("hangup", Act::Hangup, 502),
        ("inside", Act::ErrorInside200, 502),
        ("page", Act::Raw(200, "text/html", b"<html>hello</html>".to_vec()), 502),
    ];
    let mut providers: Vec<Provider<'_>> =
        acts.iter().map(|(name, ..)| Provider::openai(name, &server).with(quick())).collect();
    providers.push(Provider { name: "closed", kind: "openai", base_url: format!("{refused}/v1"), more: quick() });
    let tls = format!("{}/v1", server.url_of_failing_tls());
    providers.push(Provider { name: "plain", kind: "openai", base_url: tls, more: quick() });
    providers.push(Provider::openai("keyless", &server).with(json!({"keys": ["nobody-set-it"]})));
    let scene = Scene::open(&providers, &[]).await;
    let expected = acts.iter().map(|(name, act, status)| (*name, Some(act), *status));
    for (name, act, status) in expected.chain([("closed", None, 502), ("plain", None, 502), ("keyless", None, 502)]) {
        act.iter().for_each(|act| server.for_model(name, (*act).clone()));
        let (code, test, text) = tested(&scene, &format!("{name}/{name}")).await;
        assert_ne!(code, 0, "{name}: {test}");
        assert_eq!((&test["ok"], &test["status"]), (&json!(false), &json!(status)), "{name}: {test} {text}");
        assert!(!test["text"].as_str().unwrap().is_empty(), "{name}: {test}");
        assert!(!test.to_string().contains(&Provider::key(name)) && !text.contains(&Provider::key(name)), "{name}");
    }
    let (_, test, _) = tested(&scene, "keyless/keyless").await;
    assert!(test.to_string().contains("key") && !test["ok"].as_bool().unwrap(), "{test}");

    scene.os.cli_ok(&["model", "disable", "invalid/invalid"]).await;
    for (model, status) in [("invalid/invalid", 403), ("nobody/nothing", 404)] {
        let (code, test, _) = tested(&scene, model).await;
        assert_ne!(code, 0);
        assert_eq!(test["status"], status, "{model}: {test}");
    }
    assert!(!scene.os.log().contains("key-of-"), "no key is in the log");
}
