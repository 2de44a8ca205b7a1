//! The real model says what the product's tests of it stand on, asked without the product between.

use agentos_kit::{LocalModel, Sdk};
use serde_json::json;

#[tokio::test]
async fn the_local_model_chats_streams_and_follows_a_schema() {
    let model = LocalModel::start().await;
    let text = "The capital of France is";
    let exact = json!({"max_tokens": 12, "temperature": 0});
    let person = "Kim is 31 years old. Write Kim as JSON with name and age.";
    let orders = [
        json!({"do": "chat", "model": LocalModel::NAME, "text": text, "more": exact}),
        json!({"do": "stream", "model": LocalModel::NAME, "text": text, "more": exact}),
        json!({"do": "schema", "model": LocalModel::NAME, "text": person, "more": {"max_tokens": 60, "temperature": 0}}),
        json!({"do": "models"}),
    ];
    let found = Sdk::OpenAiPython.run(model.url(), "none", &orders).await;
    let said = found[0]["ok"]["text"].as_str().unwrap();
    assert!(said.len() > 10, "{found:#?}");
    assert_eq!(found[0]["ok"]["usage"][1], 12);
    assert_eq!(found[1]["ok"]["text"], said);
    assert!(found[2]["ok"]["json"]["name"].is_string() && found[2]["ok"]["json"]["age"].is_i64(), "{found:#?}");
    assert_eq!(found[3]["ok"]["ids"], json!([LocalModel::NAME]));
}
