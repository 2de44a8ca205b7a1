//! Bodies on their way through: whole, in order, by every framing, and no faster than the slower side.

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::mpsc,
    time::Duration,
};

use agentos_protocol::egress::WishEnd;

use super::{
    network::inside,
    servers::{OUTSIDE, PROXY, connect, http, next, read_head, read_rest, say, serve},
    stage::{Stage, allowed},
};

fn stage() -> Stage {
    let stage = Stage::with_sandbox(|_| allowed());
    stage.names.set("a.example", &[OUTSIDE]);
    stage
}

/// Head of a request to the proxy, with these lines.
fn request(method: &str, lines: &str) -> String {
    format!("{method} http://a.example/ HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

inside! {
    fn a_body_arrives_as_it_was_sent() {
        let _stage = stage();
        let (told, bodies) = mpsc::channel();
        serve(OUTSIDE, 80, move |mut stream| {
            let head = read_head(&mut stream).unwrap();
            let body = if head.contains("Transfer-Encoding: chunked\r\n") {
                let mut body = Vec::new();
                while !body.ends_with(b"0\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    body.push(byte[0]);
                }
                body
            } else {
                let mut body = vec![0; 300_000];
                stream.read_exact(&mut body).unwrap();
                body
            };
            told.send(body).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n").unwrap();
        });
        let body: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let mut text = request("POST", "Content-Length: 300000\r\nConnection: close\r\n").into_bytes();
        text.extend_from_slice(&body);
        let answer = say(PROXY, &text);
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n") && !answer.contains("Content-Length"), "{answer}");
        assert!(bodies.recv().unwrap() == body);
        let chunks = "5;ext=1\r\nhello\r\n00006\r\n world\r\n000\r\nTrailer: dropped\r\n\r\n";
        let text = format!("{}{chunks}", request("PUT", "Transfer-Encoding: Chunked\r\nConnection: close\r\n"));
        assert!(say(PROXY, text).starts_with("HTTP/1.1 204 "));
        let received = String::from_utf8(bodies.recv().unwrap()).unwrap();
        assert_eq!(unchunked(&received), "hello world");
        assert!(!received.contains("ext") && !received.contains("dropped"), "{received}");
    }

    fn an_answer_arrives_by_every_framing() {
        let _stage = stage();
        for (number, (answer, expected)) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n", "abcde"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", "abcde"),
            ("HTTP/1.1 200 OK\r\n\r\nabcde", "abcde"),
            ("HTTP/1.0 200 OK\r\n\r\nabcde", "abcde"),
            ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", ""),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ""),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", ""),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", "abcde"),
        ]
        .iter()
        .enumerate()
        {
            let port = 8100 + number as u16;
            let answer = (*answer).to_owned();
            serve(OUTSIDE, port, move |mut stream| {
                read_head(&mut stream).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let host = format!("a.example:{port}");
            let text = say(PROXY, format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
            let (head, body) = text.rsplit_once("\r\n\r\n").map_or(("", ""), |_| {
                let last = text.rfind("HTTP/1.1 ").unwrap();
                text[last..].split_once("\r\n\r\n").unwrap()
            });
            let body = if head.contains("chunked") { unchunked(body) } else { body.to_owned() };
            assert_eq!(body, *expected, "{text:?}");
        }
        // A reader of HTTP/1.0 knows no chunks.
        serve(OUTSIDE, 8200, |mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n").unwrap();
        });
        let text = say(PROXY, "GET http://a.example:8200/ HTTP/1.0\r\n\r\n");
        assert!(text.ends_with("\r\n\r\nabcde") && !text.contains("chunked"), "{text}");
    }

    fn head_has_no_body_whatever_it_says() {
        let _stage = stage();
        let requests = http(OUTSIDE, 80, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let mut stream = connect(PROXY);
        for _ in 0..2 {
            stream.write_all(request("HEAD", "").as_bytes()).unwrap();
            assert!(read_head(&mut stream).unwrap().contains("Content-Length: 5\r\n"));
            next(&requests);
        }
    }

    fn a_body_waits_for_the_word_to_go_on() {
        let _stage = stage();
        serve(OUTSIDE, 80, |mut stream| {
            assert!(read_head(&mut stream).unwrap().contains("Expect: 100-continue\r\n"));
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            let mut body = [0; 4];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").unwrap();
            stream.write_all(&body).unwrap();
        });
        let mut stream = connect(PROXY);
        stream.write_all(request("POST", "Expect: 100-continue\r\nContent-Length: 4\r\n").as_bytes()).unwrap();
        assert_eq!(read_head(&mut stream).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        let mut body = [0; 4];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"body");
    }

    fn an_answer_may_come_before_the_end_of_the_request() {
        let stage = stage();
        serve(OUTSIDE, 80, |mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut stream = connect(PROXY);
        stream.write_all(request("POST", "Content-Length: 1000000\r\n").as_bytes()).unwrap();
        stream.write_all(b"a little of it").unwrap();
        let answer = read_rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("Connection: close\r\n"), "{answer}");
        assert_eq!(stage.ending(0).0, WishEnd::Done { status: Some(413) });
    }

    fn a_program_that_leaves_in_the_middle_leaves_nothing_behind() {
        let stage = stage();
        let (told, ended) = mpsc::channel();
        serve(OUTSIDE, 80, move |mut stream| {
            read_head(&mut stream).unwrap();
            told.send(read_rest(&mut stream)).unwrap();
        });
        let mut stream = connect(PROXY);
        stream.write_all(request("POST", "Content-Length: 1000\r\n").as_bytes()).unwrap();
        stream.write_all(b"half").unwrap();
        drop(stream);
        assert_eq!(ended.recv_timeout(super::stage::PATIENCE).unwrap(), "half");
        assert_eq!(stage.ending(0).0, WishEnd::Broken);
    }

    fn a_slow_reader_holds_the_target_back_and_not_the_memory() {
        let _stage = stage();
        let (told, written) = mpsc::channel();
        serve(OUTSIDE, 80, move |mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let piece = vec![0; 64 * 1024];
            let mut sum = 0;
            // 256 MiB, if somebody takes them.
            while sum < 256 << 20 && stream.write_all(&piece).is_ok() {
                sum += piece.len();
            }
            told.send(sum).unwrap();
        });
        let mut stream = connect(PROXY);
        stream.write_all(request("GET", "").as_bytes()).unwrap();
        read_head(&mut stream).unwrap();
        let sum = written.recv().unwrap();
        // What fits into the buffers of four sockets.
        assert!(sum < 64 << 20, "{sum} bytes went into a connection that nobody reads");
    }

    fn a_websocket_is_a_tunnel_after_its_hand_shake() {
        let stage = stage();
        serve(OUTSIDE, 80, |mut stream| {
            let head = read_head(&mut stream).unwrap();
            assert!(head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n") && head.contains("Sec-WebSocket-Key: x\r\n"));
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
                .unwrap();
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).unwrap();
            stream.write_all(&buffer).unwrap();
        });
        let mut stream = connect(PROXY);
        let lines = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n";
        stream.write_all(request("GET", lines).as_bytes()).unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
        stream.write_all(b"ping").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), "firstping");
        assert_eq!(stage.ending(0).0, WishEnd::Done { status: Some(101) });
    }

    fn fields_of_one_connection_stay_on_it() {
        let _stage = stage();
        let requests = http(OUTSIDE, 80, "HTTP/1.1 200 OK\r\nConnection: X-Gone, close\r\nX-Gone: 1\r\nKeep-Alive: x\r\n\
            Alt-Svc: h3=\":443\"\r\nX-Stays: 2\r\nContent-Length: 0\r\n\r\n");
        let lines = "Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nConnection: X-Own\r\nX-Own: 1\r\nTE: trailers\r\n\
            Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX-Kept:  spaced \t\r\n";
        let mut stream = connect(PROXY);
        stream.write_all(request("GET", lines).as_bytes()).unwrap();
        let answer = read_head(&mut stream).unwrap();
        assert_eq!(answer, "HTTP/1.1 200 OK\r\nX-Stays: 2\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(next(&requests), "GET / HTTP/1.1\r\nHost: a.example\r\nX-Kept: spaced\r\n\r\n");
    }
}

/// The content of a chunked body, however it was cut.
fn unchunked(text: &str) -> String {
    let mut content = String::new();
    let mut rest = text;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return content;
        }
        content.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
    }
    panic!("no end in {text:?}")
}
