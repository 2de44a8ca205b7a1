//! Servers that send too much, too slowly, or nonsense.

use std::time::Duration;

use agentos_types::{Code, Fault};
use async_trait::async_trait;

use super::{
    server::{Reply, Server, ok},
    stage::{PUBLIC, PUBLIC_TOO, Stage, get},
};
use crate::{Dialer, DialerOptions, Method, Request, Resolve, Response};

/// One GET with a body limit of 1,000 bytes against a server that gives one reply.
async fn check_request(request: Request, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<Response, Fault> {
    let server = Server::start(move |_| reply()).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    stage.send(Request { max_bytes: Some(1_000), ..request }).await
}

async fn check(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<usize, Code> {
    let outcome = check_request(get("http://a.test/"), reply).await;
    outcome.map(|response| response.body.len()).map_err(|fault| fault.code)
}

async fn check_bytes(reply: &'static str) -> Result<usize, Code> {
    check(move || Reply::Close(reply.into())).await
}

#[tokio::test]
async fn header_bombs_are_defused() {
    let too_large = Err(Code::RESPONSE_TOO_LARGE);
    let start = || b"HTTP/1.1 200 OK\r\n".to_vec();
    assert_eq!(
        check(move || Reply::Endless(start(), b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_vec())).await,
        too_large
    );
    assert_eq!(
        check(move || Reply::Endless(start(), b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec())).await,
        too_large
    );
    let many = || format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert_eq!(check(move || Reply::Close(many().into())).await, too_large);
}

#[tokio::test]
async fn oversized_bodies_are_cut_off() {
    let too_large = Err(Code::RESPONSE_TOO_LARGE);
    assert_eq!(check(|| ok(&"x".repeat(1_000))).await, Ok(1_000));
    assert_eq!(check(|| ok(&"x".repeat(1_001))).await, too_large);
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
    // Announced only: refused although nothing follows.
    assert_eq!(check(move || Reply::Stall(head("Content-Length: 99999999999\r\n"))).await, too_large);
    assert_eq!(check(move || Reply::Endless(head(""), vec![b'x'; 4096])).await, too_large);
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(check(move || Reply::Endless(head(chunked), b"1\r\nx\r\n".to_vec())).await, too_large);

    let fault = check_request(get("http://a.test/"), || ok(&"x".repeat(1_001))).await.unwrap_err();
    assert_eq!(fault.message, "the answer of a.test:80 is larger than 1000 bytes");
    assert!(fault.hint.unwrap().contains("`dialer.response_bytes_max`"));
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let head = Request { method: Method::Head, ..get("http://a.test/") };
    let reply = || Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec());
    let response = check_request(head, reply).await.unwrap();
    assert_eq!(response.body, b"");
    assert_eq!(response.headers, [("content-length".to_owned(), "99999999".to_owned())]);
}

#[tokio::test]
async fn nonsense_is_named_as_such() {
    let malformed = Err(Code::RESPONSE_MALFORMED);
    let cut_off = Err(Code::CONNECTION_LOST);
    assert_eq!(check_bytes("SSH-2.0-OpenSSH_9.2p1\r\n").await, malformed);
    assert_eq!(check_bytes("<html></html>\r\n\r\n").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 xyz OK\r\n\r\n").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nbad header\r\n\r\n").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await, malformed);
    assert_eq!(check_bytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").await, malformed);
    assert_eq!(check_bytes("").await, cut_off);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nContent-Len").await, cut_off);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await, cut_off);
    assert_eq!(check_bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf").await, cut_off);
    assert_eq!(check_bytes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nfine").await, Ok(4));
    assert_eq!(check_bytes("HTTP/1.0 200 OK\r\n\r\nuntil the end").await, Ok(13));
}

/// Waits until the server has fallen silent, lets the time limit pass, and expects the socket to be closed at once.
async fn check_silence(reply: fn() -> Reply) {
    let server = Server::start(move |_| reply()).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    let request = Request { timeout: Some(Duration::from_secs(60)), ..get("http://a.test/") };
    let sent = tokio::spawn(async move { stage.send(request).await });
    server.stalled.notified().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    let fault = sent.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert_eq!(fault.code, Code::REMOTE_TIMEOUT);
    assert_eq!(fault.message, "a.test:80 did not answer completely within 60000 ms");
    assert!(fault.hint.unwrap().contains("`dialer.timeout_max_ms`"));
    server.stalled.notified().await;
}

#[tokio::test]
async fn silence_ends_at_the_time_limit() {
    check_silence(|| Reply::Stall(Vec::new())).await;
    check_silence(|| Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-".to_vec())).await;
    check_silence(|| Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())).await;
    check_silence(|| Reply::Stall(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())).await;
}

/// A server that always sends a little more is not silent, and still ends at the limit.
#[tokio::test]
async fn endless_interim_answers_end_at_the_time_limit() {
    let server = Server::start(|_| Reply::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    let request = Request { timeout: Some(Duration::from_millis(200)), ..get("http://a.test/") };
    assert_eq!(stage.send(request).await.unwrap_err().code, Code::REMOTE_TIMEOUT);
}

struct SilentResolver;

#[async_trait]
impl Resolve for SilentResolver {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<std::net::IpAddr>> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_lookup_counts() {
    let dialer = Dialer::with_resolver(DialerOptions::default(), std::sync::Arc::new(SilentResolver)).unwrap();
    let fault = dialer.send(get("http://a.test/"), &|_| true).await.unwrap_err();
    assert_eq!((fault.code, fault.message.contains("20000 ms")), (Code::REMOTE_TIMEOUT, true), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn the_connection_counts() {
    let stage = Stage::new().name("a.test", &[PUBLIC]).black_hole(PUBLIC);
    assert_eq!(stage.get("http://a.test/").await, Err(Code::REMOTE_TIMEOUT));
}

#[tokio::test]
async fn a_dead_address_leaves_time_for_the_next_one() {
    let server = Server::start(|_| ok("second")).await;
    let both = format!("{PUBLIC} {PUBLIC_TOO}");
    let stage = Stage::new().name("a.test", &[&both]).black_hole(PUBLIC).route(PUBLIC_TOO, server.address);
    let sender = stage.clone();
    let sent = tokio::spawn(async move { sender.get("http://a.test/").await });
    stage.routes.swallowed.notified().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(5_001)).await;
    tokio::time::resume();
    assert_eq!(sent.await.unwrap().as_deref(), Ok("second"));
}
