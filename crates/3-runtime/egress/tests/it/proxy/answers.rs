//! Hostile targets: answers that two readers could read differently, that never end, or that are no answers.

use std::io::Write;

use agentos_protocol::egress::WishEnd;

use super::{
    network::inside,
    servers::{OUTSIDE, PROXY, connect, read_head, read_rest, serve},
    stage::{Stage, allowed},
};

/// What the program sees when a target answers with this and closes, and how the wish has ended.
fn see(number: usize, stage: &Stage, answer: impl Into<Vec<u8>>) -> (String, WishEnd) {
    let port = 8100 + number as u16;
    let answer = answer.into();
    serve(OUTSIDE, port, move |mut stream| {
        let _ = read_head(&mut stream);
        let _ = stream.write_all(&answer);
    });
    let host = format!("a.example:{port}");
    let mut stream = connect(PROXY);
    stream.write_all(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    let text = read_rest(&mut stream);
    (text, stage.ending(number).0)
}

inside! {
    fn an_answer_that_can_be_read_in_two_ways_is_not_passed_on() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
        for (number, answer) in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 103 Early\r\nX: a\r\n folded\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 99 Odd\r\n\r\n",
            "HTTP/1.1 600 Odd\r\n\r\n",
            "HTTP/1.1 2 0 OK\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "220 mail.example ESMTP\r\n\r\n",
            &long,
            &many,
            &endless,
        ]
        .iter()
        .enumerate()
        {
            let (text, end) = see(number, &stage, *answer);
            let last = text.rfind("HTTP/1.1 ").map_or("", |at| &text[at..]);
            assert!(last.starts_with("HTTP/1.1 502 ") && last.contains("AOS-1613"), "{answer:?}: {text:?}");
            assert!(matches!(&end, WishEnd::Unreachable { code, .. } if code == "AOS-1613"), "{answer:?}: {end:?}");
        }
    }

    fn a_target_that_breaks_off_breaks_the_answer_off() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        for (number, (answer, seen)) in [
            ("", "HTTP/1.1 502 "),
            ("HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 502 "),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 200 "),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "HTTP/1.1 200 "),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\nhalf", "HTTP/1.1 200 "),
        ]
        .iter()
        .enumerate()
        {
            let (text, end) = see(number, &stage, *answer);
            assert!(text.starts_with(seen), "{answer:?}: {text:?}");
            assert!(!text.ends_with("0\r\n\r\n"), "{answer:?} was made to look whole: {text:?}");
            assert_eq!(end, WishEnd::Broken, "{answer:?}");
        }
    }

    fn an_answer_that_nobody_asked_for_is_not_given_to_the_next_request() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        let requests = super::servers::http(OUTSIDE, 80, poison);
        let mut stream = connect(PROXY);
        for _ in 0..3 {
            stream.write_all(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
            assert!(read_head(&mut stream).unwrap().contains("Content-Length: 2\r\n"));
            let mut body = [0; 2];
            std::io::Read::read_exact(&mut stream, &mut body).unwrap();
            assert_eq!(&body, b"ok");
            super::servers::next(&requests);
        }
        assert_eq!(stage.names.asked(), 3, "each went over a connection of its own");
    }

    fn a_body_where_there_is_none_is_no_answer_to_the_next_request() {
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        for (number, (method, head)) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n"),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 46\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n\r\n"),
            ("GET", "HTTP/1.1 103 Early\r\nContent-Length: 46\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
        ]
        .iter()
        .enumerate()
        {
            let port = 8600 + number as u16;
            let requests = super::servers::http(OUTSIDE, port, &format!("{head}{poison}"));
            let host = format!("a.example:{port}");
            let mut stream = connect(PROXY);
            for _ in 0..2 {
                stream.write_all(format!("{method} http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
                super::servers::next(&requests);
                let mut answer = read_head(&mut stream).unwrap();
                if answer.starts_with("HTTP/1.1 103 ") {
                    assert!(!answer.contains("Content-Length"), "{answer}");
                    answer = read_head(&mut stream).unwrap();
                }
                let status = head.rsplit("HTTP/1.1 ").next().unwrap().split(' ').next().unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer:?}");
            }
            drop(stream);
        }
        // Each came over a connection of its own: what lay behind the first answer ended the one that it came by.
        assert_eq!(stage.names.asked(), 12);
    }
}
