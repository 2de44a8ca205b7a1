//! What is not plain HTTP/1.1: HTTP/2 and WebSocket, through tunnels and where TLS ends at the proxy.

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{Arc, mpsc},
};

use agentos_protocol::egress::{CertificateAuthority, Refusal, Verdict, Wish, WishEnd};
use rustls::ServerConfig;

use super::{
    network::inside,
    servers::{Authority, OUTSIDE, PROXY, connect, next, none, over_tls, read_head, read_rest, serve, tunnel},
    stage::{SANDBOX, Stage, allowed, limits},
};

const SECRET: &str = "Bearer of-the-operator";
/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// TLS to api.example ends at the proxy; TLS to a.example does not.
fn stage(outer: &Authority, inner: &Authority) -> Stage {
    let file = outer.file();
    let judge = |wish: &Wish| match wish {
        Wish::Request { is_tls: true, .. } => {
            let headers = vec![("Authorization".to_owned(), SECRET.to_owned())];
            Some(Verdict::Allowed { headers, private_allowed: true })
        }
        _ => allowed(),
    };
    let stage = Stage::trusting(judge, vec![file.path().to_owned()]);
    let authority = CertificateAuthority { certificate: inner.pem(), key: inner.key_pem() };
    stage.attach(SANDBOX, &[3128, 80, 443], limits(), &["api.example"], Some(authority));
    stage.names.set("api.example", &[OUTSIDE]);
    stage.names.set("a.example", &[OUTSIDE]);
    stage
}

/// Tells the protocol that was agreed on with each client and the first that it said, and answers with the text.
fn target(config: Arc<ServerConfig>, answer: &'static str) -> mpsc::Receiver<(Option<String>, String)> {
    let (told, heard) = mpsc::channel();
    serve(OUTSIDE, 443, move |stream| {
        let mut stream = over_tls(&config, stream);
        let Ok(head) = read_head(&mut stream) else { return };
        let agreed = stream.conn.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let _ = told.send((agreed, head));
        let _ = stream.write_all(answer.as_bytes());
        // What follows is given back.
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    heard
}

inside! {
    fn http_2_is_not_spoken_where_tls_ends_at_the_proxy() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner);
        let heard = target(outer.server_speaking("api.example", &["h2", "http/1.1"]), super::servers::OK);
        // A program that knows both gets HTTP/1.1, and so does the target.
        let mut stream = inner.client_speaking("api.example", tunnel("api.example:443").0, &["h2", "http/1.1"]);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n").unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (agreed, head) = next(&heard);
        assert_eq!(agreed.as_deref(), Some("http/1.1"));
        assert!(head.contains(SECRET));
        // One that knows nothing else is told so in the handshake.
        for door in ["api.example:443", "caught"] {
            let stream = if door == "caught" { connect("8.8.8.8:443") } else { tunnel(door).0 };
            let mut stream = inner.client_speaking("api.example", stream, &["h2"]);
            let error = stream.write_all(PREFACE).unwrap_err().to_string();
            assert!(error.contains("NoApplicationProtocol"), "{door}: {error}");
        }
        assert_eq!(stage.expect_refused(Refusal::NotUnderstood).as_deref(), Some("api.example:443"));
        // One that speaks it without asking gets an answer of HTTP/1.1.
        let mut stream = inner.client("api.example", tunnel("api.example:443").0);
        stream.write_all(PREFACE).unwrap();
        assert!(read_rest(&mut stream).starts_with("HTTP/1.1 400 "));
        assert_eq!(stage.wishes().len(), 1);
        assert!(none(&heard));
    }

    fn http_2_goes_through_tunnels_unseen() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner);
        let heard = target(outer.server_speaking("a.example", &["h2", "http/1.1"]), "");
        for door in ["a.example:443", "caught"] {
            let stream = if door == "caught" { connect("8.8.8.8:443") } else { tunnel(door).0 };
            let mut stream = outer.client_speaking("a.example", stream, &["h2", "http/1.1"]);
            stream.write_all(PREFACE).unwrap();
            let (agreed, head) = next(&heard);
            assert_eq!((agreed.as_deref(), head.as_bytes()), (Some("h2"), &PREFACE[..18]), "{door}");
            let mut rest = [0; 6];
            stream.read_exact(&mut rest).unwrap();
            assert_eq!(&rest, b"SM\r\n\r\n", "{door}");
        }
        assert!(stage.wishes().iter().all(|wish| matches!(wish, Wish::Connect { port: 443, .. })));
    }

    fn a_websocket_gets_the_credential_and_is_a_tunnel_then() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner);
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\nfirst";
        let heard = target(outer.server("api.example"), answer);
        for (number, door) in ["api.example:443", "caught"].into_iter().enumerate() {
            let stream = if door == "caught" { connect("8.8.8.8:443") } else { tunnel(door).0 };
            let mut stream = inner.client("api.example", stream);
            let text = "GET /feed HTTP/1.1\r\nHost: api.example\r\nAuthorization: mine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";
            stream.write_all(text.as_bytes()).unwrap();
            let head = read_head(&mut stream).unwrap();
            assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Sec-WebSocket-Accept: y\r\n"), "{head}");
            let (_, request) = next(&heard);
            assert!(request.contains(&format!("Authorization: {SECRET}\r\n")) && !request.contains("mine"), "{request}");
            assert!(request.contains("Sec-WebSocket-Key: x\r\n") && request.contains("Upgrade: websocket\r\n"), "{request}");
            stream.write_all(b"ping").unwrap();
            let mut buffer = [0; 9];
            stream.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"firstping", "{door}");
            stream.conn.send_close_notify();
            let _ = stream.flush();
            stream.sock.shutdown(Shutdown::Write).unwrap();
            read_rest(&mut stream);
            assert_eq!(stage.ending(number).0, WishEnd::Done { status: Some(101) }, "{door}");
        }
        assert_eq!(stage.wishes().len(), 2);
    }

    fn a_websocket_through_connect_is_nobodys_business() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner);
        serve(OUTSIDE, 8080, |mut stream| {
            let head = read_head(&mut stream).unwrap();
            assert!(head.contains("Connection: keep-alive, Upgrade\r\n"), "passed on as it came: {head}");
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfirst").unwrap();
        });
        let (mut stream, _) = tunnel("a.example:8080");
        let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_rest(&mut stream).ends_with("\r\n\r\nfirst"));
        assert_eq!(stage.wishes(), [Wish::Connect { host: "a.example".to_owned(), port: 8080 }]);
    }

    fn an_upgrade_that_was_not_agreed_on_is_none() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner);
        for (number, answer) in [
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let port = 8500 + number as u16;
            serve(OUTSIDE, port, move |mut stream| {
                let _ = read_head(&mut stream);
                let _ = stream.write_all(answer.as_bytes());
            });
            let mut stream = connect(PROXY);
            let host = format!("a.example:{port}");
            let text = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            let answered = read_rest(&mut stream);
            assert!(answered.starts_with("HTTP/1.1 502 ") && answered.contains("AOS-1613"), "{answer:?}: {answered}");
        }
        // A target that declines answers as to any request, and what follows is the next request, asked for by itself.
        let requests = super::servers::http(OUTSIDE, 80, super::servers::OK);
        let mut stream = connect(PROXY);
        let text = "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
                    GET http://a.example/second HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        stream.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_rest(&mut stream).matches("HTTP/1.1 200 OK\r\n").count(), 2);
        next(&requests);
        assert!(next(&requests).starts_with("GET /second "));
        assert!(matches!(stage.wishes().last(), Some(Wish::Request { path, .. }) if path == "/second"));
    }
}
