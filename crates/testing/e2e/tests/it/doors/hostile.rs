//! The written table of what is refused, tried line by line on the real server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use agentos_client::Client;
use agentos_kit::{TestOs, eventually, until};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{
    probes::{self, Own, Probe},
    wire::{PATIENCE, address, connect_from, raw, summary, until_closed},
};

const PAGE: &str = include_str!("../../../../../../docs/src/reference/limits.md");
/// Short times, and a rate that a flood exceeds and the probes do not.
const CONFIG: &str = "[gateway]\nrequest_timeout_ms = 1500\nrequests_per_second = 100\nauth_failures_max = 5\n";
const DROPPED: usize = 1_000;
const FLOOD: usize = 4_000;

struct Server {
    os: TestOs,
    address: SocketAddr,
    token: String,
    /// Floods take the rate of this one, and not that of the other probes.
    socket_token: String,
    /// With a token of its own, whose rate no flood takes.
    watcher: Client,
}

/// Input → answer, as the page says.
fn written() -> BTreeMap<String, String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).filter_map(|row| {
        // The other tables of the page have three columns.
        let (input, answer) = row.split_once(" | ").filter(|(_, answer)| !answer.contains(" | "))?;
        Some((input.to_owned(), answer.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
    });
    rows.collect()
}

#[tokio::test]
async fn every_bad_input_is_answered_as_the_written_table_says() {
    let os = TestOs::start_with(CONFIG).await;
    let made = os.cli_json(&["token", "create", "watcher", "--role", "viewer"]).await;
    let watcher = os.client_with(Some(made["token"].as_str().unwrap().to_owned()));
    let made = os.cli_json(&["token", "create", "sockets", "--role", "admin"]).await;
    let socket_token = made["token"].as_str().unwrap().to_owned();
    let server = Server { address: address(&os), token: os.token(), socket_token, watcher, os };
    let mut written = written();
    let mut findings = Vec::new();
    for case in probes::all(&server.token) {
        let Some(expected) = written.remove(case.name) else {
            findings.push(format!("{}: is not in the table", case.name));
            continue;
        };
        let begun = Instant::now();
        let answer = server.try_out(case.probe).await;
        println!("{}: {answer} after {:.0?}", case.name, begun.elapsed());
        if answer != expected {
            findings.push(format!("{}: {answer}, and the table says {expected}", case.name));
        }
        let what = format!("service goes on after {}", case.name);
        eventually(&what, || async { server.watcher.list_agents().await }).await;
    }
    findings.extend(written.into_keys().map(|name| format!("{name}: is in the table and was not tried")));
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
    let log = server.os.log();
    assert!(!log.contains("panicked") && !log.contains(&server.token), "{log}");
}

impl Server {
    async fn try_out(&self, probe: Probe) -> String {
        match probe {
            Probe::Raw(bytes) => summary(&raw(self.address, &bytes).await),
            Probe::Body(body) => {
                let head = self.post(body.len());
                summary(&raw(self.address, &[head.as_bytes(), &body].concat()).await)
            }
            Probe::Messages(messages) => self.by_messages(messages).await,
            Probe::Own(own) => self.by_its_own(own).await,
        }
    }

    fn post(&self, length: usize) -> String {
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            self.token
        )
    }

    async fn by_its_own(&self, own: Own) -> String {
        match own {
            Own::SlowHead => self.after(b"GET /live HTTP/1.1\r\nhost: x\r\nx-slow: ").await,
            Own::SlowBody => self.after((self.post(100) + "{").as_bytes()).await,
            Own::Silence => self.after(b"").await,
            Own::ReaderThatStops => self.reader_that_stops().await,
            Own::WebSocketReaderThatStops => self.websocket_reader_that_stops().await,
            Own::OpenedAndDropped => self.opened_and_dropped().await,
            Own::MessageFlood => self.message_flood().await,
            Own::PingFlood => self.by_messages(vec![Message::Ping(vec![7; 100].into()); FLOOD]).await,
            Own::SilentWebSocket => {
                let mut socket = self.websocket(self.connect().await).await;
                last_word(&mut socket).await
            }
            Own::BrokenFrame => {
                let mut socket = self.authenticated(self.connect().await).await;
                // Not masked, as only servers may send.
                socket.get_mut().write_all(b"\x81\x02{}").await.unwrap();
                last_word(&mut socket).await
            }
            Own::Guesses => self.guesses().await,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a part and then nothing.
    async fn after(&self, part: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(part).await.unwrap();
        summary(&until_closed(&mut stream).await)
    }

    /// A connection with a small window, so that what is not read stays with the server.
    async fn narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn reader_that_stops(&self) -> String {
        let before = self.open_connections().await;
        let mut stream = self.narrow().await;
        let ask =
            format!("GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", self.token);
        // Many answers of 100 KB, more than the buffers of both sides hold.
        stream.write_all(ask.repeat(100).as_bytes()).await.unwrap();
        until("it is noticed", || async { self.open_connections().await > before }).await;
        until("it is closed", || async { self.open_connections().await <= before }).await;
        let taken = until_closed(&mut stream).await;
        assert!(taken.matches("HTTP/1.1 200").count() < 100, "it was cut in the middle");
        "closed".into()
    }

    async fn websocket_reader_that_stops(&self) -> String {
        let mut socket = self.authenticated(self.narrow().await).await;
        let sessions = || async { self.metric("websockets").await };
        assert_eq!(sessions().await, 1);
        // Answers that are not read, until the server reads no more; and then until it has had enough.
        let sending = async {
            loop {
                if socket.send(Message::text(json!({"id": 1, "type": "agent.list"}).to_string())).await.is_err() {
                    return;
                }
            }
        };
        let closed = until("the session is closed", || async { sessions().await == 0 });
        tokio::select! {
            () = sending => until("the session is closed", || async { sessions().await == 0 }).await,
            () = closed => {}
        }
        "closed".into()
    }

    async fn opened_and_dropped(&self) -> String {
        for number in 0..DROPPED {
            let mut stream = self.connect().await;
            if number % 2 == 0 {
                stream.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nx-half: ").await.unwrap();
            }
        }
        until("they are gone", || async { self.open_connections().await <= 4 }).await;
        summary(&raw(self.address, b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await)
    }

    async fn message_flood(&self) -> String {
        let (mut sink, mut stream) = self.authenticated(self.connect().await).await.split();
        let sending = async {
            for id in 1..=FLOOD {
                sink.send(Message::text(json!({"id": id, "type": "ping"}).to_string())).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let refused = async {
            loop {
                if let Some(code) = code_of(&stream.next().await.unwrap().unwrap()) {
                    return format!("reply {code}");
                }
            }
        };
        let flooding = async {
            tokio::select! {
                answer = refused => answer,
                () = sending => unreachable!("it waits for the answer"),
            }
        };
        timeout(PATIENCE, flooding).await.unwrap_or_else(|_| "ok".into())
    }

    /// Six wrong tokens where five are allowed, from an address of their own.
    async fn guesses(&self) -> String {
        let mut answer = String::new();
        for _ in 0..6 {
            let mut stream = connect_from("127.0.0.77", self.address).await;
            let ask = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer aos_guess\r\n\r\n";
            stream.write_all(ask.as_bytes()).await.unwrap();
            answer = summary(&until_closed(&mut stream).await);
        }
        answer
    }

    async fn websocket(&self, stream: TcpStream) -> WebSocketStream<TcpStream> {
        client_async(format!("ws://{}/api/v1/ws", self.address), stream).await.unwrap().0
    }

    async fn authenticated(&self, mut stream: TcpStream) -> WebSocketStream<TcpStream> {
        loop {
            let mut socket = self.websocket(stream).await;
            socket
                .send(Message::text(json!({"id": 0, "type": "auth", "token": self.socket_token}).to_string()))
                .await
                .unwrap();
            let welcome = socket.next().await.unwrap().unwrap();
            let code = code_of(&welcome);
            if code.is_none() {
                return socket;
            }
            // On a quick machine the rows before have used up the requests of this second.
            assert_eq!(code.as_deref(), Some("AOS-1705"), "{welcome}");
            stream = self.connect().await;
        }
    }

    async fn by_messages(&self, messages: Vec<Message>) -> String {
        let mut socket = self.authenticated(self.connect().await).await;
        let closes = messages.len() > 1;
        for message in messages {
            if socket.send(message).await.is_err() {
                break;
            }
        }
        if closes {
            return last_word(&mut socket).await;
        }
        match timeout(PATIENCE, socket.next()).await.expect("an answer") {
            Some(Ok(Message::Close(Some(frame)))) => format!("close {}", u16::from(frame.code)),
            Some(Ok(message)) => code_of(&message).map_or("ok".into(), |code| format!("reply {code}")),
            _ => "closed".into(),
        }
    }

    async fn open_connections(&self) -> u64 {
        self.metric("connections").await
    }

    async fn metric(&self, name: &str) -> u64 {
        // Looking on has a rate as well.
        let metrics = eventually("the metrics", || async { self.watcher.metrics().await }).await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("agentos_gateway_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

fn code_of(message: &Message) -> Option<String> {
    let reply: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
    Some(reply["problem"]["code"].as_str()?.to_owned())
}

/// How the session ends.
async fn last_word(socket: &mut WebSocketStream<TcpStream>) -> String {
    let ending = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return format!("close {}", u16::from(frame.code)),
                Some(Ok(_)) => {}
                _ => return "closed".to_owned(),
            }
        }
    };
    timeout(PATIENCE + Duration::from_secs(10), ending).await.expect("the session never ended")
}
