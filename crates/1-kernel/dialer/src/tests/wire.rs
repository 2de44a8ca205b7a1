//! What really goes over the wire, and what comes back.

use super::{
    server::{Reply, Server, ok, redirect},
    stage::{PUBLIC, Stage, get},
};
use crate::{Header, Method, Request};

async fn sent(request: Request) -> String {
    let server = Server::start(|_| ok("")).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    stage.send(request).await.unwrap();
    server.requests().pop().unwrap()
}

#[tokio::test]
async fn a_plain_get() {
    let expected = format!(
        "GET /path?q=1 HTTP/1.1\r\nhost: a.test:8080\r\nuser-agent: agent-os/{}\r\naccept: */*\r\n\
         accept-encoding: identity\r\nconnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(sent(get("http://A.test.:8080/path?q=1#fragment")).await, expected);
    assert!(sent(get("http://a.test:80")).await.starts_with("GET / HTTP/1.1\r\nhost: a.test\r\n"));
}

#[tokio::test]
async fn a_post_tells_its_length() {
    let post = |body: Option<Vec<u8>>| Request { method: Method::Post, body, ..get("http://a.test/") };
    assert!(sent(post(Some(b"12345".to_vec()))).await.contains("\r\ncontent-length: 5\r\n"));
    assert!(sent(post(None)).await.contains("\r\ncontent-length: 0\r\n"));
}

#[tokio::test]
async fn the_callers_headers_replace_defaults_and_repeat() {
    let mut request = get("http://a.test/");
    request.headers = vec![Header::new("USER-AGENT", "mine"), Header::new("X-Many", "1"), Header::new("x-many", "2")];
    let sent = sent(request).await;
    assert_eq!(sent.matches("user-agent: ").count(), 1, "{sent}");
    assert!(sent.contains("user-agent: mine\r\n") && sent.contains("x-many: 1\r\n") && sent.contains("x-many: 2\r\n"));
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let server = Server::start(|request| match request.split_whitespace().nth(1) {
        Some("/") => redirect(302, "/next\r\nSet-Cookie: session=planted"),
        _ => ok(""),
    })
    .await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    stage.get("http://a.test/").await.unwrap();
    stage.get("http://a.test/next").await.unwrap();
    assert!(server.requests().iter().all(|request| !request.contains("cookie")), "{:?}", server.requests());
}

#[tokio::test]
async fn the_answer_is_handed_over_as_it_came() {
    let reply = b"HTTP/1.1 404 Not Found\r\nX-Many: 1\r\nETag: \"\xfc\"\r\nX-Many: 2\r\n\
        Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\xff\r\n0\r\nTrailer: x\r\n\r\n";
    let server = Server::start(|_| Reply::Close(reply.to_vec())).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    let response = stage.send(get("http://a.test/")).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (404, &b"ab\xff"[..]));
    let values = |name: &str| -> Vec<String> {
        response.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(values("x-many"), ["1", "2"]);
    assert_eq!(values("etag"), ["\"\u{fffd}\""]);
    assert_eq!(values("content-encoding"), ["gzip"], "told, and not undone");
}

#[tokio::test]
async fn each_request_has_its_own_connection() {
    let server = Server::start(|_| Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())).await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    for _ in 0..2 {
        assert_eq!(stage.get("http://a.test/").await.as_deref(), Ok("ok"));
    }
    assert_eq!(stage.dialed().len(), 2);
}
