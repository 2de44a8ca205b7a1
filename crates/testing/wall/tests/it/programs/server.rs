//! A server under development: it listens on its own loopback, a client inside reaches it, and nobody else does.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use crate::programs::world::{each, need, told};

const STORY: &str = r#"
/usr/bin/python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 & server=$!
tries=0
until curl -sf http://localhost:8000/greeting > got; do tries=$((tries+1)); [ $tries -lt 200 ]; sleep 0.05; done
kill $server; wait $server || true
cat got
"#;

#[test]
fn a_server_on_its_own_loopback_is_reached_by_a_client_inside() {
    need("python3", "python3");
    need("curl", "curl");
    each(|world| {
        world.write("greeting", "hello\n");
        assert_eq!(world.script(&[], STORY), "hello\n");
    });
}

/// The same port is free in every sandbox and on the machine, and leads nowhere between them.
#[test]
fn its_loopback_is_its_own() {
    need("python3", "python3");
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    each(|world| {
        let reach = format!(
            "import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}), 5)\n    print('reached')\n\
             except OSError as error:\n    print(type(error).__name__)"
        );
        let output = world.command(&[], &["python3", "-c", &reach]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ConnectionRefusedError\n", "{}", told(&output));
        let listen = format!(
            "import socket\nlistener = socket.create_server(('127.0.0.1', {port}))\nprint('listening', flush=True)\ninput()"
        );
        let mut inside = world
            .command(&[], &["python3", "-c", &listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(inside.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        outside.set_nonblocking(true).unwrap();
        let client = TcpStream::connect_timeout(&outside.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
        // It is the machine's own listener that got it.
        let (_, from) = outside.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        inside.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(inside.wait().unwrap().success());
    });
}
