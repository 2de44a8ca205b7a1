//! Requests that two readers could read differently. Not one of them may reach anybody, nor may it be asked for.

use std::io::{Read, Write};

use agentos_protocol::egress::{FromProxy, Refusal, Wish};

use super::{
    network::inside,
    servers::{OK, OUTSIDE, PROXY, connect, http, next, none, read_head, read_rest, say},
    stage::{Stage, allowed, denied},
};

/// Head of a request to the proxy, the rest of it, and what is wrong.
const AMBIGUOUS: &[&str] = &[
    // Two lengths.
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4, 4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: +4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0x4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4 \x0b\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: \r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: -1\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\ncontent-length: 4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length:\r\n 4\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: \u{ff14}\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\0\r\n\r\nabcd",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length : 4\r\n\r\nabcd",
    // Codings that somebody may overlook.
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: \r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer_Encoding\t: chunked\r\n\r\n",
    // Lines.
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\n\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\nHost: a.example\n\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n folded\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: a\r\n\tb\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: a\rb\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: a\0b\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nno colon\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n: empty\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX(y): z\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\n Host: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX\0: y\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX\r: y\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\rX: y\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX\u{e9}: y\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: y\x7f\r\n\r\n",
    // Hosts.
    "GET http://a.example/ HTTP/1.1\r\nHost : a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\0.b.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\tb.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nhOsT: a.example\r\nHost: b.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\n\r\n",
    "GET http://user@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://user:word@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    // Fields that a program calls its own so that they vanish on the way.
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\nx",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close, Host\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: authorization\r\n\r\n",
    "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nExpect: 200-maybe\r\nContent-Length: 1\r\n\r\nx",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nContent-Length: 5\r\n\r\nhello",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Paths that climb once somebody has decoded them.
    "GET http://a.example/docs/..%2fadmin HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/docs/%252e%252e/admin HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/docs\\..\\admin HTTP/1.1\r\nHost: a.example\r\n\r\n",
];

const MALFORMED: &[&str] = &[
    "\r\nGET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET  http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1 \r\nHost: a.example\r\n\r\n",
    "GET http://a.example/\0 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET\0 http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1 GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET\thttp://a.example/\tHTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.2\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/2.0\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ http/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/#x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http:///x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "G(T http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "TRACE http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "CONNECT http://a.example:443/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "CONNECT user@a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    "GET http://%61.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "\x16\x03\x01\x00\x05hello",
    "SSH-2.0-OpenSSH\r\n\r\n",
];

const DIFFERENT: &[&str] = &[
    "GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
    "GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://a.example/ HTTP/1.1\r\nHost: a.example.b.example\r\n\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:444\r\n\r\n",
];

fn check(texts: &[&str], reason: Refusal, status: &str) {
    let stage = Stage::with_sandbox(|_| allowed());
    for name in ["a.example", "b.example", "a.example.b.example"] {
        stage.names.set(name, &[OUTSIDE]);
    }
    let requests = http(OUTSIDE, 80, OK);
    for (number, text) in texts.iter().enumerate() {
        let answer = say(PROXY, text);
        assert!(answer.starts_with(status), "{text:?}: {answer:?}");
        assert!(stage.wishes().is_empty(), "{text:?} was asked for");
        let refusals = || {
            stage
                .heard()
                .iter()
                .filter(|message| matches!(message, FromProxy::Refused { .. }))
                .cloned()
                .collect::<Vec<_>>()
        };
        // The report is written after the answer.
        stage.wait_until(|| refusals().len() > number);
        let last = refusals().pop().unwrap();
        assert!(matches!(&last, FromProxy::Refused { reason: found, .. } if *found == reason), "{text:?}: {last:?}");
    }
    assert!(none(&requests));
    assert_eq!(stage.names.asked(), 0);
}

inside! {
    fn what_can_be_read_in_two_ways_is_refused() {
        check(AMBIGUOUS, Refusal::Smuggling, "HTTP/1.1 400 ");
    }

    fn what_is_no_request_is_refused() {
        check(MALFORMED, Refusal::NotUnderstood, "HTTP/1.1 400 ");
    }

    fn one_request_has_one_host() {
        check(DIFFERENT, Refusal::NamesDiffer, "HTTP/1.1 403 ");
    }

    fn port_80_takes_what_belongs_there() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 80, OK);
        for (text, status) in [
            ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "HTTP/1.1 400 "),
            ("GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "HTTP/1.1 403 "),
            ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 403 "),
            ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 403 "),
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ] {
            let answer = say("8.8.8.8:80", text);
            assert!(answer.starts_with(status), "{text:?}: {answer:?}");
        }
        assert!(stage.wishes().is_empty() && none(&requests));
        // The address of one name, and another one in the request.
        let address = super::names::lookup("8.8.8.8:53", "b.example").unwrap();
        let answer = say(&format!("{address}:80"), "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("names-differ"), "{answer}");
        let answer = say("198.18.77.77:80", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(answer, "", "an address of the pool that stands for nothing");
        assert!(none(&requests));
    }

    fn the_second_request_of_a_connection_is_no_way_around_the_first() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        stage.names.set("b.example", &["127.88.0.2"]);
        let (first, second) = (http(OUTSIDE, 80, OK), http("127.88.0.2", 80, OK));
        let mut stream = connect(PROXY);
        // Both at once: the second must not be taken for a part of the first, nor go to its server.
        let both = "POST http://a.example/1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nGET /GET http://b.example/2 \
                    HTTP/1.1\r\nHost: b.example\r\n\r\n";
        stream.write_all(both.as_bytes()).unwrap();
        for _ in 0..2 {
            assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
            stream.read_exact(&mut [0; 2]).unwrap();
        }
        assert!(next(&first).starts_with("POST /1 "));
        assert!(next(&second).starts_with("GET /2 "));
        assert_eq!(stage.wishes().len(), 2);
    }

    fn what_follows_connect_is_no_request() {
        let stage = Stage::with_sandbox(|wish| match wish {
            Wish::Connect { host, .. } if host == "evil.example" => denied(),
            _ => allowed(),
        });
        stage.names.set("a.example", &[OUTSIDE]);
        stage.names.set("b.example", &["127.88.0.2"]);
        let (other, https) = (http("127.88.0.2", 80, OK), http(OUTSIDE, 443, OK));
        let (told, heard) = std::sync::mpsc::channel();
        super::servers::serve(OUTSIDE, 8080, move |mut stream| told.send(read_rest(&mut stream)).unwrap());
        let second = "GET http://b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n";
        let connect_to = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n{second}");
        // In a tunnel it is content.
        let answer = say_all(&connect_to("a.example:8080"));
        assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\n");
        assert_eq!(heard.recv_timeout(super::stage::PATIENCE).unwrap(), second);
        // In front of TLS it is an end.
        say_all(&connect_to("a.example:443"));
        assert_eq!(stage.expect_refused(Refusal::NotUnderstood).as_deref(), Some("a.example:443"));
        // After a refusal it is not read.
        let answer = say_all(&connect_to("evil.example:8080"));
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
        assert_eq!(stage.wishes().len(), 3, "{:?}", stage.wishes());
        assert!(none(&other) && none(&https));
    }

    fn broken_chunks_end_the_connection() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let head = "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        // The target never answers: only the framing of the request can end it.
        super::servers::serve(OUTSIDE, 80, |mut stream| drop(read_rest(&mut stream)));
        for body in [
            "5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n", "fffffffff\r\n", "\r\n", "5;a\x01\r\nhello\r\n0\r\n\r\n", "g\r\n",
            "5\r\nhello\r\n0\r\nTrailer : x\r\n\r\n", "5\r\nhello\r\n0\r\nno colon\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
            "5;ext\nhello\r\n0\r\n\r\n", "5;e=\"\n\"\r\nhello\r\n0\r\n\r\n", "5;e=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
            "5;a b\r\nhello\r\n0\r\n\r\n", "5;\0\r\nhello\r\n0\r\n\r\n", "5\0\r\nhello\r\n0\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n",
            "\t5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "000000005\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\n\r\n",
            "5\r\nhello\r\n0\r\nT: x\n\r\n", "5\r\nhello\r\n0\r\nT: x\r\n y\r\n\r\n", "5\r\nhello\r\n0\r\nT: a\0b\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n", "5\r\nhello world\r\n0\r\n\r\n",
        ] {
            let answer = say(PROXY, format!("{head}{body}"));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer:?}");
        }
        stage.expect_refused(Refusal::Smuggling);
    }
}

/// Says it, and that nothing more comes.
fn say_all(text: &str) -> String {
    let mut stream = connect(PROXY);
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    read_rest(&mut stream)
}
