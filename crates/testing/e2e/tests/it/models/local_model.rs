//! A real model behind the product: what its server cannot do is done by prompt and schema, and said so.

use agentos_kit::{LocalModel, Sdk};
use serde_json::json;

use super::scene::{Provider, Scene};

#[tokio::test]
async fn a_real_model_chats_streams_follows_a_schema_and_calls_the_tool_it_is_told_to() {
    let model = LocalModel::start().await;
    let facts = json!({"context": 4096, "output_max": 512, "capabilities": {"tools": false, "json_schema": true}});
    let more = json!({"emulate": ["schema", "tools"], "models": {"smollm2": facts}});
    let provider = Provider { name: "local", kind: "openai-compatible", base_url: format!("{}/v1", model.url()), more };
    let scene = Scene::open(&[provider], &[("small", &["local/smollm2"])]).await;
    let exact = json!({"max_tokens": 12, "temperature": 0});
    let person = "Kim is 31 years old. Write Kim as JSON with name and age.";
    let choice = json!({"type": "function", "function": {"name": "get_weather"}});
    let orders = [
        json!({"do": "chat", "model": "small", "text": "The capital of France is", "more": exact}),
        json!({"do": "stream", "model": "small", "text": "The capital of France is", "more": exact}),
        json!({"do": "schema", "model": "small", "text": person, "more": {"max_tokens": 60, "temperature": 0}}),
        json!({"do": "tools", "model": "small", "text": "What is the weather in Oslo?",
            "more": {"tool_choice": choice, "max_tokens": 80, "temperature": 0}}),
    ];
    let found = Sdk::OpenAiPython.run(&scene.os.url(), &scene.token, &orders).await;
    let said = found[0]["ok"]["text"].as_str().unwrap_or_default();
    assert!(said.len() > 10 && found[0]["ok"]["usage"][1] == 12, "{found:#?}");
    assert_eq!(found[1]["ok"]["text"], said, "{found:#?}");
    assert!(found[2]["ok"]["json"]["age"].is_i64(), "{found:#?}");
    assert_eq!(found[3]["ok"]["calls"][0][0], "get_weather", "{found:#?}");
    assert!(found[3]["ok"]["calls"][0][1]["city"].is_string(), "{found:#?}");
    assert_eq!(found[3]["ok"]["finish"], "tool_calls", "{found:#?}");
}
