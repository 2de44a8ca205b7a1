//! Rates, connections, headers, slow clients.

use std::time::Duration;

use agentos_gateway::GatewayOptions;
use agentos_types::{Code, Scope};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{Stage, expect_problem, options, raw, stage, stage_with, until_closed},
    kernel::token_of,
};

#[tokio::test]
async fn a_token_has_a_rate_of_its_own() {
    let stage = stage_with(GatewayOptions { requests_per_second: 3, ..options() }).await;
    let read = || stage.with_token(Scope::Read, "GET", "/api/v1/agents");
    for _ in 0..3 {
        assert_eq!(read().send().await.unwrap().status(), 200);
    }
    let response = read().send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let problem = crate::harness::problem(response).await;
    assert_eq!(problem.code, Code::GATEWAY_RATE_LIMITED);
    assert!((1..=334).contains(&problem.retry_after_ms.unwrap()), "{problem:?}");
    assert_eq!(stage.admin("GET", "/api/v1/agents").send().await.unwrap().status(), 200, "another token has its own");
    stage.clock.advance(Duration::from_millis(334));
    assert_eq!(read().send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn strangers_share_the_rate_of_their_address_and_cannot_lock_a_token_out() {
    let stage = stage_with(GatewayOptions { requests_per_second: 3, ..options() }).await;
    for path in ["/live", "/api/v1/agents", "/nowhere"] {
        assert_ne!(stage.bare("GET", path).send().await.unwrap().status(), 429, "{path}");
    }
    for path in ["/live", "/api/v1/agents", "/nowhere", "/errors/AOS-1000", "/api/v1/ws"] {
        expect_problem(stage.bare("GET", path), Code::GATEWAY_RATE_LIMITED).await;
    }
    expect_problem(stage.bare("POST", "/live"), Code::GATEWAY_RATE_LIMITED).await;
    expect_problem(stage.bare("GET", "/health").bearer_auth("guess"), Code::GATEWAY_RATE_LIMITED).await;
    assert_eq!(stage.admin("GET", "/api/v1/agents").send().await.unwrap().status(), 200);
}

/// A connection that asked something with this token and stays open.
async fn held(stage: &Stage, token: Option<&str>) -> TcpStream {
    let mut stream = stage.connect().await;
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let path = if token.is_some() { "/api/v1/agents" } else { "/live" };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn connections_above_the_limit_are_told_so() {
    let stage = stage_with(GatewayOptions { connections_max: 2, ..options() }).await;
    let (one, other) = (token_of(Scope::Read), token_of(Scope::Admin));
    let known = [held(&stage, Some(&one)).await, held(&stage, Some(&other)).await];
    let answer = raw(&stage, b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("AOS-1709"), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("connection: close"), "{answer}");
    drop(known);
    // The server notices that they are gone and serves again.
    stage.until_metrics_contain("agentos_gateway_connections_refused_total 1").await;
}

#[tokio::test]
async fn one_token_holds_half_of_the_connections_and_is_told_so() {
    let stage = stage_with(GatewayOptions { connections_max: 4, ..options() }).await;
    let token = token_of(Scope::Read);
    let _held = [held(&stage, Some(&token)).await, held(&stage, Some(&token)).await];
    let ask =
        format!("GET /api/v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    let answer = raw(&stage, ask.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("AOS-1709"), "{answer}");
    assert_eq!(stage.admin("GET", "/api/v1/agents").send().await.unwrap().status(), 200, "another token");
}

#[tokio::test]
async fn strangers_make_room_for_newcomers_and_tokens_stay() {
    let stage = stage_with(GatewayOptions { connections_max: 8, strangers_per_address_max: 4, ..options() }).await;
    let mut known = held(&stage, Some(&token_of(Scope::Read))).await;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(stage.connect().await);
    }
    // The sixteen oldest are closed without a word, one after the other.
    for mut stranger in strangers.drain(..16) {
        assert_eq!(until_closed(&mut stranger).await, "");
    }
    stage.until_metrics_contain("agentos_gateway_connections_refused_total 0").await;
    known.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut known).await.contains("HTTP/1.1 200"), "who has a token keeps the connection");
}

#[tokio::test]
async fn headers_have_a_size_and_a_number() {
    let stage = stage().await;
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(64 * 1024));
    for headers in [many, large] {
        let answer = raw(&stage, format!("GET /live HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("AOS-1718"), "{answer}");
    }
    let answer = raw(&stage, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(64 * 1024)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("AOS-1718"), "{answer}");
}

#[tokio::test]
async fn headers_that_come_too_slowly_end_the_connection() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(200), ..options() }).await;
    let mut stream = stage.connect().await;
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("AOS-1714"), "{answer}");
    // Who says nothing at all is told nothing.
    assert_eq!(until_closed(&mut stage.connect().await).await, "");
    let mut idle = held(&stage, None).await;
    let rest = until_closed(&mut idle).await;
    assert!(!rest.contains("408"), "{rest}");
}

#[tokio::test]
async fn garbage_and_smuggling_are_refused_and_harm_nobody() {
    let stage = stage().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /live HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET /live HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
        b"GET /live HTTP/1.1\r\nhost: x\r\nx-folded: a\r\n b\r\n\r\n",
    ] {
        let answer = raw(&stage, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("AOS-1717"), "{answer}");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert_eq!(stage.bare("GET", "/live").send().await.unwrap().status(), 200);
}
