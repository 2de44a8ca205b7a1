//! TLS that ends at the proxy: the program never holds the credential, and it goes to no other place.

use std::{io::Write, net::TcpStream, time::Instant};

use agentos_protocol::egress::{CertificateAuthority, Refusal, Verdict, Wish, WishEnd};

use super::{
    network::inside,
    servers::{
        Authority, OK, OUTSIDE, PROXY, connect, echo, http, https, next, none, read_head, read_rest, say, tunnel,
    },
    stage::{PATIENCE, SANDBOX, Stage, allowed, denied, limits},
};

const SECRET: &str = "Bearer of-the-operator";

fn with_secret() -> Option<Verdict> {
    let headers = vec![("Authorization".to_owned(), SECRET.to_owned())];
    Some(Verdict::Allowed { headers, private_allowed: true })
}

/// A stage that trusts `outer`, with a sandbox in which TLS to api.example ends, signed for by `inner`.
fn stage(outer: &Authority, inner: &Authority, judge: impl FnMut(&Wish) -> Option<Verdict> + Send + 'static) -> Stage {
    let file = outer.file();
    let stage = Stage::trusting(judge, vec![file.path().to_owned()]);
    let authority = CertificateAuthority { certificate: inner.pem(), key: inner.key_pem() };
    stage.attach(SANDBOX, &[3128, 80, 443], limits(), &["API.example"], Some(authority));
    stage.names.set("api.example", &[OUTSIDE]);
    stage.names.set("other.example", &[OUTSIDE]);
    stage
}

inside! {
    fn the_credential_is_put_in_at_the_last_hop() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner, |wish| match wish {
            Wish::Request { path, .. } if path == "/forbidden" => denied(),
            _ => with_secret(),
        });
        let requests = https(&outer, "api.example", OUTSIDE, 443);
        for (door, number) in [("proxy", 0), ("caught", 1)] {
            let stream = if door == "proxy" { tunnel("api.example:443").0 } else { connect("8.8.8.8:443") };
            let mut stream = inner.client("api.example", stream);
            let text = "GET /v1?q=1 HTTP/1.1\r\nHost: api.example\r\nauthorization: placeholder\r\nAUTHORIZATION: too\r\nX-Own: kept\r\n\r\n";
            stream.write_all(text.as_bytes()).unwrap();
            assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"), "{door}");
            std::io::Read::read_exact(&mut stream, &mut [0; 2]).unwrap();
            let request = next(&requests);
            let expected =
                format!("GET /v1?q=1 HTTP/1.1\r\nHost: api.example\r\nX-Own: kept\r\nAuthorization: {SECRET}\r\n\r\n");
            assert_eq!(request, expected, "{door}");
            stream.write_all(b"GET /forbidden HTTP/1.1\r\nHost: api.example\r\n\r\n").unwrap();
            assert!(read_rest(&mut stream).starts_with("HTTP/1.1 403 "), "{door}");
            assert!(none(&requests), "{door}");
            assert_eq!(stage.ending(number).0, WishEnd::Done { status: Some(200) }, "{door}");
        }
        assert!(stage.wishes().iter().all(|wish| matches!(wish, Wish::Request { is_tls: true, port: 443, .. })));
    }

    fn it_goes_nowhere_without_tls_that_is_checked() {
        let (outer, inner, stranger) = (Authority::new(), Authority::new(), Authority::new());
        let stage = stage(&outer, &inner, |_| with_secret());
        // The same host in plain text.
        let plain = http(OUTSIDE, 80, OK);
        let answer = say("8.8.8.8:80", "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(none(&plain));
        assert_eq!(stage.ending(0).0, WishEnd::Broken);
        // A server that has a certificate of somebody else for the name.
        let requests = https(&stranger, "api.example", OUTSIDE, 443);
        let mut stream = inner.client("api.example", tunnel("api.example:443").0);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n").unwrap();
        let answer = read_rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("certificate of api.example:443 is not valid"), "{answer}");
        assert!(none(&requests));
        assert!(matches!(stage.ending(1).0, WishEnd::Unreachable { code, address: Some(_) } if code == "AOS-1603"));
    }

    fn a_credential_that_is_no_header_is_not_used() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let mut bad = [
            ("Authorization", "x\r\nHost: evil.example"),
            ("Content-Length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Host", "evil.example"),
            ("X: y\r\nA", "b"),
        ]
        .into_iter();
        let stage = stage(&outer, &inner, move |_| {
            let (name, value) = bad.next().unwrap();
            Some(Verdict::Allowed { headers: vec![(name.to_owned(), value.to_owned())], private_allowed: true })
        });
        let requests = https(&outer, "api.example", OUTSIDE, 443);
        for number in 0..5 {
            let mut stream = inner.client("api.example", tunnel("api.example:443").0);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n").unwrap();
            assert!(read_rest(&mut stream).starts_with("HTTP/1.1 403 "), "{number}");
            assert_eq!(stage.ending(number).0, WishEnd::Broken);
        }
        assert!(none(&requests));
    }

    fn names_inside_have_to_be_the_one_outside() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner, |_| with_secret());
        let requests = https(&outer, "api.example", OUTSIDE, 443);
        let mut stream = inner.client("api.example", tunnel("api.example:443").0);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").unwrap();
        assert!(read_rest(&mut stream).starts_with("HTTP/1.1 403 "));
        stage.expect_refused(Refusal::NamesDiffer);
        // Another name in the hello of a tunnel to the host that gets the credential.
        let mut stream = inner.client("other.example", tunnel("api.example:443").0);
        assert!(stream.write_all(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").is_err() || read_rest(&mut stream).is_empty());
        // What the program gets back must not be what was put in.
        for method in ["TRACE", "TRACK"] {
            let mut stream = inner.client("api.example", tunnel("api.example:443").0);
            stream.write_all(format!("{method} / HTTP/1.1\r\nHost: api.example\r\n\r\n").as_bytes()).unwrap();
            assert!(read_rest(&mut stream).starts_with("HTTP/1.1 400 "), "{method}");
        }
        assert!(stage.wishes().is_empty() && none(&requests));
    }

    fn other_ports_of_the_host_carry_what_they_like() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&outer, &inner, |_| allowed());
        let port = echo(OUTSIDE, 0).port();
        let (mut stream, _) = tunnel(&format!("api.example:{port}"));
        stream.write_all(b"SSH-2.0-x\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), "SSH-2.0-x\r\n");
        assert_eq!(stage.wishes(), [Wish::Connect { host: "api.example".to_owned(), port }]);
        // On its own port it is TLS or nothing.
        let (mut stream, _) = tunnel("api.example:443");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_rest(&mut stream), "");
    }

    fn without_an_authority_nothing_is_served() {
        let stage = Stage::new(|_| allowed());
        stage.attach(SANDBOX, &[3128], limits(), &["api.example"], None);
        // Its listeners are closed when it has read the message; until then a connection waits for nobody.
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(PROXY).is_ok() {
            assert!(Instant::now() < until, "somebody listens");
        }
        assert!(stage.wishes().is_empty());
    }
}
