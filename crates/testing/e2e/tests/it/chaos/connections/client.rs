//! A client that leaves in the middle of everything.

use std::time::Duration;

use agentos_kit::TestOs;
use agentos_types::TaskId;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// For one connection from its begin to its end. The server is busy with fifty of them.
const PATIENCE: Duration = Duration::from_secs(20);

/// The moment at which a client leaves.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Connected, and not a word.
    Connected,
    /// Bytes that are no HTTP, among them the begin of a TLS handshake.
    Noise,
    /// In the middle of the head of a request.
    HalfHead,
    /// In the middle of a body that was announced.
    HalfBody,
    /// After a request, before its answer.
    Unanswered,
    /// After half of a large answer.
    HalfAnswer,
    /// It has said that it sends no more, and still reads.
    HalfClosed,
    /// With a reset instead of an end, after half a body.
    Reset,
    /// A stream of events that has begun.
    Stream,
    /// A WebSocket before it has said who it is.
    Upgraded,
    /// In the middle of the frame that says it.
    HalfAuth,
    /// Right after a command, its answer under way.
    Commanded,
    /// With subscriptions that push.
    Subscribed,
    /// With subscriptions, in the middle of a frame, by a reset.
    SubscribedReset,
    /// In order.
    Closed,
}

pub const STAGES: &[Stage] = &[
    Stage::Connected,
    Stage::Noise,
    Stage::HalfHead,
    Stage::HalfBody,
    Stage::Unanswered,
    Stage::HalfAnswer,
    Stage::HalfClosed,
    Stage::Reset,
    Stage::Stream,
    Stage::Upgraded,
    Stage::HalfAuth,
    Stage::Commanded,
    Stage::Subscribed,
    Stage::SubscribedReset,
    Stage::Closed,
];

pub struct Churn {
    address: String,
    token: String,
    /// A task that goes on for as long as the test: what streams and subscriptions follow.
    sleeper: TaskId,
}

impl Churn {
    pub fn against(os: &TestOs, sleeper: TaskId) -> Self {
        let address = os.url().strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        Self { address, token: os.token(), sleeper }
    }

    pub fn sleeper(&self) -> &TaskId {
        &self.sleeper
    }

    /// Goes as far as the stage and drops everything; `percent` is how much of a half has been sent.
    pub async fn drop_at(&self, stage: Stage, percent: usize) {
        let went = timeout(PATIENCE, self.go(stage, percent)).await;
        went.unwrap_or_else(|_| panic!("{stage:?}: the server left a client waiting"));
    }

    async fn go(&self, stage: Stage, percent: usize) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let submit = json!({"agent": "echo", "input": {"action": "echo"}}).to_string();
        let post = self.request("POST", "/api/v1/tasks", "application/json", &submit);
        let events = format!("/api/v1/tasks/{}/events", self.sleeper);
        match stage {
            Stage::Connected => {}
            Stage::Noise => {
                let begin: &[u8] =
                    if percent.is_multiple_of(2) { b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" } else { b"\r\n\0\xff\xfe" };
                stream.write_all(begin).await.unwrap();
                stream.write_all(&vec![u8::try_from(percent).unwrap(); percent * 10]).await.ok();
            }
            Stage::HalfHead => stream.write_all(part(post.as_bytes(), percent / 2)).await.unwrap(),
            Stage::HalfBody => stream.write_all(&post.as_bytes()[..post.len() - 1 - percent / 5]).await.unwrap(),
            Stage::Unanswered => {
                stream.write_all(post.as_bytes()).await.unwrap();
                linger(percent).await;
            }
            Stage::HalfAnswer => {
                let document = self.request("GET", "/api/v1/openapi.json", "application/json", "");
                stream.write_all(document.as_bytes()).await.unwrap();
                let mut taken = [0; 1_000];
                stream.read_exact(&mut taken).await.unwrap();
                assert!(taken.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&taken));
            }
            Stage::HalfClosed => {
                stream.write_all(part(post.as_bytes(), percent)).await.unwrap();
                stream.shutdown().await.unwrap();
                // Whatever the answer: it ends.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            Stage::Reset => {
                stream.write_all(&post.as_bytes()[..post.len() - 1]).await.unwrap();
                reset(&stream);
            }
            Stage::Stream => {
                stream.write_all(self.request("GET", &events, "text/event-stream", "").as_bytes()).await.unwrap();
                let mut begun = [0; 64];
                stream.read_exact(&mut begun).await.unwrap();
                assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun));
            }
            _ => self.go_by_websocket(stream, stage, percent).await,
        }
    }

    async fn go_by_websocket(&self, stream: TcpStream, stage: Stage, percent: usize) {
        let (mut socket, _) = client_async(format!("ws://{}/api/v1/ws", self.address), stream).await.unwrap();
        match stage {
            Stage::Upgraded => return,
            Stage::HalfAuth => return half_a_frame(&mut socket, percent).await,
            _ => {}
        }
        ask(&mut socket, json!({"id": 1, "type": "auth", "token": self.token})).await;
        match stage {
            Stage::Commanded => {
                let submit = json!({"id": 2, "type": "task.submit", "agent": "echo", "input": {"action": "echo"}});
                socket.send(Message::text(submit.to_string())).await.unwrap();
                linger(percent).await;
            }
            Stage::Closed => {
                socket.close(None).await.unwrap();
                while let Some(Ok(_)) = socket.next().await {}
            }
            _ => {
                ask(&mut socket, json!({"id": 2, "type": "subscribe", "agents": true})).await;
                ask(&mut socket, json!({"id": 3, "type": "subscribe", "task": self.sleeper, "after_seq": 0})).await;
                if let Stage::SubscribedReset = stage {
                    half_a_frame(&mut socket, percent).await;
                    reset(socket.get_ref());
                }
            }
        }
    }

    fn request(&self, method: &str, path: &str, accept: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
    }
}

fn part(bytes: &[u8], percent: usize) -> &[u8] {
    &bytes[..bytes.len() * percent / 100]
}

/// Lets others go first, so that clients leave at different moments of what they have asked for.
async fn linger(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// The begin of a masked text frame of 100 bytes, and as many of them as told.
async fn half_a_frame(socket: &mut WebSocketStream<TcpStream>, percent: usize) {
    let mut frame = vec![0x81, 0x80 | 100, 0, 0, 0, 0];
    frame.resize(frame.len() + percent.min(99), b'x');
    socket.get_mut().write_all(&frame).await.unwrap();
}

/// Sends and waits for the answer; pushes in between are passed over.
async fn ask(socket: &mut WebSocketStream<TcpStream>, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
    loop {
        let received = socket.next().await.expect("an answer").unwrap();
        let Ok(text) = received.to_text() else { continue };
        let Ok(answer) = serde_json::from_str::<Value>(text) else { continue };
        if answer["id"] == message["id"] {
            assert_eq!(answer["type"], "ok", "{answer}");
            return;
        }
    }
}

/// Closing it now sends a reset.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}
