//! The ways out that are meant to be: CONNECT, requests to the proxy, and what is caught on ports 80, 443 and others.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Instant,
};

use agentos_protocol::egress::{FromProxy, Refusal, ToProxy, Wish, WishEnd};

use super::{
    network::inside,
    servers::{
        Authority, OK, OUTSIDE, PROXY, connect, echo, http, https, next, none, read_head, read_rest, say, tunnel,
    },
    stage::{PATIENCE, SANDBOX, Stage, allowed, denied, limits},
};

fn done(status: Option<u16>) -> WishEnd {
    WishEnd::Done { status }
}

inside! {
    fn connect_opens_a_tunnel_for_what_is_granted() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("target.example", &[OUTSIDE]);
        let port = echo(OUTSIDE, 0).port();
        let (mut stream, answer) = tunnel(&format!("Target.Example.:{port}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stream.write_all(b"there and back").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), "there and back");
        assert_eq!(stage.wishes(), [Wish::Connect { host: "target.example".to_owned(), port }]);
        assert_eq!(stage.ending(0), (done(None), 14, 14));
        assert_eq!(stage.names.asked(), 1);
    }

    fn nothing_leaves_for_what_is_denied() {
        let stage = Stage::with_sandbox(|_| denied());
        stage.names.set("target.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 8080, OK);
        let (mut stream, answer) = tunnel("target.example:8080");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("X-AgentOS-Reason: AOS-1401"), "{answer}");
        assert_eq!(read_rest(&mut stream), "AOS-1401: no grant covers this\n");
        let answer = say(PROXY, "GET http://target.example:8080/ HTTP/1.1\r\nHost: target.example:8080\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(none(&requests));
        assert_eq!(stage.names.asked(), 0, "not even its name was looked up");
        assert!(!stage.heard().iter().any(|message| matches!(message, FromProxy::Closed { .. })));
    }

    fn requests_to_the_proxy_are_asked_one_by_one() {
        let stage = Stage::with_sandbox(|wish| match wish {
            Wish::Request { path, .. } if path == "/secret" => denied(),
            _ => allowed(),
        });
        stage.names.set("target.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 8080, OK);
        let mut stream = connect(PROXY);
        for path in ["/a?b=c", "/b"] {
            let text = format!("GET http://target.example:8080{path} HTTP/1.1\r\nHost: target.example:8080\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
            let mut body = [0; 2];
            stream.read_exact(&mut body).unwrap();
            let expected = format!("GET {path} HTTP/1.1\r\nHost: target.example:8080\r\n\r\n");
            assert_eq!((next(&requests), &body), (expected, b"ok"));
        }
        stream.write_all(b"GET http://target.example:8080/secret HTTP/1.1\r\nHost: target.example:8080\r\n\r\n").unwrap();
        assert!(read_rest(&mut stream).starts_with("HTTP/1.1 403 "));
        assert!(none(&requests));
        let paths: Vec<_> = stage
            .wishes()
            .into_iter()
            .map(|wish| match wish {
                Wish::Request { host, port: 8080, is_tls: false, method, path } => (host, method, path),
                other => panic!("{other:?}"),
            })
            .collect();
        let wish = |path: &str| ("target.example".to_owned(), "GET".to_owned(), path.to_owned());
        assert_eq!(paths, [wish("/a"), wish("/b"), wish("/secret")]);
        assert_eq!((stage.ending(0).0, stage.ending(1).0), (done(Some(200)), done(Some(200))));
        assert_eq!(stage.names.asked(), 1, "the second request went over the connection of the first");
    }

    fn port_80_is_caught_whatever_the_address() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("target.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 80, OK);
        for address in ["8.8.8.8:80", "169.254.169.254:80", "[2001:db8::1]:80"] {
            let answer = say(address, "GET /x HTTP/1.1\r\nHost: target.example\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
            assert_eq!(next(&requests), "GET /x HTTP/1.1\r\nHost: target.example\r\n\r\n");
        }
    }

    fn port_443_is_caught_by_its_server_name() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("target.example", &[OUTSIDE]);
        let authority = Authority::new();
        let requests = https(&authority, "target.example", OUTSIDE, 443);
        let mut stream = authority.client("target.example", connect("93.184.216.34:443"));
        stream.write_all(b"GET /hidden HTTP/1.1\r\nHost: target.example\r\n\r\n").unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(next(&requests).starts_with("GET /hidden "));
        drop(stream);
        assert_eq!(stage.wishes(), [Wish::Connect { host: "target.example".to_owned(), port: 443 }]);
        let (_, bytes_out, bytes_in) = stage.ending(0);
        assert!(bytes_out > 200 && bytes_in > 200, "{bytes_out} {bytes_in}");
    }

    fn tls_in_a_tunnel_is_for_the_host_of_the_tunnel() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("target.example", &[OUTSIDE]);
        let authority = Authority::new();
        let requests = https(&authority, "target.example", OUTSIDE, 443);
        let (stream, answer) = tunnel("target.example:443");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut stream = authority.client("target.example", stream);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: target.example\r\n\r\n").unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        next(&requests);
        // The same tunnel with another name inside: the server behind a shared address would serve that one.
        let (stream, _) = tunnel("target.example:443");
        let mut stream = authority.client("other.example", stream);
        assert!(stream.write_all(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").is_err() || read_rest(&mut stream).is_empty());
        assert_eq!(stage.expect_refused(Refusal::NamesDiffer).as_deref(), Some("target.example:443"));
        assert!(none(&requests));
    }

    fn a_port_that_was_granted_is_reached_by_the_address_of_its_name() {
        let stage = Stage::new(|_| allowed());
        stage.attach(SANDBOX, &[5432], limits(), &[], None);
        stage.names.set("db.example", &[OUTSIDE]);
        echo(OUTSIDE, 5432);
        let address = super::names::lookup("8.8.8.8:53", "db.example").unwrap();
        let mut stream = connect(&format!("{address}:5432"));
        stream.write_all(b"select").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), "select");
        assert!(stage.wishes().contains(&Wish::Connect { host: "db.example".to_owned(), port: 5432 }));
        for stranger in ["93.184.216.34:5432", "198.18.0.200:5432", "127.0.0.1:5432"] {
            assert_eq!(say(stranger, "x"), "", "{stranger}");
        }
        stage.wait_for(|message| match message {
            FromProxy::Refused { target: Some(target), reason: Refusal::NoName, .. } if target == "127.0.0.1:5432" => Some(()),
            _ => None,
        });
    }

    fn detach_ends_everything_of_the_sandbox_and_nothing_of_others() {
        let stage = Stage::new(|_| allowed());
        stage.attach(SANDBOX, &[3128], limits(), &[], None);
        stage.names.set("target.example", &[OUTSIDE]);
        let port = echo(OUTSIDE, 0).port();
        let (mut stream, _) = tunnel(&format!("target.example:{port}"));
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stage.send(&ToProxy::Detach { sandbox: SANDBOX }, &[]);
        assert_eq!(read_rest(&mut stream), "");
        assert_eq!(stage.ending(0), (WishEnd::Detached, 1, 1));
        stage.send(&ToProxy::Ping { n: 3 }, &[]);
        stage.wait_for(|message| matches!(message, FromProxy::Pong { n: 3 }).then_some(()));
        let moved = |message: &FromProxy| match message {
            FromProxy::Moved { sandbox: SANDBOX, bytes_out: 1, bytes_in: 1 } => Some(()),
            _ => None,
        };
        stage.wait_for(moved);
        // The listener is closed: the kernel of the sandbox answers now.
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(PROXY).is_ok() {
            assert!(Instant::now() < until, "somebody listens");
        }
    }

    fn when_the_server_is_gone_so_is_every_way_out() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("target.example", &[OUTSIDE]);
        let port = echo(OUTSIDE, 0).port();
        let (mut stream, _) = tunnel(&format!("target.example:{port}"));
        stage.abandon();
        assert_eq!(read_rest(&mut stream), "");
        assert!(TcpStream::connect(PROXY).is_err());
    }
}
