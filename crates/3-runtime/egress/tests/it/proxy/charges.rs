//! What counts against the limits of a sandbox: every byte between proxy and target, framing and heads too.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use agentos_protocol::egress::{EgressLimits, Refusal, WishEnd};

use super::{
    network::inside,
    servers::{OUTSIDE, PROXY, connect, read_head, read_rest, say, serve},
    stage::{SANDBOX, Stage, allowed, limits},
};

/// A target that counts what crosses its socket.
#[derive(Clone, Default)]
struct Counted(Arc<(AtomicU64, AtomicU64)>);

struct Counting {
    stream: TcpStream,
    counted: Counted,
}

impl Counted {
    /// Read and written.
    fn sums(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::SeqCst), self.0.1.load(Ordering::SeqCst))
    }

    fn serve(&self, port: u16, work: impl Fn(Counting) + Send + Sync + 'static) {
        let counted = self.clone();
        serve(OUTSIDE, port, move |stream| work(Counting { stream, counted: counted.clone() }));
    }
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.counted.0.0.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

impl Write for Counting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // Counted before they leave: who has read them may ask for the sum at once.
        let offered = buffer.len() as u64;
        self.counted.0.1.fetch_add(offered, Ordering::SeqCst);
        let written = self.stream.write(buffer);
        let count = *written.as_ref().unwrap_or(&0) as u64;
        self.counted.0.1.fetch_sub(offered - count, Ordering::SeqCst);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads a request to its end: by its chunks, by its length, or nothing.
fn read_request(stream: &mut Counting) {
    let head = read_head(stream).unwrap();
    if head.contains("Transfer-Encoding: chunked\r\n") {
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            body.push(byte[0]);
        }
    } else if let Some((_, rest)) = head.split_once("Content-Length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).unwrap();
    }
}

const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

inside! {
    fn what_is_charged_is_what_the_target_has_read_and_written() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let crumbs = format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "1;extension=1\r\nx\r\n".repeat(300));
        let interim = format!("{}{PLAIN}", format!("HTTP/1.1 103 Early\r\nLink: {}\r\n\r\n", "l".repeat(3_000)).repeat(5));
        let chunks = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\nT: {}\r\n\r\n",
            "1;extension=2\r\nx\r\n".repeat(300), "t".repeat(2_000));
        let hidden = format!("HTTP/1.1 200 OK\r\nConnection: x-gone\r\nX-Gone: {}\r\nContent-Length: 0\r\n\r\n", "g".repeat(5_000));
        let broken = format!("HTTP/1.1 200 OK\r\nX : {}\r\n\r\n", "b".repeat(5_000));
        for (number, (version, rest, answer)) in [
            ("1.1", "\r\n", PLAIN),
            ("1.1", "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\n\r\nuntil the end"),
            ("1.1", &crumbs, PLAIN),
            ("1.1", "\r\n", &interim),
            ("1.0", "\r\n", &interim),
            ("1.1", "\r\n", &chunks),
            ("1.0", "\r\n", &chunks),
            ("1.1", "\r\n", &hidden),
            ("1.1", "\r\n", &broken),
            ("1.1", "\r\n", "HTTP/1.1 200 OK\r\nContent-Le"),
        ]
        .iter()
        .enumerate()
        {
            let (counted, port, answer) = (Counted::default(), 8300 + number as u16, (*answer).to_owned());
            counted.serve(port, move |mut stream| {
                read_request(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let host = format!("a.example:{port}");
            let head = format!("POST http://{host}/ HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n");
            say(PROXY, format!("{head}{rest}"));
            let (end, bytes_out, bytes_in) = stage.ending(number);
            assert_eq!((bytes_out, bytes_in), counted.sums(), "{number}: {end:?}");
        }
    }

    fn a_websocket_is_charged_from_its_first_byte_and_once() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let counted = Counted::default();
        counted.serve(80, |mut stream| {
            read_head(&mut stream).unwrap();
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst";
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
            stream.write_all(b"last").unwrap();
        });
        let mut stream = connect(PROXY);
        // The program speaks before it has seen the answer.
        let text = "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly";
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(read_rest(&mut stream).ends_with("firstlast"));
        let (end, bytes_out, bytes_in) = stage.ending(0);
        assert_eq!((end, (bytes_out, bytes_in)), (WishEnd::Done { status: Some(101) }, counted.sums()));
    }

    fn framing_is_no_way_around_the_limit() {
        for (number, is_out) in [true, false].into_iter().enumerate() {
            let stage = Stage::new(|_| allowed());
            let few = EgressLimits { bytes: 20_000, ..limits() };
            stage.attach_at(SANDBOX, vec![(3128, super::network::tcp_listener(format!("127.0.0.1:{}", 3200 + number).parse().unwrap()))], few);
            stage.names.set("a.example", &[OUTSIDE]);
            let (counted, port) = (Counted::default(), 8400 + number as u16);
            counted.serve(port, move |mut stream| {
                read_head(&mut stream).unwrap();
                if is_out {
                    let _ = stream.read_to_end(&mut Vec::new());
                } else {
                    // A single byte of content, and much that nobody sees.
                    let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{}", "1;e\r\nx\r\n".repeat(15_000));
                    let _ = stream.write_all(text.as_bytes());
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
            let host = format!("a.example:{port}");
            let head = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n");
            let text = match is_out {
                // A third of what is written is content.
                true => format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(15_000)),
                false => format!("{head}\r\n"),
            };
            say(&format!("127.0.0.1:{}", 3200 + number), text);
            assert_eq!(stage.ending(0).0, WishEnd::Limited { limit: Refusal::ByteLimit }, "{is_out}");
            let (read, _) = counted.sums();
            assert!(read <= 20_000, "{read} bytes have left");
        }
    }
}
