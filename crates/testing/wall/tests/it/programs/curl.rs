//! curl has no way out unless a host is allowed, and then by the capture: it knows of no proxy.

use std::{
    io::{Read, Write},
    net::{TcpListener, ToSocketAddrs},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::programs::world::{World, each, need, told};

#[test]
fn without_an_allowed_host_there_is_no_way_out() {
    need("curl", "curl");
    each(|world| {
        for (target, expected) in [
            // No name is known, and no address is anywhere but here.
            ("http://example.org/", 6),
            ("http://192.0.2.1/", 7),
            ("http://169.254.169.254/latest/meta-data/", 7),
            ("http://[2001:db8::1]/", 7),
        ] {
            let output = world.command(&[], &["curl", "-sS", "--max-time", "10", target]).output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{target}: {}", told(&output));
        }
    });
}

/// A page on the machine itself. Its thread ends with the test.
fn page() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut request = [0; 4096];
            if client.read(&mut request).is_ok_and(|count| count > 0) {
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n");
            }
        }
    });
    port
}

/// A name for this machine that a sandbox does not know by itself.
fn own_name(port: u16) -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let is_loopback = (name.as_str(), port).to_socket_addrs().is_ok_and(|mut found| found.next().is_some());
    (is_loopback && name != "localhost").then_some(name)
}

fn fetch(world: &World, options: &[&str], words: &[&str]) -> (Option<i32>, String, Value) {
    let words = [&["curl", "-sS", "--max-time", "30"], words].concat();
    let (output, report) = world.reported(options, &words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}\n{report}", told(&output));
    (output.status.code(), text, report)
}

fn has_denial(report: &Value, target: &str) -> bool {
    let denials = report["denials"].as_array().unwrap();
    denials.iter().any(|denial| denial["kind"] == "network" && denial["target"].as_str() == Some(target))
}

#[test]
fn an_allowed_host_is_reached_by_the_capture_and_no_other() {
    need("curl", "curl");
    let port = page();
    let name = own_name(port)
        .expect("a name of this machine with an address; without one make test leaves this out, and counts it");
    let (target, url) = (format!("{name}:{port}"), format!("http://{name}:{port}/"));
    each(|world| {
        let (status, text, report) = fetch(world, &["--allow-private", &target], &[&url]);
        assert_eq!((status, text.as_str()), (Some(0), "hello\n"));
        assert!(report["usage"]["network_in_bytes"].as_u64().unwrap() > 0, "{report}");
        // Another name, another port, and a literal address.
        let (status, _, report) = fetch(world, &["--allow-private", &target], &["http://other.example/"]);
        assert_eq!(status, Some(6));
        assert!(has_denial(&report, "other.example"), "{report}");
        let (status, text, _) = fetch(world, &["--allow-private", &target], &[&format!("http://127.0.0.1:{port}/")]);
        assert_ne!((status, text.as_str()), (Some(0), "hello\n"));
        // Allowed by its name, but nobody said that it may be on this machine.
        let (_, text, report) = fetch(world, &["--allow-host", &target], &[&url]);
        assert_ne!(text, "hello\n");
        assert!(has_denial(&report, &target), "{report}");
    });
}

#[test]
fn a_client_that_knows_the_proxy_may_use_it() {
    need("curl", "curl");
    let port = page();
    let (target, url) = (format!("localhost:{port}"), format!("http://localhost:{port}/"));
    each(|world| {
        let through = ["--noproxy", "", "--proxy", "http://127.0.0.1:3128"];
        let (status, text, _) = fetch(world, &["--allow-private", &target], &[&through[..], &[&url]].concat());
        assert_eq!((status, text.as_str()), (Some(0), "hello\n"));
        let other = [&through[..], &["http://other.example/"]].concat();
        let (_, text, report) = fetch(world, &["--allow-private", &target], &other);
        assert_ne!(text, "hello\n");
        assert!(has_denial(&report, "other.example:80"), "{report}");
    });
}
