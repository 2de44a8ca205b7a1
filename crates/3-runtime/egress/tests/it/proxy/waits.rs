//! Programs that connect and say nothing, and a server that does not answer: neither holds up anybody else for long.

use std::{
    io::Write,
    net::TcpStream,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use agentos_protocol::egress::{EgressLimits, FromProxy, Refusal, WishEnd};

use super::{
    network::{inside, tcp_listener},
    servers::{OK, OUTSIDE, PROXY, connect, echo, http, next, none, read_head, read_rest, say, tunnel},
    stage::{PATIENCE, SANDBOX, Stage, allowed, limits},
};

const NEIGHBOUR: u64 = 8;
/// Where the neighbour's own proxy port is, in place of a network of its own.
const NEIGHBOURS_PROXY: &str = "127.0.0.2:3129";
/// More than the proxy takes of one sandbox.
const FLOOD: usize = 600;

fn get(proxy: &str) -> String {
    say(proxy, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
}

/// Connections that say nothing, as many as a program may have descriptors for.
fn flood(addresses: &[&str]) -> Vec<TcpStream> {
    (0..FLOOD).filter_map(|number| TcpStream::connect(addresses[number % addresses.len()]).ok()).collect()
}

inside! {
    fn a_flood_of_silence_starves_no_other_and_is_over_soon() {
        let stage = Stage::new(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 80, OK);
        // Idle for ten minutes, if that counted.
        let patient = EgressLimits { connections: 10_000, idle_ms: 600_000, ..limits() };
        stage.attach(SANDBOX, &[3128, 80, 443], patient, &[], None);
        stage.attach_at(NEIGHBOUR, vec![(3128, tcp_listener(NEIGHBOURS_PROXY.parse().unwrap()))], limits());
        let begun = Instant::now();
        let held = flood(&[PROXY, "8.8.8.8:80", "8.8.8.8:443", "8.8.8.8:53"]);
        stage.expect_refused(Refusal::ConnectionLimit);
        // Its own programs are shut out, the neighbour's are not.
        assert_eq!(get(PROXY), "");
        for _ in 0..20 {
            assert!(get(NEIGHBOURS_PROXY).starts_with("HTTP/1.1 200 "));
            next(&requests);
        }
        // Nobody has closed anything, and the places are free again.
        while !get(PROXY).starts_with("HTTP/1.1 200 ") {
            assert!(begun.elapsed() < PATIENCE, "silence keeps its places");
        }
        assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
        stage.expect_refused(Refusal::TooSlow);
        drop(held);
    }

    fn who_was_granted_something_may_be_silent_for_as_long_as_it_is_allowed() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 80, OK);
        let port = echo(OUTSIDE, 0).port();
        let (mut open, answer) = tunnel(&format!("a.example:{port}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut kept = connect(PROXY);
        let request = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let mut ask = || {
            kept.write_all(request).unwrap();
            assert!(read_head(&mut kept).unwrap().starts_with("HTTP/1.1 200 "));
            std::io::Read::read_exact(&mut kept, &mut [0; 2]).unwrap();
            next(&requests);
        };
        ask();
        // One that was granted nothing is the clock.
        let begun = Instant::now();
        assert_eq!(read_rest(&mut connect("8.8.8.8:53")), "");
        assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
        ask();
        open.write_all(b"x").unwrap();
        std::io::Read::read_exact(&mut open, &mut [0]).unwrap();
    }

    // As after SIGSTOP of the server: it neither reads nor answers.
    fn while_the_server_hangs_nothing_opens_and_afterwards_everything_goes_on() {
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let (is_open, judged) = (Arc::clone(&gate), Arc::clone(&gate));
        let stage = Stage::with_sandbox(move |_| {
            let (open, changed) = &*judged;
            drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            allowed()
        });
        stage.names.set("a.example", &[OUTSIDE]);
        let requests = http(OUTSIDE, 80, OK);
        let port = echo(OUTSIDE, 0).port();
        let (mut before, _) = tunnel(&format!("a.example:{port}"));
        let looked_up = stage.names.asked();
        *is_open.0.lock().unwrap() = false;
        // More than fit into its socket: names, tunnels and requests, and what they would send.
        let mut waiting: Vec<TcpStream> = (0..100)
            .map(|number| {
                let mut stream = connect(PROXY);
                let text = match number % 2 {
                    0 => "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
                    _ => "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n\
                          GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
                };
                stream.write_all(text.as_bytes()).unwrap();
                stream
            })
            .collect();
        stage.wait_until(|| stage.wishes().len() >= 2);
        // What was granted before goes on; and time passes, more than a silent program would have.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            before.write_all(b"x").unwrap();
            std::io::Read::read_exact(&mut before, &mut [0]).unwrap();
            before.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let nothing = std::io::Read::read(&mut before, &mut [0]);
            assert!(nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
            before.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        assert!(none(&requests), "something left");
        assert_eq!(stage.names.asked(), looked_up, "not even a name was looked up");
        assert!(stage.heard().iter().all(|message| !matches!(message, FromProxy::Refused { .. })));
        *is_open.0.lock().unwrap() = true;
        is_open.1.notify_all();
        for stream in waiting.iter_mut().step_by(2) {
            assert!(read_head(stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        }
        for stream in waiting.iter_mut().skip(1).step_by(2) {
            assert!(read_head(stream).unwrap().starts_with("HTTP/1.1 200 Connection established\r\n"));
            assert!(read_head(stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        }
        for _ in 0..100 {
            next(&requests);
        }
        drop(waiting);
        assert!(matches!(stage.ending(0).0, WishEnd::Done { .. } | WishEnd::Broken));
    }
}
