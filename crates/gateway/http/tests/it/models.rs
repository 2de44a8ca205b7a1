//! The routes of models over a scripted kernel: identity, bodies, streams, and errors as the clients of each protocol read them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_api::models::{
    ModelBody, ModelCaller, ModelInfo, ModelOperation, ModelReply, ModelRequest, Models, STREAM_PIECES_MAX,
};
use agentos_gateway::GatewayOptions;
use agentos_types::{Code, Result, Role, Scope};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::{
    harness::{PATIENCE, Stage, expect_problem, options, raw, stage, stage_with},
    kernel::{token_of, token_of_role},
};

/// Answers as its script says, and remembers what it was asked.
#[derive(Default)]
pub struct ScriptedModels {
    pub calls: Mutex<Vec<(ModelCaller, ModelRequest)>>,
    /// The reply of the next call; a small one in JSON if there is none.
    pub next: Mutex<Option<ModelReply>>,
    /// Calls wait here when it is set.
    pub holds: Mutex<bool>,
    pub cancelled: Arc<Notify>,
}

/// Tells when a call was dropped before it had answered.
struct Pending(Arc<Notify>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl ScriptedModels {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn will_stream(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(STREAM_PIECES_MAX);
        *self.next.lock().unwrap() = Some(reply(200, "text/event-stream", ModelBody::Stream(receiver)));
        sender
    }
}

fn reply(status: u16, kind: &str, body: ModelBody) -> ModelReply {
    let headers = vec![("content-type".into(), kind.into()), ("x-agent-os-attempts".into(), "1".into())];
    ModelReply { status, headers, body }
}

#[async_trait]
impl Models for ScriptedModels {
    async fn call(&self, caller: ModelCaller, request: ModelRequest) -> ModelReply {
        self.calls.lock().unwrap().push((caller, request));
        if *self.holds.lock().unwrap() {
            let _pending = Pending(self.cancelled.clone());
            std::future::pending::<()>().await;
        }
        let scripted = self.next.lock().unwrap().take();
        scripted.unwrap_or_else(|| reply(200, "application/json", ModelBody::Whole(r#"{"id":"x"}"#.into())))
    }

    async fn list(&self, _: &ModelCaller) -> Result<Vec<ModelInfo>> {
        let of = |id: &str, owner: &str| ModelInfo { id: id.into(), owned_by: owner.into() };
        Ok(vec![of("fast", "agent-os"), of("openai/gpt-4o-mini", "openai")])
    }
}

const ROUTES: [(&str, ModelOperation); 5] = [
    ("/v1/chat/completions", ModelOperation::Chat),
    ("/v1/responses", ModelOperation::Responses),
    ("/v1/embeddings", ModelOperation::Embeddings),
    ("/v1/messages?beta=true", ModelOperation::Messages),
    ("/v1/messages/count_tokens", ModelOperation::CountTokens),
];

fn call(stage: &Stage, path: &str) -> reqwest::RequestBuilder {
    stage.with_token(Scope::Models, "POST", path).json(&json!({"model": "fast"}))
}

#[tokio::test]
async fn a_body_reaches_the_kernel_as_it_came_and_the_answer_the_client() {
    let stage = stage().await;
    let body = "{ \"model\" : \"fast\",\n \"unknown\": 1.0e3, \"unknown\": 2 }";
    for (path, operation) in ROUTES {
        let request = stage.with_token(Scope::Models, "POST", path).header("content-type", "application/json");
        let answer =
            request.header("anthropic-beta", "b").header("idempotency-key", "k").body(body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-agent-os-attempts"]), (200, &"1".parse().unwrap()));
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.text().await.unwrap(), r#"{"id":"x"}"#);
        let (caller, request) = stage.models.calls.lock().unwrap().pop().unwrap();
        assert_eq!((request.operation, &request.body[..]), (operation, body.as_bytes()));
        assert_eq!(request.headers, [("anthropic-beta".to_owned(), "b".to_owned())]);
        assert_eq!((request.idempotency_key.as_deref(), request.request_id.to_string()), (Some("k"), id));
        assert!(request.traceparent.is_some());
        let ModelCaller::Token { name, models, context, .. } = caller else { panic!("{caller:?}") };
        assert_eq!((name, models), (token_of(Scope::Models), vec!["fast".to_owned()]));
        assert_eq!(context.request_id, request.request_id);
    }
}

#[tokio::test]
async fn the_token_may_be_in_the_header_of_anthropic_on_these_routes_alone() {
    let stage = stage().await;
    let token = token_of_role(Role::ModelCaller);
    let ask = |path: &str| stage.bare("POST", path).json(&json!({})).header("x-api-key", &token);
    assert_eq!(ask("/v1/messages").send().await.unwrap().status(), 200);
    assert_eq!(ask("/v1/messages").bearer_auth(&token).send().await.unwrap().status(), 200);
    let two = ask("/v1/messages").bearer_auth(token_of(Scope::Admin));
    expect_problem(two, Code::UNAUTHENTICATED).await;
    expect_problem(ask("/v1/messages").header("x-api-key", &token), Code::UNAUTHENTICATED).await;
    expect_problem(
        stage.bare("GET", "/api/v1/agents").header("x-api-key", token_of(Scope::Admin)),
        Code::UNAUTHENTICATED,
    )
    .await;
    assert_eq!(stage.models.calls.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn errors_before_the_kernel_are_told_as_the_official_clients_read_them() {
    let stage = stage_with(GatewayOptions { requests_per_second: 2, ..options() }).await;
    let json_of =
        |answer: reqwest::Response| async move { (answer.status().as_u16(), answer.json::<Value>().await.unwrap()) };
    let (status, openai) =
        json_of(stage.bare("POST", "/v1/chat/completions").json(&json!({})).send().await.unwrap()).await;
    assert_eq!((status, openai["error"]["type"].as_str()), (401, Some("authentication_error")), "{openai}");
    let anthropic =
        stage.bare("POST", "/v1/messages").header("x-api-key", "wrong").json(&json!({})).send().await.unwrap();
    let (status, anthropic) = json_of(anthropic).await;
    assert_eq!((status, anthropic["type"].as_str()), (401, Some("error")), "{anthropic}");
    assert_eq!(anthropic["error"]["type"], "authentication_error");

    let limited = async {
        loop {
            let answer = call(&stage, "/v1/messages").send().await.unwrap();
            if answer.status() != 200 {
                return answer;
            }
        }
    };
    let limited = tokio::time::timeout(PATIENCE, limited).await.unwrap();
    assert!(limited.headers().contains_key("retry-after"));
    let (status, limited) = json_of(limited).await;
    assert_eq!((status, limited["error"]["type"].as_str()), (429, Some("rate_limit_error")), "{limited}");
}

#[tokio::test]
async fn a_body_has_a_limit_of_its_own_and_is_json() {
    let stage = stage().await;
    let sized = |bytes: usize| {
        let request =
            stage.with_token(Scope::Models, "POST", "/v1/messages").header("content-type", "application/json");
        request.body(vec![b' '; bytes])
    };
    assert_eq!(sized(128 * 1024).send().await.unwrap().status(), 200, "above the limit of other bodies");
    let refused = expect_problem(sized(128 * 1024 + 1), Code::BODY_TOO_LARGE).await;
    assert_eq!(refused.hint.as_deref(), Some("raise models.body_bytes_max"));
    let form = stage.with_token(Scope::Models, "POST", "/v1/responses").body("a=1");
    expect_problem(form, Code::UNSUPPORTED_MEDIA_TYPE).await;
    expect_problem(call(&stage, "/v1/responses").header("idempotency-key", "a b"), Code::BODY_INVALID).await;
    expect_problem(stage.with_token(Scope::Models, "GET", "/v1/responses"), Code::METHOD_NOT_ALLOWED).await;
    expect_problem(stage.with_token(Scope::Models, "POST", "/v1/moderations"), Code::ROUTE_NOT_FOUND).await;
    assert_eq!(stage.models.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_comes_piece_by_piece_and_outlives_the_request_timeout() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(200), ..options() }).await;
    let sender = stage.models.will_stream();
    let answer = call(&stage, "/v1/chat/completions").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut pieces = answer.bytes_stream();
    let started_at = tokio::time::Instant::now();
    let mut received = 0;
    // Each piece is sent only after the one before has arrived, so nothing on the way waits for more.
    while started_at.elapsed() < Duration::from_millis(700) {
        sender.send(Bytes::from(format!("data: {received}\n\n"))).await.unwrap();
        let piece = tokio::time::timeout(PATIENCE, pieces.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(piece, format!("data: {received}\n\n"));
        received += 1;
    }
    drop(sender);
    assert!(pieces.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_cancels_its_stream_and_its_call() {
    let stage = stage().await;
    let sender = stage.models.will_stream();
    let answer = call(&stage, "/v1/messages").send().await.unwrap();
    drop(answer);
    tokio::time::timeout(PATIENCE, sender.closed()).await.expect("the receiver goes with the client");

    *stage.models.holds.lock().unwrap() = true;
    let waiting = tokio::spawn(call(&stage, "/v1/messages").send());
    let seen = async {
        while stage.models.calls.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
    waiting.abort();
    tokio::time::timeout(PATIENCE, stage.models.cancelled.notified()).await.expect("the call goes with the client");
}

#[tokio::test]
async fn a_slow_client_makes_the_provider_wait() {
    let stage = stage().await;
    let sender = stage.models.will_stream();
    let answer = call(&stage, "/v1/messages").send().await.unwrap();
    let piece = Bytes::from(vec![b'x'; 256 * 1024]);
    let mut sent = 0;
    while let Ok(()) = sender.try_send(piece.clone()) {
        sent += 1;
        tokio::time::timeout(Duration::from_millis(300), sender.reserve()).await.map(drop).unwrap_or(());
        assert!(sent < 400, "100 MiB were taken in for a client that reads nothing");
    }
    drop(sender);
    assert_eq!(answer.bytes().await.unwrap().len(), sent * piece.len());
}

#[tokio::test]
async fn a_revoked_token_breaks_its_stream_off_without_an_end() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(200), ..options() }).await;
    let sender = stage.models.will_stream();
    let mut pieces = call(&stage, "/v1/messages").send().await.unwrap().bytes_stream();
    sender.send("data: 1\n\n".into()).await.unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
    stage.kernel.with(|state| state.revoked.push(token_of(Scope::Models)));
    let end = tokio::time::timeout(PATIENCE, pieces.next()).await.expect("the stream ends");
    assert!(matches!(end, Some(Err(_))), "a stream that was cut must not look whole");
    tokio::time::timeout(PATIENCE, sender.closed()).await.unwrap();
}

#[tokio::test]
async fn errors_of_the_kernel_pass_as_they_are() {
    let stage = stage().await;
    let body = r#"{"error":{"message":"m","type":"insufficient_quota"}}"#;
    for (status, kind) in [(402, "application/json"), (500, "text/plain")] {
        *stage.models.next.lock().unwrap() = Some(reply(status, kind, ModelBody::Whole(body.into())));
        let answer = call(&stage, "/v1/chat/completions").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (status, body));
    }
}

#[tokio::test]
async fn models_are_listed_in_both_forms() {
    let stage = stage().await;
    let list = || stage.with_token(Scope::Models, "GET", "/v1/models");
    let openai: Value = list().send().await.unwrap().json().await.unwrap();
    assert_eq!((openai["object"].as_str(), openai["data"][1]["owned_by"].as_str()), (Some("list"), Some("openai")));
    let anthropic: Value = list().header("anthropic-version", "2023-06-01").send().await.unwrap().json().await.unwrap();
    assert_eq!((&anthropic["data"][0]["id"], &anthropic["last_id"]), (&json!("fast"), &json!("openai/gpt-4o-mini")));
}

#[tokio::test]
async fn heads_that_are_refused_before_the_routes_are_told_in_the_protocol_too() {
    let stage = stage().await;
    let answer = raw(
        &stage,
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(r#""type":"error""#), "{answer}");
}

#[tokio::test]
async fn a_body_that_finds_no_room_is_refused_with_a_time_and_those_inside_are_unharmed() {
    let stage = stage().await;
    let large = json!({"model": "fast", "input": "x".repeat(100 * 1024)});
    let ask = |path: &str| stage.with_token(Scope::Models, "POST", path).json(&large);
    *stage.models.holds.lock().unwrap() = true;
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(ask("/v1/chat/completions").send())).collect();
    let both = async {
        while stage.models.calls.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    *stage.models.holds.lock().unwrap() = false;
    for (path, field) in [("/v1/chat/completions", "/error/code"), ("/v1/messages", "/agent_os/code")] {
        let refused = ask(path).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
        let told: Value = refused.json().await.unwrap();
        assert_eq!(told.pointer(field), Some(&json!(Code::MODEL_BODIES_FULL.to_string())), "{told}");
    }
    assert_eq!(call(&stage, "/v1/messages").send().await.unwrap().status(), 200, "a small one finds room");
    assert_eq!(stage.models.calls.lock().unwrap().len(), 3, "what was refused reached nobody");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    let free = async { while ask("/v1/responses").send().await.unwrap().status() != 200 {} };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}
