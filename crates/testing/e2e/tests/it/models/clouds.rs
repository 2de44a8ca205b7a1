//! Azure and Bedrock as an operator adds them and as programs use them: each at the addresses, by the key and in the framing
//! that is its own, and no different from any other provider to an official client.

use agentos_kit::{Act, ModelServer, Sdk};
use serde_json::{Value, json};

use super::scene::{Provider, Scene};

/// A stream of Bedrock's InvokeModel, framed by another program.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../2-models/wire/tests/corpus/eventstream/text.bin");
const CLAUDE: &str = "us.anthropic.claude-haiku-4-5-20251001-v1:0";
const PATH: &str = "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0";
/// Of AWS's own examples.
const ACCESS_KEY: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn provider<'a>(kind: &'a str, server: &ModelServer) -> Provider<'a> {
    Provider { name: kind, kind, base_url: server.url(), more: Value::Null }
}

async fn tested(scene: &Scene, name: &str) -> Value {
    let keys = scene.os.cli_json(&["provider", "test", name]).await;
    keys.as_array().or_else(|| keys["items"].as_array()).unwrap()[0].clone()
}

async fn record_of(scene: &Scene) -> Value {
    scene.records_of("outcome").await.pop().unwrap()["facts"].clone()
}

#[tokio::test]
async fn azure_is_asked_at_its_deployments_and_official_clients_see_openai() {
    let server = ModelServer::start().await;
    // A provider of this name is replaced below; it only opens the server's address.
    let scene = Scene::open(&[provider("azure", &server)], &[]).await;
    let url = server.url();
    let add = ["provider", "add", "azure", "--kind", "azure", "--base-url", &url, "--key", "azure-key"];
    let models = ["--model", "chat-eu=gpt-4.1-mini", "--model", "vectors=text-embedding-3-small"];
    scene.os.cli_ok(&[&add[..], &models].concat()).await;
    let shown = scene.os.cli_json(&["model", "show", "azure/chat-eu"]).await;
    assert_eq!(shown["price"]["input"], "0.40", "what the model behind it costs: {shown}");
    assert_eq!(tested(&scene, "azure").await["ok"], true);
    let orders = [
        json!({"do": "chat", "model": "azure/chat-eu", "text": "one two"}),
        json!({"do": "stream", "model": "azure/chat-eu", "text": "one two", "more": {"stream_options": {"include_usage": true}}}),
        json!({"do": "responses", "model": "azure/chat-eu", "text": "one two"}),
        json!({"do": "embeddings", "model": "azure/vectors", "input": ["one"]}),
    ];
    let found =
        Sdk::ALL.into_iter().find(|sdk| sdk.is_openai()).unwrap().run(&scene.os.url(), &scene.token, &orders).await;
    assert!(found.iter().all(|answer| answer["ok"].is_object()), "{found:#?}");
    assert_eq!(found[0]["ok"]["text"], "You said: one two");
    // 2 tokens of 0.40 USD and 4 of 1.60 USD for a million.
    let costs: Vec<Value> =
        scene.records_of("outcome").await.iter().map(|record| record["facts"]["nano_usd"].clone()).collect();
    assert!(costs.contains(&json!(7_200)), "{costs:?}");
    // The older addresses.
    scene.os.cli_ok(&[&add[..], &models, &["--api-version", "2024-10-21"]].concat()).await;
    assert_eq!(tested(&scene, "azure").await["ok"], true);
    assert_eq!(scene.chat("azure/chat-eu", true).await.text().await.unwrap().matches("[DONE]").count(), 1);
    let asked = server.asked();
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let expected = [
        "/openai/v1/models",
        "/openai/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
        "/openai/v1/embeddings",
        "/openai/models?api-version=2024-10-21",
        "/openai/deployments/chat-eu/chat/completions?api-version=2024-10-21",
    ];
    assert_eq!(paths, expected);
    assert!(asked.iter().all(|asked| asked.header("api-key") == Provider::key("azure")), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_empty()), "{asked:?}");
}

#[tokio::test]
async fn bedrock_is_invoked_and_its_framed_streams_are_anthropics_own_to_official_clients() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[provider("bedrock", &server)], &[]).await;
    let url = server.url();
    let add = [
        "provider",
        "add",
        "bedrock",
        "--kind",
        "bedrock",
        "--base-url",
        &url,
        "--key",
        "bedrock-key",
        "--model",
        CLAUDE,
    ];
    scene.os.cli_ok(&add).await;
    server.always(Act::Raw(
        200,
        "application/json",
        br#"{"modelSummaries":[{"modelId":"a"},{"modelId":"b"}]}"#.to_vec(),
    ));
    let test = tested(&scene, "bedrock").await;
    assert_eq!((&test["ok"], &test["models"]), (&json!(true), &json!(2)), "{test}");

    let framed = std::fs::read(RECORDED).unwrap();
    server.always(Act::Raw(200, "application/vnd.amazon.eventstream", framed.clone()));
    let model = format!("bedrock/{CLAUDE}");
    for sdk in Sdk::ALL.into_iter().filter(|sdk| !sdk.is_openai()) {
        let orders = [json!({"do": "stream", "model": model, "text": "one two"})];
        let found = sdk.run(&scene.os.url(), &scene.token, &orders).await;
        assert!(
            found[0]["ok"]["text"].as_str().is_some_and(|text| text.starts_with("Grüß Gott")),
            "{sdk:?}: {found:?}"
        );
        let record = record_of(&scene).await;
        // 25 tokens of input for 1.10, 100 read from the cache for 0.11, output for 5.50 USD a million.
        assert_eq!((&record["end"], &record["estimated"]), (&json!("done"), &json!(false)), "{record}");
        let output = record["tokens_output"].as_i64().unwrap();
        assert_eq!(record["nano_usd"], 25 * 1_100 + 100 * 110 + output * 5_500, "{record}");
    }
    // Cut in the middle: never a clean end.
    server.always(Act::Raw(200, "application/vnd.amazon.eventstream", framed[..framed.len() / 2].to_vec()));
    let text = scene.chat(&model, true).await.text().await.unwrap();
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(record_of(&scene).await["end"], "broken");

    let asked = server.asked();
    assert_eq!(asked[0].path, "/foundation-models");
    assert!(asked.iter().all(|asked| asked.key() == Provider::key("bedrock")), "{asked:?}");
    for asked in &asked[1..] {
        assert_eq!(asked.path, format!("{PATH}/invoke-with-response-stream"));
        let body = asked.json();
        assert_eq!(body["anthropic_version"], "bedrock-2023-05-31", "{body}");
        assert!(
            body.get("model").is_none() && body.get("stream").is_none() && body.get("stream_options").is_none(),
            "{body}"
        );
    }

    // A key that is refused rests; another one in its place does not.
    server.always(Act::Raw(
        403,
        "application/json",
        br#"{"message":"The security token included in the request is invalid."}"#.to_vec(),
    ));
    assert_eq!(scene.chat(&model, true).await.status(), 502);
    assert_eq!(scene.chat(&model, true).await.status(), 503);
    // An access key signs, and is shown nowhere.
    let set = scene.os.cli_with_input(&["secret", "set", "bedrock-key"], ACCESS_KEY).await;
    assert_eq!(set.code, 0, "{}", set.stderr);
    scene.os.cli_ok(&[&add[..], &["--sigv4-region", "eu-central-1"]].concat()).await;
    server.always(Act::Raw(200, "application/vnd.amazon.eventstream", framed));
    assert_eq!(scene.chat(&model, true).await.text().await.unwrap().matches("[DONE]").count(), 1);
    let signed = server.asked().pop().unwrap();
    let (authorization, date) = (signed.header("authorization"), signed.header("x-amz-date"));
    let scope = format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-central-1/bedrock/aws4_request, ", &date[..8]);
    assert!(
        authorization.starts_with(&scope) && authorization.contains("SignedHeaders=host;x-amz-date, "),
        "{authorization}"
    );
    assert!(date.ends_with('Z') && date.len() == 16, "{date}");
    let config = scene.os.cli_ok(&["model", "config", "show"]).await;
    assert!(config.contains("eu-central-1") && !config.contains("wJalrX") && !scene.os.log().contains("wJalrX"));
}
