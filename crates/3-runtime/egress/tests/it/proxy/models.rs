//! Connections to providers of models: TLS ends here, and what is in it goes to the server by its socket and nowhere else.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use agentos_protocol::egress::{CertificateAuthority, FromProxy, Refusal, ToProxy, Verdict, Wish};
use rustls::{ClientConnection, StreamOwned};

use super::{
    network::inside,
    servers::{Authority, OUTSIDE, connect, https, none, read_head, read_rest, say, tunnel},
    stage::{SANDBOX, Stage, allowed, limits},
};

const HOST: &str = "api.provider.example";
const ASK: &str = "GET /v1/models HTTP/1.1\r\nHost: api.provider.example\r\nAuthorization: Bearer own\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A sandbox whose authority is `inner`, in which connections to the one host end at models.
fn stage(inner: &Authority) -> Stage {
    let stage = Stage::new(|wish| match wish {
        Wish::Connect { host, .. } if host == HOST => Some(Verdict::Models),
        _ => allowed(),
    });
    let authority = CertificateAuthority { certificate: inner.pem(), key: inner.key_pem() };
    stage.attach(SANDBOX, &[3128, 80, 443], limits(), &[], Some(authority));
    stage.names.set(HOST, &[OUTSIDE]);
    stage
}

fn caught(inner: &Authority) -> Tls {
    inner.client_speaking(HOST, connect("8.8.8.8:443"), &["h2", "http/1.1"])
}

/// Until the other side has closed.
fn rest(end: &mut UnixStream) -> String {
    read_rest(end)
}

/// A whole exchange over an open connection.
fn exchange(stream: &mut Tls, end: &mut UnixStream) {
    stream.write_all(ASK.as_bytes()).unwrap();
    assert_eq!(read_head(end).unwrap(), ASK);
    end.write_all(ANSWER.as_bytes()).unwrap();
    assert!(read_head(stream).unwrap().starts_with("HTTP/1.1 200 "));
    stream.read_exact(&mut [0; 2]).unwrap();
}

inside! {
    fn what_is_inside_of_tls_goes_to_the_server_and_nowhere_else() {
        let (outer, inner) = (Authority::new(), Authority::new());
        let stage = stage(&inner);
        let provider = https(&outer, HOST, OUTSIDE, 443);
        for door in ["caught", "proxy"] {
            let mut stream = match door {
                "caught" => caught(&inner),
                _ => inner.client_speaking(HOST, tunnel("api.provider.example:443").0, &["http/1.1"]),
            };
            stream.write_all(ASK.as_bytes()).unwrap();
            let mut end = stage.end();
            assert_eq!(read_head(&mut end).unwrap(), ASK, "{door}");
            assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            end.write_all(ANSWER.as_bytes()).unwrap();
            assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "), "{door}");
            stream.read_exact(&mut [0; 2]).unwrap();
            exchange(&mut stream, &mut end);
        }
        let wish = Wish::Connect { host: HOST.to_owned(), port: 443 };
        assert_eq!(stage.wishes(), [wish.clone(), wish]);
        assert!(stage.names.asked() == 0 && none(&provider), "nobody was looked up or dialed");
        let reports = stage.heard();
        assert!(!reports.iter().any(|report| matches!(report, FromProxy::Closed { .. } | FromProxy::Moved { .. })));
    }

    fn each_side_notices_the_end_of_the_other() {
        let inner = Authority::new();
        let stage = stage(&inner);
        // The program dies in the middle of an answer.
        let mut stream = caught(&inner);
        stream.write_all(ASK.as_bytes()).unwrap();
        let mut end = stage.end();
        assert_eq!(read_head(&mut end).unwrap(), ASK);
        end.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        drop(stream);
        assert_eq!(rest(&mut end), "");
        // The server is done: it has said something, and that arrives.
        let (mut stream, mut end) = { let mut stream = caught(&inner); stream.write_all(ASK.as_bytes()).unwrap(); (stream, stage.end()) };
        end.write_all(ANSWER.as_bytes()).unwrap();
        end.shutdown(Shutdown::Both).unwrap();
        assert_eq!(read_rest(&mut stream), ANSWER);
        // The sandbox ends.
        let (mut stream, mut end) = { let mut stream = caught(&inner); stream.write_all(ASK.as_bytes()).unwrap(); (stream, stage.end()) };
        assert_eq!(read_head(&mut end).unwrap(), ASK);
        stage.send(&ToProxy::Detach { sandbox: SANDBOX }, &[]);
        assert_eq!((rest(&mut end).as_str(), read_rest(&mut stream).as_str()), ("", ""));
    }

    fn the_end_of_the_server_or_of_the_proxy_ends_it() {
        let inner = Authority::new();
        let stage = stage(&inner);
        let mut stream = caught(&inner);
        stream.write_all(ASK.as_bytes()).unwrap();
        let mut end = stage.end();
        assert_eq!(read_head(&mut end).unwrap(), ASK);
        stage.abandon();
        assert_eq!((rest(&mut end).as_str(), read_rest(&mut stream).as_str()), ("", ""));
    }

    fn who_does_not_trust_the_authority_says_nothing() {
        let (inner, stranger) = (Authority::new(), Authority::new());
        let stage = stage(&inner);
        let mut stream = stranger.client(HOST, connect("8.8.8.8:443"));
        assert!(stream.write_all(ASK.as_bytes()).is_err());
        assert_eq!(rest(&mut stage.end()), "");
        assert_eq!(stage.expect_refused(Refusal::NotUnderstood).as_deref(), Some("api.provider.example:443"));
        // Nor does one who speaks nothing but HTTP/2, or no TLS at all.
        let mut stream = inner.client_speaking(HOST, connect("8.8.8.8:443"), &["h2"]);
        assert!(stream.write_all(ASK.as_bytes()).is_err());
        assert_eq!(rest(&mut stage.end()), "");
        let mut stream = tunnel("api.provider.example:443").0;
        stream.write_all(ASK.as_bytes()).unwrap();
        assert_eq!((rest(&mut stage.end()).as_str(), read_rest(&mut stream).as_str()), ("", ""));
    }

    fn another_name_in_the_hello_of_a_tunnel_goes_nowhere() {
        let inner = Authority::new();
        let stage = stage(&inner);
        let mut stream = inner.client("other.example", tunnel("api.provider.example:443").0);
        assert!(stream.write_all(ASK.as_bytes()).is_err() || read_rest(&mut stream).is_empty());
        assert_eq!(rest(&mut stage.end()), "");
        stage.expect_refused(Refusal::NamesDiffer);
    }

    fn a_verdict_that_does_not_fit_opens_nothing() {
        let inner = Authority::new();
        let stage = Stage::new(|wish| matches!(wish, Wish::Request { .. }).then_some(Verdict::Models));
        let authority = CertificateAuthority { certificate: inner.pem(), key: inner.key_pem() };
        stage.attach(SANDBOX, &[3128, 80, 443], limits(), &[], Some(authority));
        stage.names.set(HOST, &[OUTSIDE]);
        let answer = say("8.8.8.8:80", "GET / HTTP/1.1\r\nHost: api.provider.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(rest(&mut stage.end()), "");
        // Without a socket, and with two.
        for (number, sockets) in [0, 2].into_iter().enumerate() {
            let client = connect("8.8.8.8:443");
            let mut stream = inner.client(HOST, client);
            let hello = std::thread::spawn(move || (stream.write_all(ASK.as_bytes()).is_err(), stream));
            let is_connect = |message: &&FromProxy| matches!(message, FromProxy::Ask { wish: Wish::Connect { .. }, .. });
            stage.wait_until(|| stage.heard().iter().filter(is_connect).count() == number + 1);
            let heard = stage.heard();
            let Some(FromProxy::Ask { ask, .. }) = heard.iter().filter(is_connect).nth(number) else { unreachable!() };
            let beside: Vec<OwnedFd> = (0..sockets).map(|_| UnixStream::pair().unwrap().0.into()).collect();
            stage.send(&ToProxy::Verdict { ask: *ask, verdict: Verdict::Models }, &beside);
            assert!(hello.join().unwrap().0, "{sockets} sockets");
        }
        assert_eq!(stage.names.asked(), 0);
    }

    fn the_clocks_and_bytes_of_the_sandbox_do_not_hold_for_it() {
        let inner = Authority::new();
        let stage = Stage::new(|wish| match wish {
            Wish::Connect { host, .. } if host == HOST => Some(Verdict::Models),
            _ => allowed(),
        });
        let authority = CertificateAuthority { certificate: inner.pem(), key: inner.key_pem() };
        let tight = agentos_protocol::egress::EgressLimits { bytes: 1, idle_ms: 1_500, connection_ms: 3_000, ..limits() };
        stage.attach(SANDBOX, &[3128, 80, 443], tight, &[], Some(authority));
        let mut stream = caught(&inner);
        stream.write_all(ASK.as_bytes()).unwrap();
        let mut end = stage.end();
        assert_eq!(read_head(&mut end).unwrap(), ASK);
        // Begun later, and over by its clock.
        let mut other = connect("8.8.8.8:80");
        assert_eq!(read_rest(&mut other), "");
        stage.expect_refused(Refusal::TooSlow);
        end.write_all(ANSWER.as_bytes()).unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
    }
}
