//! A slow, a broken and an idle provider on the real program, as the operator's document wants them met.

use std::fs;

use agentos_kit::{Act, ModelServer, TestOs, eventually};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, document_of};

/// Two providers and an alias over both, with these further fields of its route.
async fn two(fields: Value) -> (Scene, ModelServer, ModelServer) {
    let (first, second) = (ModelServer::start().await, ModelServer::start().await);
    let prefill =
        json!({"models": {"large": {"context": 100_000, "output_max": 4_096, "capabilities": {"prefill": true}}}});
    let providers = [Provider::openai("alpha", &first), Provider::anthropic("beta", &second).with(prefill)];
    let scene = Scene::open(&providers, &[]).await;
    let mut document = document_of(&providers, &[("fast", &["alpha/small", "beta/large"])]);
    for (name, value) in fields.as_object().unwrap() {
        document["routes"]["fast"][name] = value.clone();
    }
    let file = scene.os.home().join("models.json");
    fs::write(&file, document.to_string()).unwrap();
    scene.os.cli_ok(&["model", "config", "apply", file.to_str().unwrap()]).await;
    (scene, first, second)
}

async fn outcome(scene: &Scene) -> Value {
    eventually("the outcome", || async { scene.records_of("outcome").await.pop().ok_or("none yet") }).await
}

#[tokio::test]
async fn a_slow_provider_is_overtaken_and_stopped() {
    let (scene, slow, other) = two(json!({"hedge_after_ms": 50})).await;
    slow.always(Act::Hold { after: 0 });
    let answer = scene.chat("fast", false).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-agent-os-hedges"]), (200, &"1".parse().unwrap()));
    assert_eq!(answer.headers()["x-agent-os-target"], "beta/large");
    slow.is_abandoned(0).await;
    assert_eq!(other.generations().len(), 1);
    let facts = outcome(&scene).await["facts"].clone();
    assert_eq!(
        (&facts["hedges"], &facts["attempts"], &facts["end"]),
        (&json!(1), &json!(2), &json!("done")),
        "{facts}"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_is_written_on_where_the_operator_wants_it() {
    let (scene, broken, other) = two(json!({"continuation": true})).await;
    broken.always(Act::Cut { after: 3 });
    other.always(Act::Say(" and so on".to_owned()));
    let text = scene.chat("fast", true).await.text().await.unwrap();
    assert!(text.contains("\"continued\"") && text.contains("data: [DONE]"), "{text}");
    assert!(!text.contains("\"error\"") && text.contains(" and"), "{text}");
    let facts = outcome(&scene).await["facts"].clone();
    assert_eq!((&facts["continued"], &facts["target"]), (&json!(1), &json!("beta/large")), "{facts}");
}

#[tokio::test]
async fn an_idle_provider_is_looked_at_by_its_list_alone() {
    let server = ModelServer::start().await;
    let mut os = TestOs::initialised().await;
    os.set_env("AGENT_OS_MODELS_PROBE_INTERVAL_S", "1");
    let scene = Scene::open_in(os, "", &[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    let seen = eventually("a look", || async {
        let shown = scene.os.cli_json(&["model", "show", "alpha/small"]).await;
        if shown["probe"]["outcome"] == "answered" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(seen["probe"]["at"].is_i64() && seen["probe"]["age_s"].as_u64().is_some_and(|age| age < 600), "{seen}");
    let listed = scene.os.cli_ok(&["model", "list"]).await;
    let row = listed.lines().find(|line| line.starts_with("alpha/small")).unwrap();
    assert!(row.contains("answered ") && row.contains(" ago"), "{listed}");
    assert!(server.generations().is_empty(), "a list is no generation");
    assert!(server.asked().iter().all(|asked| asked.path.ends_with("/models")));
    assert!(scene.records().await.is_empty(), "and no call");
}
