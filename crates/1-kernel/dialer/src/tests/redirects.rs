//! Redirects on the wire.

use std::sync::Mutex;

use agentos_types::Code;

use super::{
    server::{Server, ok, redirect},
    stage::{PUBLIC, PUBLIC_TOO, Stage, get},
};
use crate::{DialerOptions, Header, Method, Request};

/// `a.test` and `b.test` on one server, which tells them apart by the Host header.
fn two_hosts(options: DialerOptions, server: &Server) -> Stage {
    Stage::with(options)
        .name("a.test", &[PUBLIC])
        .name("b.test", &[PUBLIC_TOO])
        .route(PUBLIC, server.address)
        .route(PUBLIC_TOO, server.address)
}

#[tokio::test]
async fn a_loop_ends() {
    let server = Server::start(|_| redirect(302, "/")).await;
    let stage = two_hosts(DialerOptions::default(), &server);
    let fault = stage.send(get("http://a.test/")).await.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (Code::REDIRECT_DENIED, "more than 5 redirects"));
    assert_eq!(fault.hint.as_deref(), Some("fetch the final URL directly"));
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn as_many_as_allowed_are_followed() {
    let server = Server::start(|request| {
        if request.starts_with("GET /xxxxx ") {
            ok("there")
        } else {
            let path = request.split_whitespace().nth(1).unwrap();
            redirect(307, &format!("{path}x"))
        }
    })
    .await;
    let stage = two_hosts(DialerOptions::default(), &server);
    let response = stage.send(get("http://a.test/")).await.unwrap();
    assert_eq!((response.url.as_str(), response.body.as_slice()), ("http://a.test/xxxxx", &b"there"[..]));
    let strict = two_hosts(DialerOptions { redirects_max: 0, ..DialerOptions::default() }, &server);
    assert_eq!(strict.get("http://a.test/").await, Err(Code::REDIRECT_DENIED));
}

#[tokio::test]
async fn credentials_do_not_leave_their_host_and_do_not_come_back() {
    let server = Server::start(|request| match request.split_whitespace().nth(1) {
        Some("/start") => redirect(302, "/same"),
        Some("/same") => redirect(302, "http://b.test/other"),
        Some("/other") => redirect(302, "http://a.test/back"),
        _ => ok("end"),
    })
    .await;
    let stage = two_hosts(DialerOptions::default(), &server);
    let mut request = get("http://a.test/start");
    request.headers = vec![
        Header::new("Authorization", "Bearer planted"),
        Header::new("Cookie", "session=planted"),
        Header::sensitive("X-Signature", "planted"),
        Header::new("X-Plain", "kept"),
    ];
    assert_eq!(stage.send(request).await.unwrap().body, b"end");
    let requests = server.requests();
    let planted: Vec<usize> = requests.iter().map(|request| request.matches("planted").count()).collect();
    assert_eq!(planted, [3, 3, 0, 0], "{requests:?}");
    assert!(requests.iter().all(|request| request.contains("x-plain: kept")));
}

#[tokio::test]
async fn every_target_is_asked_for_before_it_is_resolved() {
    let server = Server::start(|request| match request.split_whitespace().nth(1) {
        Some("/") => redirect(302, "HTTP://A.TEST.:80/b/../c#d"),
        _ => redirect(302, "http://b.test/secret"),
    })
    .await;
    let stage = two_hosts(DialerOptions::default(), &server);
    let asked = Mutex::new(Vec::new());
    let may_follow = |url: &crate::CheckedUrl| {
        asked.lock().unwrap().push(url.as_str().to_owned());
        url.host() == "a.test"
    };
    let fault = stage.dialer.send(get("http://a.test/"), &may_follow).await.unwrap_err();
    assert_eq!(fault.code, Code::REDIRECT_DENIED);
    assert_eq!(*asked.lock().unwrap(), ["http://a.test/c", "http://b.test/secret"]);
    assert_eq!(stage.asked(), ["a.test", "a.test"], "b.test was not even looked up");
}

#[tokio::test]
async fn a_post_becomes_a_get_or_stays_whole() {
    for (status, second_line, has_body) in [(303, "GET /x HTTP/1.1", false), (307, "POST /x HTTP/1.1", true)] {
        let server = Server::start(
            move |request| {
                if request.starts_with("POST /start") { redirect(status, "/x") } else { ok("end") }
            },
        )
        .await;
        let stage = two_hosts(DialerOptions::default(), &server);
        let request = Request {
            body: Some(b"payload".to_vec()),
            headers: vec![Header::new("Content-Type", "text/plain")],
            ..Request::new(Method::Post, get("http://a.test/start").url)
        };
        stage.send(request).await.unwrap();
        let second = server.requests().pop().unwrap();
        assert!(second.starts_with(second_line), "{second}");
        assert_eq!(second.ends_with("payload"), has_body, "{second}");
        assert_eq!(second.contains("content-type"), has_body, "{second}");
    }
}

#[tokio::test]
async fn hostile_locations_are_refused() {
    let locations = [
        "http://user:password@b.test/",
        "ftp://b.test/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://b.test\\@a.test/",
        "http://a.test:0/",
        "//",
    ];
    for location in locations {
        let server = Server::start(move |_| redirect(302, location)).await;
        let stage = two_hosts(DialerOptions::default(), &server);
        assert_eq!(stage.get("http://a.test/").await, Err(Code::REDIRECT_DENIED), "{location}");
    }
    let two = Server::start(|_| redirect(302, "/one\r\nLocation: http://b.test/")).await;
    assert_eq!(two_hosts(DialerOptions::default(), &two).get("http://a.test/").await, Err(Code::REDIRECT_DENIED));
}

#[tokio::test]
async fn an_answer_without_target_is_an_answer() {
    for (status, fields) in [(302, ""), (304, "Location: /x\r\n"), (300, "Location: /x\r\n"), (201, "Location: /x\r\n")]
    {
        let reply = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 0\r\n\r\n");
        let server = Server::start(move |_| super::server::Reply::Close(reply.clone().into())).await;
        let stage = two_hosts(DialerOptions::default(), &server);
        assert_eq!(stage.send(get("http://a.test/")).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn a_post_that_arrived_is_never_reported_as_not_sent() {
    for target in ["http://nowhere.test/", "http://10.0.0.1/", "http://b.test/"] {
        let server = Server::start(move |_| redirect(303, target)).await;
        // `b.test` resolves and has no route, so that the connection is refused; `nowhere.test` does not resolve.
        let stage = Stage::new().name("a.test", &[PUBLIC]).name("b.test", &[PUBLIC_TOO]).route(PUBLIC, server.address);
        for (method, expected) in [(Method::Post, Some(Code::CONNECTION_LOST)), (Method::Get, None)] {
            let mut request = get("http://a.test/");
            request.method = method;
            let fault = stage.send(request).await.unwrap_err();
            assert_eq!(fault.code == Code::CONNECTION_LOST, expected.is_some(), "{method:?} {target}: {fault}");
        }
    }
}
