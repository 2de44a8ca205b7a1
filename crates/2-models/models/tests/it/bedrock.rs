//! Bedrock: Chat at its endpoint for OpenAI's clients, Messages through InvokeModel with its framing of streams, API keys and
//! signatures.

use agentos_dialer::CheckedUrl;
use agentos_models::{Operation, ToSign, key_headers};
use agentos_router::{Kind, Target};
use agentos_secrets::SecretString;
use agentos_wire::Protocol;
use serde_json::{Value, json};

use super::{
    house::{ACCESS_KEY, House, answer, header, hello, parsed, streamed, target, whole},
    provider::{Play, Provider},
};

const CLAUDE: &str = "us.anthropic.claude-haiku-4-5-20251001-v1:0";
const PATH: &str = "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0";
const TOO_MANY: &str = r#"{"message":"Too many requests, please wait before trying again."}"#;

/// A stream that was framed by another program; see the tests of the framing.
fn recorded(name: &str) -> Vec<u8> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/corpus/eventstream");
    std::fs::read(format!("{corpus}/{name}.bin")).unwrap()
}

fn framed(name: &str) -> Play {
    Play::Framed(recorded(name).chunks(100).map(<[u8]>::to_vec).collect(), true)
}

fn claude(provider: &Provider) -> Target {
    Target {
        base_url: format!("http://{}", provider.address),
        model: CLAUDE.into(),
        protocol: Protocol::Messages,
        ..target(Kind::Bedrock, provider)
    }
}

fn messages(stream: bool) -> Value {
    json!({"model": "fast", "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

fn said() -> String {
    json!({"id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 3}})
    .to_string()
}

#[tokio::test]
async fn clients_of_chat_reach_the_endpoint_for_them_with_an_api_key() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let base_url = format!("http://{}/openai/v1", provider.address);
    let openai = Target { base_url, model: "openai.gpt-oss-20b-1:0".into(), ..target(Kind::Bedrock, &provider) };
    let house = House::new(vec![openai]).await;
    let body = hello(false).to_string();
    let reply = house.ask(Operation::Chat, &body).await;
    assert_eq!(whole(reply), answer());
    let got = &provider.got()[0];
    assert!(got.head.starts_with("POST /openai/v1/chat/completions HTTP/1.1\r\n"), "{}", got.head);
    assert!(got.head.contains("\r\nauthorization: Bearer the-value-of-provider-key\r\n"), "{}", got.head);
    assert_eq!(got.body, body.replace("\"fast\"", "\"openai.gpt-oss-20b-1:0\""));
}

#[tokio::test]
async fn messages_are_invoked_with_what_bedrock_wants_elsewhere_and_nothing_else_changed() {
    let provider = Provider::start(vec![Play::Whole(200, "", said())]).await;
    let house = House::new(vec![claude(&provider)]).await;
    let body = r#"{"model":"fast","max_tokens":50,"temperature":1.0,"messages":[{"role":"user","content":"é"}],"x_new":{"b":1,"a":[2.50]}}"#;
    let mut call = house.call(Operation::Messages, body);
    call.headers = vec![
        ("anthropic-version".into(), "2023-06-01".into()),
        ("anthropic-beta".into(), "context-1m-2025-08-07,fine-grained".into()),
    ];
    let reply = house.run(call).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("110"), "5 × 10 + 3 × 20");
    assert_eq!(whole(reply), said(), "byte for byte");
    let got = &provider.got()[0];
    assert!(got.head.starts_with(&format!("POST {PATH}/invoke HTTP/1.1\r\n")), "{}", got.head);
    assert!(got.head.contains("\r\nauthorization: Bearer the-value-of-provider-key\r\n"), "{}", got.head);
    assert!(!got.head.contains("anthropic-") && !got.head.contains("x-api-key"), "{}", got.head);
    let expected = r#"{"max_tokens":50,"temperature":1.0,"messages":[{"role":"user","content":"é"}],"x_new":{"b":1,"a":[2.50]},"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["context-1m-2025-08-07","fine-grained"]}"#;
    assert_eq!(got.body, expected);
}

#[tokio::test]
async fn a_framed_stream_is_anthropics_own_to_its_clients_and_chat_to_others() {
    let provider = Provider::start(vec![framed("text"), framed("tools")]).await;
    let house = House::new(vec![claude(&provider)]).await;
    let reply = house.ask(Operation::Messages, &messages(true).to_string()).await;
    assert_eq!((reply.status, header(&reply, "content-type")), (200, Some("text/event-stream")));
    let text = streamed(reply).await;
    // The same events as Anthropic sends, so that its own clients read them.
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/corpus/messages/streams/text.sse");
    let wanted = std::fs::read_to_string(corpus).unwrap();
    let events = |text: &str| -> Vec<String> {
        text.split("\n\n")
            .map(str::trim)
            .filter(|event| !event.is_empty() && !event.starts_with(':'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(events(&text), events(&wanted));
    assert!(text.contains("cost-nano-usd=") && text.contains("estimated=false"), "{text}");
    let got = &provider.got()[0];
    assert!(got.head.starts_with(&format!("POST {PATH}/invoke-with-response-stream HTTP/1.1\r\n")), "{}", got.head);
    assert!(got.head.contains("\r\naccept: application/vnd.amazon.eventstream\r\n"), "{}", got.head);
    assert!(!got.body.contains("\"stream\"") && !got.body.contains("\"model\""), "{}", got.body);

    let text = streamed(house.chat(hello(true)).await).await;
    assert!(text.contains("tool_calls") && text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(provider.connections(), 1, "a framed stream that was read to its end leaves its connection");
}

#[tokio::test]
async fn an_exception_before_the_first_event_fails_over_and_one_after_it_ends_the_stream() {
    let provider = Provider::start(vec![framed("throttled_first"), framed("text")]).await;
    let house = House::new(vec![claude(&provider), claude(&provider)]).await;
    let text = streamed(house.ask(Operation::Messages, &messages(true).to_string()).await).await;
    assert!(text.contains("message_stop") && !text.contains("hrottling"), "{text}");
    assert_eq!(house.reports.lock().unwrap()[..2], ["rate_limited", "answered"]);
    // What the request is to blame for is final.
    let provider = Provider::start(vec![framed("refused_first")]).await;
    let house = House::new(vec![claude(&provider), claude(&provider)]).await;
    let reply = house.ask(Operation::Messages, &messages(true).to_string()).await;
    assert_eq!(reply.status, 400);
    assert!(whole(reply).contains("extraneous key [stream]"));
    assert_eq!(*house.reports.lock().unwrap(), ["bad_request"]);
    assert_eq!(house.outcome().await["nano_usd"], 0);
    for name in ["throttled", "model_failed", "damaged", "torn"] {
        let provider = Provider::start(vec![framed(name)]).await;
        let house = House::new(vec![claude(&provider)]).await;
        let text = streamed(house.ask(Operation::Messages, &messages(true).to_string()).await).await;
        assert!(text.contains("Grü"), "{name}: what was whole has come: {text}");
        assert!(text.contains("event: error\n") && !text.contains("message_stop"), "{name}: {text}");
        let outcome = house.outcome().await;
        assert_eq!(outcome["end"], "broken", "{name}");
        assert!(outcome["nano_usd"].as_i64().unwrap() >= 1_250, "{name}: 125 tokens of input were read: {outcome}");
        assert_eq!(house.ledger.reserved_in_all(), 0, "{name}");
    }
    // A connection that ends in the middle, though no message is torn.
    let provider = Provider::start(vec![Play::Framed(vec![recorded("text")[..600].to_vec()], false)]).await;
    let house = House::new(vec![claude(&provider)]).await;
    let text = streamed(house.ask(Operation::Messages, &messages(true).to_string()).await).await;
    assert!(text.contains("event: error\n") && !text.contains("message_stop"), "{text}");
}

#[tokio::test]
async fn the_word_for_an_error_stands_beside_its_body() {
    for (status, word, body, class) in [
        (429, "ThrottlingException", TOO_MANY, "rate_limited"),
        (
            429,
            "ThrottlingException",
            r#"{"message":"Too many tokens per day, please wait before trying again."}"#,
            "quota_exhausted",
        ),
        (429, "ModelNotReadyException", r#"{"message":"wait"}"#, "overloaded"),
        (424, "ModelErrorException", r#"{"message":"it failed","originalStatusCode":500}"#, "server"),
        (408, "ModelTimeoutException", r#"{"message":"slow"}"#, "timeout"),
        (403, "AccessDeniedException", r#"{"Message":"no access to the model"}"#, "auth"),
        (400, "ServiceQuotaExceededException", r#"{"message":"no more"}"#, "quota_exhausted"),
    ] {
        let head: &'static str = format!("x-amzn-errortype: {word}:http://internal.amazon.com/coral/\r\n").leak();
        let failing = Provider::start(vec![Play::Whole(status, head, body.into())]).await;
        let next = Provider::start(vec![Play::Whole(200, "", said())]).await;
        let house = House::new(vec![claude(&failing), claude(&next)]).await;
        let reply = house.ask(Operation::Messages, &messages(false).to_string()).await;
        assert_eq!(reply.status, 200, "{word}");
        assert_eq!(*house.reports.lock().unwrap(), [class, "answered"], "{word}");
    }
}

#[tokio::test]
async fn requests_are_signed_with_an_access_key_where_a_region_says_so() {
    let provider = Provider::start(vec![Play::Whole(200, "", said())]).await;
    let signing = Target {
        sigv4_region: Some("us-east-1".into()),
        key: Some("access-key".parse().unwrap()),
        ..claude(&provider)
    };
    // A secret that is no access key is as good as none: the next one is asked.
    let wrong = Target { key: Some("provider-key".parse().unwrap()), ..signing.clone() };
    let house = House::new(vec![wrong, signing]).await;
    let reply = house.ask(Operation::Messages, &messages(false).to_string()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(*house.reports.lock().unwrap(), ["auth", "answered"]);
    let got = &provider.got()[0];
    // What was signed is what has arrived: path, host, body, second. The signature itself has its vectors.
    let url = CheckedUrl::parse(&format!("http://{}{PATH}/invoke", provider.address)).unwrap();
    let to_sign = ToSign { method: "POST", url: &url, body: got.body.as_bytes(), at: house.ambient.now() };
    let expected = key_headers(Kind::Bedrock, Some("us-east-1"), &SecretString::from(ACCESS_KEY), to_sign).unwrap();
    for (name, value) in &expected {
        assert!(got.head.contains(&format!("\r\n{name}: {value}\r\n")), "{name}: {value}\n{}", got.head);
    }
    assert_eq!(expected.len(), 2, "a key that does not end has no token");
    assert!(expected[0].1.contains("SignedHeaders=host;x-amz-date,"), "{expected:?}");
    assert!(!got.head.contains("wJalrXUtnFEMI"), "the secret part never leaves");
}

#[tokio::test]
async fn tokens_are_counted_here() {
    let provider = Provider::start(Vec::new()).await;
    let house = House::new(vec![claude(&provider)]).await;
    let reply = house.ask(Operation::CountTokens, &messages(false).to_string()).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-estimated")), (200, Some("true")));
    assert!(parsed(reply)["input_tokens"].as_u64().unwrap() > 10);
    assert!(provider.got().is_empty());
}
