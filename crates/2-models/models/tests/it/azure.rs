//! Azure OpenAI: both families of addresses, its key, its filter's words, and the chunks that only it sends.

use agentos_models::Operation;
use agentos_router::{Kind, Target};
use agentos_wire::Protocol;
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, parsed, streamed, target, whole},
    provider::{Piece, Play, Provider},
};

const FILTERED: &str = r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#;
const BUSY: &str = r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry after 8 seconds."}}"#;
/// What comes before the first word, and beside the last.
const PROMPT: &str = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;
const BESIDE: &str = r#"data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,"content_filter_results":{"violence":{"filtered":false,"severity":"low"}},"content_filter_offsets":{"check_offset":44,"start_offset":44,"end_offset":198}}],"usage":null}"#;

fn azure(provider: &Provider, version: Option<&str>) -> Target {
    Target {
        base_url: format!("http://{}", provider.address),
        api_version: version.map(str::to_owned),
        model: "my chat/eu".into(),
        ..target(Kind::Azure, provider)
    }
}

fn stream() -> String {
    let chunk = |choices: Value, usage: Value| {
        let body = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-4.1-mini-2025-04-14",
            "choices": choices, "usage": usage});
        format!("data: {body}")
    };
    let safe = json!({"hate": {"filtered": false, "severity": "safe"}});
    [
        PROMPT.to_owned(),
        chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null, "content_filter_results": {}}]), Value::Null),
        chunk(json!([{"index": 0, "delta": {"content": "hi"}, "finish_reason": null, "content_filter_results": safe}]), Value::Null),
        BESIDE.to_owned(),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop", "content_filter_results": {}}]), Value::Null),
        chunk(json!([]), json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})),
        "data: [DONE]".to_owned(),
    ]
    .map(|event| format!("{event}\n\n"))
    .concat()
}

/// Asks with this body and tells where, by which headers and with which model the provider was asked.
async fn asked(
    version: Option<&str>,
    base: &str,
    protocol: Protocol,
    operation: Operation,
    body: &str,
) -> (String, String, String) {
    let provider = Provider::always(Play::Whole(404, "", "{}".into())).await;
    let target = azure(&provider, version);
    let base_url = format!("{}{base}", target.base_url);
    let house = House::new(vec![Target { protocol, base_url, ..target }]).await;
    assert_eq!(house.ask(operation, body).await.status, 404);
    let got = provider.got().pop().unwrap();
    let line = got.head.lines().next().unwrap().to_owned();
    (line, got.head, serde_json::from_str::<Value>(&got.body).unwrap()["model"].to_string())
}

#[tokio::test]
async fn each_operation_has_its_address_in_both_families() {
    let chat = hello(false).to_string();
    let (embed, respond) = (r#"{"model":"fast","input":"hello"}"#, r#"{"model":"fast","input":"hello"}"#);
    let dated = Some("2024-10-21");
    let (whole_chat, whole_embed) = (Operation::Chat, Operation::Embeddings);
    for (version, base, protocol, operation, body, path) in [
        (None, "", Protocol::Chat, whole_chat, chat.as_str(), "/openai/v1/chat/completions"),
        (None, "/openai/v1/", Protocol::Chat, whole_chat, &chat, "/openai/v1/chat/completions"),
        (Some("preview"), "", Protocol::Chat, whole_chat, &chat, "/openai/v1/chat/completions?api-version=preview"),
        (None, "", Protocol::Responses, Operation::Responses, respond, "/openai/v1/responses"),
        (None, "", Protocol::Chat, whole_embed, embed, "/openai/v1/embeddings"),
        (
            dated,
            "",
            Protocol::Chat,
            whole_chat,
            &chat,
            "/openai/deployments/my%20chat%2Feu/chat/completions?api-version=2024-10-21",
        ),
        (
            dated,
            "/openai",
            Protocol::Chat,
            whole_embed,
            embed,
            "/openai/deployments/my%20chat%2Feu/embeddings?api-version=2024-10-21",
        ),
        (
            Some("2025-04-01-preview"),
            "",
            Protocol::Responses,
            Operation::Responses,
            respond,
            "/openai/responses?api-version=2025-04-01-preview",
        ),
    ] {
        let (line, head, model) = asked(version, base, protocol, operation, body).await;
        assert_eq!(line, format!("POST {path} HTTP/1.1"));
        assert!(head.contains("\r\napi-key: the-value-of-provider-key\r\n"), "{head}");
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
        assert_eq!(model, r#""my chat/eu""#);
    }
}

#[tokio::test]
async fn a_deployment_whose_name_climbs_is_asked_of_nobody() {
    let provider = Provider::start(Vec::new()).await;
    let climbing = Target { model: "..".into(), ..azure(&provider, Some("2024-10-21")) };
    let house = House::new(vec![climbing]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(reply.status, 400);
    assert_eq!(parsed(reply)["error"]["agent_os"]["code"], "AOS-2031");
    assert!(provider.got().is_empty());
    assert_eq!(house.ledger.reserved_in_all(), 0);
}

#[tokio::test]
async fn only_the_model_of_a_request_changes_and_an_answer_keeps_what_the_filter_found() {
    let mut told: Value = serde_json::from_str(&answer()).unwrap();
    told["prompt_filter_results"] =
        json!([{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false}}}]);
    told["choices"][0]["content_filter_results"] = json!({"hate": {"filtered": false, "severity": "safe"}});
    let provider = Provider::start(vec![Play::Whole(200, "", told.to_string()); 2]).await;
    let house = House::new(vec![azure(&provider, None)]).await;
    let body = r#"{ "model":"fast", "temperature": 1.0, "messages":[{"role":"user","content":"é"}], "max_tokens": 50,"data_sources":[] }"#;
    let reply = house.ask(Operation::Chat, body).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("110"));
    assert_eq!(whole(reply), told.to_string());
    assert_eq!(provider.got()[0].body, body.replace("\"fast\"", "\"my chat/eu\""));
    // A client of another protocol is told, too.
    let messages = json!({"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]});
    let told = parsed(house.ask(Operation::Messages, &messages.to_string()).await);
    assert_eq!(told["content"][0]["text"], "hi", "{told}");
    assert!(told.to_string().contains("prompt_filter_results"), "{told}");
}

#[tokio::test]
async fn a_filtered_prompt_is_final_and_told_in_the_providers_own_words() {
    let first = Provider::start(vec![Play::Whole(400, "", FILTERED.into())]).await;
    let second = Provider::start(Vec::new()).await;
    let house = House::new(vec![azure(&first, None), azure(&second, None)]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(reply.status, 400);
    assert_eq!(whole(reply), FILTERED);
    assert_eq!(*house.reports.lock().unwrap(), ["content_filter"]);
    assert_eq!(house.outcome().await["nano_usd"], 0);
}

#[tokio::test]
async fn a_busy_deployment_says_in_milliseconds_when_it_wants_to_be_asked() {
    let provider =
        Provider::start(vec![Play::Whole(429, "retry-after: 9\r\nretry-after-ms: 7400\r\n", BUSY.into())]).await;
    let house = House::new(vec![azure(&provider, None)]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "retry-after")), (429, Some("8")), "7.4 s, rounded up");
    assert_eq!(*house.reports.lock().unwrap(), ["rate_limited"]);
}

#[tokio::test]
async fn a_stream_passes_with_its_chunks_of_no_choice_and_begins_with_its_name_elsewhere() {
    let plays = vec![Play::Events(vec![Piece::Bytes(stream())]); 2];
    let provider = Provider::start(plays).await;
    let house = House::new(vec![azure(&provider, None)]).await;
    let text = streamed(house.chat(hello(true)).await).await;
    let passed: String = text.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect();
    let usage = stream().split_inclusive("\n\n").nth(5).unwrap().to_owned();
    assert_eq!(passed, stream().replace(&usage, ""), "all but the usage that nobody asked for");
    assert!(text.contains("cost-nano-usd=110 estimated=false"), "{text}");

    let messages =
        json!({"model": "fast", "max_tokens": 50, "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let text = streamed(house.ask(Operation::Messages, &messages.to_string()).await).await;
    let start = text.split("\n\n").find(|event| event.starts_with("event: message_start")).unwrap();
    assert!(start.contains("chatcmpl-1") && start.contains("gpt-4.1-mini-2025-04-14"), "{start}");
    for found in ["prompt_filter_results", "content_filter_offsets", "\"text\":\"hi\"", "message_stop"] {
        assert!(text.contains(found), "{found} is lost: {text}");
    }
}
