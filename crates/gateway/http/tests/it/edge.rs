//! The edge inside of sandboxes: identity by the listener, the gateway's limits, and the end that the token brings.

use std::{net::SocketAddr, sync::Arc};

use agentos_api::models::{ModelBody, ModelCaller, ModelOperation};
use agentos_types::Code;
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    door,
    harness::{PATIENCE, problem, until_closed},
    models::ScriptedModels,
    samples,
};

struct Inside {
    models: Arc<ScriptedModels>,
    address: SocketAddr,
    until: CancellationToken,
    client: Client,
}

fn inside_at(address: &str) -> Inside {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (models, edge) = door::edge();
    let listener = std::net::TcpListener::bind(address).unwrap();
    let (address, until) = (listener.local_addr().unwrap(), CancellationToken::new());
    edge.listen(listener, door::agent(), until.clone()).unwrap();
    Inside { models, address, until, client: Client::builder().no_proxy().build().unwrap() }
}

impl Inside {
    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address)).timeout(PATIENCE).json(&json!({"model": "fast"}))
    }
}

#[tokio::test]
async fn who_asks_is_known_by_the_listener_and_no_key_is_looked_at() {
    let inside = inside_at("127.0.0.1:0");
    for (path, operation) in [
        ("/v1/chat/completions", ModelOperation::Chat),
        ("/v1/responses", ModelOperation::Responses),
        ("/v1/embeddings", ModelOperation::Embeddings),
        ("/v1/messages?beta=true", ModelOperation::Messages),
        ("/v1/messages/count_tokens", ModelOperation::CountTokens),
    ] {
        let answer = inside.post(path).bearer_auth("placeholder").header("x-api-key", "other").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("x-request-id")), (200, true));
        let (caller, request) = inside.models.calls.lock().unwrap().pop().unwrap();
        assert_eq!((request.operation, request.headers.len()), (operation, 0));
        let ModelCaller::Agent { agent, task, step, .. } = caller else { panic!("{caller:?}") };
        assert_eq!((agent, task, step), (samples::agent_name(), Some(samples::task_id(1)), None));
    }
    let list = inside.client.get(format!("http://{}/v1/models", inside.address)).send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["data"][0]["id"], "fast");
}

#[tokio::test]
async fn what_is_refused_is_told_in_the_protocol() {
    let inside = inside_at("127.0.0.1:0");
    let check = async |request: RequestBuilder, code: Code| {
        assert_eq!(problem(request.send().await.unwrap()).await.code, code);
    };
    check(inside.post("/v1/moderations"), Code::ROUTE_NOT_FOUND).await;
    check(inside.post("/v1/models"), Code::METHOD_NOT_ALLOWED).await;
    check(inside.client.get(format!("http://{}/v1/messages", inside.address)), Code::METHOD_NOT_ALLOWED).await;
    check(inside.post("/v1/messages").header("content-encoding", "gzip"), Code::UNSUPPORTED_MEDIA_TYPE).await;
    check(inside.post("/v1/messages").body(vec![b' '; 64 * 1024 + 1]), Code::BODY_TOO_LARGE).await;
    // The API of AgentOS is not there, whatever token is sent.
    let api = inside.client.get(format!("http://{}/api/v1/tasks", inside.address)).bearer_auth("admin-token");
    assert_eq!(api.send().await.unwrap().status(), 404);
    assert!(inside.models.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_flows_and_ends_with_its_client_or_its_sandbox() {
    let inside = inside_at("127.0.0.1:0");
    let sender = inside.models.will_stream();
    let mut pieces = inside.post("/v1/messages").send().await.unwrap().bytes_stream();
    for number in 0..3 {
        sender.send(Bytes::from(format!("data: {number}\n\n"))).await.unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap(), format!("data: {number}\n\n"));
    }
    drop(pieces);
    tokio::time::timeout(PATIENCE, sender.closed()).await.expect("the client's end reaches the kernel");

    let sender = inside.models.will_stream();
    let mut pieces = inside.post("/v1/messages").send().await.unwrap().bytes_stream();
    sender.send("data: 1\n\n".into()).await.unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
    inside.until.cancel();
    tokio::time::timeout(PATIENCE, sender.closed()).await.expect("the sandbox's end reaches the kernel");
    assert!(matches!(pieces.next().await, Some(Err(_))), "a cut stream must not look whole");
    let again = async { while TcpStream::connect(inside.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the listener is closed");
}

#[tokio::test]
async fn a_slow_head_and_idle_connections_are_closed_and_make_room() {
    let inside = inside_at("127.0.0.1:0");
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(inside.address).await.unwrap();
        stream.write_all(b"POST /v1/messages HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    assert_eq!(inside.post("/v1/messages").send().await.unwrap().status(), 200, "it waits for a place and gets one");
    for stream in &mut idle {
        until_closed(stream).await;
    }
}

#[tokio::test]
async fn an_address_that_only_looks_like_a_model_is_not_answered() {
    let inside = inside_at("0.0.0.0:0");
    let other = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    other.connect("192.0.2.1:9").unwrap();
    let own = other.local_addr().unwrap().ip();
    if own.is_loopback() {
        return;
    }
    let mut stream = TcpStream::connect((own, inside.address.port())).await.unwrap();
    let _ = stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(until_closed(&mut stream).await, "");
}

#[tokio::test]
async fn a_reply_that_is_an_error_passes_as_it_is() {
    let inside = inside_at("127.0.0.1:0");
    let body = ModelBody::Whole(r#"{"error":{"message":"m"}}"#.into());
    let reply = agentos_api::models::ModelReply { status: 402, headers: Vec::new(), body };
    *inside.models.next.lock().unwrap() = Some(reply);
    let answer = inside.post("/v1/responses").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (402, r#"{"error":{"message":"m"}}"#)
    );
}
