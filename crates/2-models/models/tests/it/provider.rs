//! A provider that plays one script for each request, down to the bytes of its connection.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// What one request gets.
#[derive(Clone, Debug)]
pub enum Play {
    /// Status, further head lines, body.
    Whole(u16, &'static str, String),
    /// A stream of events; each piece is a chunk of its own.
    Events(Vec<Piece>),
    /// A stream of Bedrock's messages, in pieces; whole, or cut behind the last.
    Framed(Vec<Vec<u8>>, bool),
    /// Bytes as they are, then the end of the connection.
    Raw(String),
    /// The connection ends without a byte.
    Hangup,
    /// Nothing comes, ever.
    Silence,
    /// The play, once the test says so.
    After(Arc<Notify>, Box<Play>),
    /// As [`Play::Whole`], once the test lets it.
    Held(u16, String),
}

#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(String),
    /// The connection ends in the middle.
    Cut,
    /// Nothing more comes, ever.
    Stall,
    /// A chunk whose length is no number.
    BadChunk,
}

#[derive(Clone, Debug)]
pub struct Got {
    pub head: String,
    pub body: String,
}

pub struct Provider {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    plays: Mutex<VecDeque<Play>>,
    /// Where no script is left.
    always: Mutex<Option<Play>>,
    got: Mutex<Vec<Got>>,
    connections: Mutex<usize>,
    /// The other side closed a connection while it was being answered.
    left: Notify,
    released: Notify,
    asked: Notify,
}

impl Provider {
    pub async fn start(plays: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { plays: Mutex::new(plays.into()), ..State::default() });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *shared.connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state }
    }

    pub async fn always(play: Play) -> Self {
        let provider = Self::start(Vec::new()).await;
        *provider.state.always.lock().unwrap() = Some(play);
        provider
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    pub async fn left(&self) {
        self.state.left.notified().await;
    }

    /// Lets one held answer go.
    pub fn release(&self) {
        self.state.released.notify_one();
    }

    /// Returns when a request has come since it returned last.
    pub async fn asked(&self) {
        self.state.asked.notified().await;
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    while let Some(got) = read(&mut stream).await {
        state.got.lock().unwrap().push(got);
        state.asked.notify_one();
        let play = state.plays.lock().unwrap().pop_front().or_else(|| state.always.lock().unwrap().clone());
        if !play_out(&mut stream, play.expect("a request that no script expects"), &state).await {
            return;
        }
    }
}

/// Whether the connection lives on.
async fn play_out(stream: &mut TcpStream, play: Play, state: &State) -> bool {
    let play = match play {
        Play::Held(status, body) => {
            state.released.notified().await;
            Play::Whole(status, "", body)
        }
        play => play,
    };
    match play {
        Play::After(gate, play) => {
            gate.notified().await;
            Box::pin(play_out(stream, *play, state)).await
        }
        Play::Whole(status, head, body) => {
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{head}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.is_ok()
        }
        Play::Raw(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            false
        }
        Play::Framed(pieces, is_whole) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for piece in pieces {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                if stream.write_all(&chunk).await.is_err() {
                    state.left.notify_one();
                    return false;
                }
            }
            is_whole && stream.write_all(b"0\r\n\r\n").await.is_ok()
        }
        Play::Hangup | Play::Held(..) => false,
        Play::Silence => {
            wait_for_end(stream, state).await;
            false
        }
        Play::Events(pieces) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for piece in pieces {
                match piece {
                    Piece::Bytes(text) => {
                        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                        if stream.write_all(chunk.as_bytes()).await.is_err() {
                            state.left.notify_one();
                            return false;
                        }
                    }
                    Piece::Cut => return false,
                    Piece::Stall => {
                        wait_for_end(stream, state).await;
                        return false;
                    }
                    Piece::BadChunk => {
                        let _ = stream.write_all(b"zz\r\nnonsense\r\n").await;
                    }
                }
            }
            stream.write_all(b"0\r\n\r\n").await.is_ok()
        }
    }
}

async fn wait_for_end(stream: &mut TcpStream, state: &State) {
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    state.left.notify_one();
}

async fn read(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    while bytes.len() < end + length {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    Some(Got { head, body: String::from_utf8_lossy(&bytes[end..]).into_owned() })
}
