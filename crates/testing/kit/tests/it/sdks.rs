//! Official clients talk to the provider of the kit directly: what they accept from it is what they accept from a provider.

use agentos_kit::{Act, ModelServer, Sdk, vector};
use serde_json::{Value, json};

const KEY: &str = "key-of-the-test";

async fn run(server: &ModelServer, sdk: Sdk, orders: &[Value]) -> Vec<Value> {
    sdk.run(&server.url(), KEY, orders).await
}

fn same(sdk: Sdk, found: &[Value], expected: &[Value]) {
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(&found[index]["ok"], expected, "{sdk:?}, order {index}: {}", found[index]);
    }
}

#[tokio::test]
async fn openai_clients_chat_stream_and_call_tools() {
    let server = ModelServer::start().await;
    let orders = [
        json!({"do": "chat", "model": "small", "text": "one two"}),
        json!({"do": "chat", "model": "small", "text": "one two", "more": {"max_completion_tokens": 2}}),
        json!({"do": "stream", "model": "small", "text": "one two", "more": {"stream_options": {"include_usage": true}}}),
        json!({"do": "tools", "model": "small", "text": "the weather in Oslo"}),
        json!({"do": "tools_stream", "model": "small", "text": "the weather in Oslo"}),
        json!({"do": "schema", "model": "small", "text": "a person called Kim"}),
        json!({"do": "models"}),
        json!({"do": "responses", "model": "small", "text": "one two"}),
        json!({"do": "responses_stream", "model": "small", "text": "one two"}),
        json!({"do": "responses_tools", "model": "small", "text": "the weather in Oslo"}),
        json!({"do": "embeddings", "model": "embed", "input": ["one", "two"]}),
    ];
    let call = json!(["get_weather", {"city": "Oslo"}]);
    let said = "You said: one two";
    let expected = [
        json!({"text": said, "finish": "stop", "usage": [2, 4]}),
        json!({"text": "You said:", "finish": "length", "usage": [2, 2]}),
        json!({"text": said, "pieces": 4, "finish": "stop", "usage": [2, 4]}),
        json!({"finish": "tool_calls", "calls": [call], "text": "You said: 18 degrees"}),
        json!({"finish": "tool_calls", "calls": [call]}),
        json!({"json": {"name": "Kim", "age": 7}}),
        json!({"ids": ["large", "small"]}),
        json!({"text": said, "status": "completed", "usage": [2, 4]}),
        json!({"text": said, "pieces": 4, "status": "completed", "usage": [2, 4]}),
        json!({"calls": [call]}),
        json!({"vectors": [vector("one", 8), vector("two", 8)], "tokens": 2}),
    ];
    for sdk in [Sdk::OpenAiPython, Sdk::OpenAiJavaScript] {
        same(sdk, &run(&server, sdk, &orders).await, &expected);
    }
    assert!(server.asked().iter().all(|asked| asked.key() == KEY && asked.is_finished));
}

#[tokio::test]
async fn anthropic_clients_chat_stream_and_call_tools() {
    let server = ModelServer::start().await;
    let orders = [
        json!({"do": "chat", "model": "small", "text": "one two"}),
        json!({"do": "chat", "model": "small", "text": "one two", "more": {"max_tokens": 2}}),
        json!({"do": "stream", "model": "small", "text": "one two"}),
        json!({"do": "tools", "model": "small", "text": "the weather in Oslo"}),
        json!({"do": "tools_stream", "model": "small", "text": "the weather in Oslo"}),
        json!({"do": "count", "model": "small", "text": "one two three"}),
        json!({"do": "models"}),
    ];
    let call = json!(["get_weather", {"city": "Oslo"}]);
    let said = "You said: one two";
    let expected = [
        json!({"text": said, "finish": "end_turn", "usage": [2, 4]}),
        json!({"text": "You said:", "finish": "max_tokens", "usage": [2, 2]}),
        json!({"text": said, "pieces": 4, "finish": "end_turn", "usage": [2, 4]}),
        json!({"finish": "tool_use", "calls": [call], "text": "You said: 18 degrees"}),
        json!({"finish": "tool_use", "calls": [call]}),
        json!({"tokens": 3}),
        json!({"ids": ["large", "small"]}),
    ];
    for sdk in [Sdk::AnthropicPython, Sdk::AnthropicJavaScript] {
        same(sdk, &run(&server, sdk, &orders).await, &expected);
    }
    assert!(server.asked().iter().all(|asked| asked.key() == KEY && asked.is_finished));
}

/// Their own exceptions, so that a story knows what a direct call would have raised.
#[tokio::test]
async fn clients_raise_their_own_exceptions() {
    let server = ModelServer::start().await;
    server.for_model("limited", Act::rate_limited(Some("7")));
    for (model, status) in [("bad", 400), ("key", 401), ("unknown", 404), ("down", 500)] {
        server.for_model(model, Act::status(status));
    }
    server.for_model("held", Act::Hold { after: 0 });
    server.for_model("gone", Act::Hangup);
    server.for_model("breaks", Act::Cut { after: 4 });
    let chat = |model: &str| json!({"do": "chat", "model": model});
    let orders = [
        chat("limited"),
        chat("bad"),
        chat("key"),
        chat("unknown"),
        chat("down"),
        chat("gone"),
        json!({"do": "chat", "model": "held", "timeout_s": 1}),
    ];
    for sdk in Sdk::ALL {
        let found = run(&server, sdk, &orders).await;
        let classes: Vec<&str> = found.iter().map(|found| found["error"]["class"].as_str().unwrap()).collect();
        let expected = [
            "RateLimitError",
            "BadRequestError",
            "AuthenticationError",
            "NotFoundError",
            "InternalServerError",
            "APIConnectionError",
            sdk.timeout_class(),
        ];
        assert_eq!(classes, expected, "{sdk:?}");
        assert_eq!(found[0]["error"]["status"], 429);
        assert_eq!(found[0]["error"]["retry_after"], "7");
    }
    for held in server.asked().into_iter().filter(|asked| asked.model() == "held") {
        server.is_abandoned(held.number).await;
    }
}
