//! Programs that want too much: connections, bytes, time, and the patience of who reads them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use agentos_protocol::egress::{EgressLimits, FromProxy, Refusal, WishEnd};

use super::{
    network::inside,
    servers::{OUTSIDE, PROXY, connect, echo, http, read_head, read_rest, say, serve, tunnel},
    stage::{PATIENCE, SANDBOX, Stage, allowed, limits},
};

fn stage(limits: EgressLimits) -> Stage {
    let stage = Stage::new(|_| allowed());
    stage.attach(SANDBOX, &[3128, 80, 443], limits, &[], None);
    stage.names.set("a.example", &[OUTSIDE]);
    stage
}

inside! {
    fn connections_at_once_are_counted() {
        let stage = stage(EgressLimits { connections: 4, ..limits() });
        let port = echo(OUTSIDE, 0).port();
        let held: Vec<TcpStream> = (0..4).map(|_| tunnel(&format!("a.example:{port}")).0).collect();
        assert_eq!(say(PROXY, "GET / HTTP/1.1\r\n\r\n"), "", "the fifth is closed without a word");
        stage.expect_refused(Refusal::ConnectionLimit);
        // Reports of a flood are few.
        for _ in 0..50 {
            drop(TcpStream::connect(PROXY));
        }
        drop(held);
        stage.ending(3);
        let until = Instant::now() + PATIENCE;
        loop {
            let mut stream = connect(PROXY);
            let request = format!("CONNECT a.example:{port} HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n");
            if stream.write_all(request.as_bytes()).is_ok()
                && read_head(&mut stream).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
            {
                break;
            }
            assert!(Instant::now() < until, "places are given back");
        }
        let reports = stage.heard().into_iter().filter(|message| matches!(message, FromProxy::Refused { .. })).count();
        assert!(reports <= 5, "{reports} reports");
    }

    fn a_crowd_is_turned_away_and_the_proxy_lives() {
        let stage = stage(EgressLimits { connections: 8, ..limits() });
        let requests = http(OUTSIDE, 8080, super::servers::OK);
        // Each leaves something behind and goes on: heads that never end, half a hello, nothing.
        for number in 0..3_000 {
            let address = ["127.0.0.1:3128", "8.8.8.8:80", "8.8.8.8:443"][number % 3];
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            let _ = stream.write_all(b"\x16\x03\x01");
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = say(PROXY, "GET http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\nConnection: close\r\n\r\n");
            if answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
            assert!(Instant::now() < until, "nobody is served any more");
        }
        super::servers::next(&requests);
        assert!(stage.wishes().len() == 1);
    }

    fn bytes_are_counted_over_all_connections() {
        let stage = stage(EgressLimits { bytes: 100_000, ..limits() });
        let port = echo(OUTSIDE, 0).port();
        let target = format!("a.example:{port}");
        let (mut first, _) = tunnel(&target);
        first.write_all(&[1; 20_000]).unwrap();
        first.read_exact(&mut [0; 20_000]).unwrap();
        let (mut second, _) = tunnel(&target);
        let _ = second.write_all(&[1; 80_000]);
        read_rest(&mut second);
        assert_eq!(stage.ending(0).0, WishEnd::Limited { limit: Refusal::ByteLimit });
        // From then on nothing begins, and what still runs ends with its next byte.
        assert_eq!(say(PROXY, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")), "");
        stage.expect_refused(Refusal::ByteLimit);
        let _ = first.write_all(b"x");
        read_rest(&mut first);
        assert_eq!(stage.ending(1).0, WishEnd::Limited { limit: Refusal::ByteLimit });
    }

    fn the_rate_is_kept() {
        let _stage = stage(EgressLimits { bytes_per_second: 100_000, idle_ms: 600, ..limits() });
        let port = echo(OUTSIDE, 0).port();
        let (mut stream, _) = tunnel(&format!("a.example:{port}"));
        let started = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(&[1; 150_000]));
        stream.read_exact(&mut [0; 150_000]).unwrap();
        sending.join().unwrap().unwrap();
        let took = started.elapsed();
        // 300,000 bytes in both directions, a quarter of a second of them at once.
        assert!(took >= Duration::from_millis(2_400), "{took:?}");
    }

    fn idleness_and_life_end() {
        let stage = stage(EgressLimits { idle_ms: 1_000, connection_ms: 3_000, ..limits() });
        let port = echo(OUTSIDE, 0).port();
        let (mut idle, _) = tunnel(&format!("a.example:{port}"));
        assert_eq!(read_rest(&mut idle), "");
        assert_eq!(stage.ending(0).0, WishEnd::Limited { limit: Refusal::TooSlow });
        // Busy all the time, and yet it ends.
        let (mut busy, _) = tunnel(&format!("a.example:{port}"));
        let started = Instant::now();
        while busy.write_all(b"x").is_ok() && matches!(busy.read(&mut [0]), Ok(1)) {
            assert!(started.elapsed() < PATIENCE, "it lives for ever");
        }
        assert!(started.elapsed() >= Duration::from_millis(2_500), "{:?}", started.elapsed());
        assert_eq!(stage.ending(1).0, WishEnd::Limited { limit: Refusal::TooSlow });
        // A connection that never says what it wants.
        assert_eq!(read_rest(&mut connect(PROXY)), "");
        stage.expect_refused(Refusal::TooSlow);
    }

    fn a_connection_between_two_requests_ends_in_silence() {
        let stage = stage(EgressLimits { idle_ms: 1_000, ..limits() });
        let requests = http(OUTSIDE, 80, super::servers::OK);
        let mut stream = connect(PROXY);
        stream.write_all(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert!(read_rest(&mut stream).ends_with("\r\n\r\nok"));
        super::servers::next(&requests);
        assert!(!stage.heard().iter().any(|message| matches!(message, FromProxy::Refused { .. })));
    }

    fn heads_have_an_end() {
        let stage = stage(limits());
        let long = format!("GET http://a.example/{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "x".repeat(40_000));
        let wide = format!("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "X: y\r\n".repeat(200));
        let big = format!("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
        for text in [long, wide, big] {
            let answer = say(PROXY, &text);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        assert!(stage.wishes().is_empty());
    }

    fn a_head_that_trickles_is_cut_off() {
        let stage = stage(limits());
        let mut heads: Vec<TcpStream> = ["127.0.0.1:3128", "8.8.8.8:80"].map(connect).into();
        let mut hello = connect("8.8.8.8:443");
        hello.write_all(b"\x16\x03\x01\x10\x00").unwrap();
        for head in &mut heads {
            head.write_all(b"GET http://a.example/ HTTP/1.1\r\nX: ").unwrap();
        }
        let started = Instant::now();
        heads.push(hello);
        for stream in &mut heads {
            // Each read is a pause between two bytes that keep the connection from being idle.
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut answer = [0; 16];
            while stream.read(&mut answer).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                assert!(started.elapsed() < PATIENCE, "it may trickle for ever");
                let _ = stream.write_all(b"y");
            }
        }
        assert!(started.elapsed() >= Duration::from_secs(9), "{:?}", started.elapsed());
        stage.wait_until(|| {
            let slow = |message: &FromProxy| matches!(message, FromProxy::Refused { reason: Refusal::TooSlow, .. });
            stage.heard().iter().filter(|message| slow(message)).count() == 3
        });
        assert!(stage.wishes().is_empty());
    }

    fn a_target_that_never_answers_ends_with_the_limit() {
        let stage = stage(EgressLimits { idle_ms: 300, ..limits() });
        serve(OUTSIDE, 80, |mut stream| drop(read_rest(&mut stream)));
        let answer = say(PROXY, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(stage.ending(0).0, WishEnd::Limited { limit: Refusal::TooSlow });
    }

    fn a_server_that_thinks_is_waited_for() {
        let stage = Stage::new(|_| None);
        stage.attach(SANDBOX, &[3128], EgressLimits { idle_ms: 200, connection_ms: 1_500, ..limits() }, &[], None);
        let started = Instant::now();
        let answer = say(PROXY, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(started.elapsed() >= Duration::from_millis(1_000), "longer than it may idle: {answer}");
        assert_eq!(stage.wishes().len(), 1);
        // The answer that comes too late is carried out by nobody, and reported.
        let ask = stage.wait_for(|message| if let FromProxy::Ask { ask, .. } = message { Some(*ask) } else { None });
        stage.send(&agentos_protocol::egress::ToProxy::Verdict { ask, verdict: allowed().unwrap() }, &[]);
        assert_eq!(stage.ending(0), (WishEnd::Broken, 0, 0));
        // Answers to nothing change nothing.
        stage.send(&agentos_protocol::egress::ToProxy::Verdict { ask, verdict: allowed().unwrap() }, &[]);
        stage.send(&agentos_protocol::egress::ToProxy::Verdict { ask: 999, verdict: allowed().unwrap() }, &[]);
        stage.send(&agentos_protocol::egress::ToProxy::Ping { n: 1 }, &[]);
        stage.wait_for(|message| matches!(message, FromProxy::Pong { n: 1 }).then_some(()));
        assert_eq!(stage.names.asked(), 0);
    }
}
