//! The load: programs that ask on kept connections, either one after the other (closed) or by the clock (open), and what
//! became of each request. An answer counts only if it is whole; everything else is an error of a named class.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpStream, sync::Mutex, task::JoinSet, time::timeout};

use crate::pace::Pace;

/// Of a closed load: the first requests of its connections, which are not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// An answer that takes longer is an error.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Connections that an open load may use at once. One more request waits, and its wait is counted.
const OPEN_CONNECTIONS: usize = 256;
/// Connections that are made at once.
const CONNECTING: usize = 64;
/// Every event of the mock has this before it.
const EVENT: &[u8] = b"data: ";
const STREAM_END: &[u8] = b"data: [DONE]\n\n";
/// 64 pieces, the usage, the end.
pub const EVENTS: usize = 66;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub token: String,
    /// As this target calls it.
    pub model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// So many programs, each asks again as soon as it has its answer.
    Whole(usize),
    /// The same, with streams.
    Stream(usize),
    /// So many requests a second, whatever comes back.
    Paced(u32),
}

/// What one load on one target showed.
#[derive(Debug, Default)]
pub struct Cell {
    /// Microseconds up to the last byte.
    pub times: Vec<f64>,
    pub per_second: f64,
    /// Answers that were whole within the window.
    ended: usize,
    pub errors: BTreeMap<String, usize>,
}

/// A kept connection to a target, and the request that it repeats.
struct Asker {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
    body: Bytes,
    is_stream: bool,
}

/// One load on one target, for about `window`.
pub async fn run(load: Load, target: &Target, window: Duration) -> Result<Cell> {
    match load {
        Load::Whole(count) => closed(connect(target, count, false).await?, window).await,
        Load::Stream(count) => closed(connect(target, count, true).await?, window).await,
        Load::Paced(rate) => open(connect(target, OPEN_CONNECTIONS, false).await?, rate, window).await,
    }
}

/// One answer of each kind, looked at in full: a gateway that loses something is not measured.
pub async fn check(target: &Target) -> Result<()> {
    for is_stream in [false, true] {
        let mut asker = Asker::connect(target.clone(), is_stream).await?;
        let answer = asker.answer().await.map_err(|class| anyhow!(class))?;
        let body = collect(answer).await.map_err(|class| anyhow!(class))?;
        let text = String::from_utf8(body)?;
        let wanted = if is_stream { " word62\"" } else { "The capital of France is Paris." };
        ensure!(text.contains(wanted) && text.contains("prompt_tokens"), "an answer that is not the mock's: {text}");
        if is_stream {
            let events = text.lines().filter(|line| line.starts_with("data: ")).count();
            ensure!(text.ends_with("data: [DONE]\n\n"), "a stream without its end");
            ensure!(events >= EVENTS - 2, "a stream of {events} events, of {EVENTS}");
        }
    }
    Ok(())
}

async fn connect(target: &Target, count: usize, is_stream: bool) -> Result<Vec<Asker>> {
    let mut askers = Vec::with_capacity(count);
    while askers.len() < count {
        let mut connecting = JoinSet::new();
        for _ in askers.len()..count.min(askers.len() + CONNECTING) {
            connecting.spawn(Asker::connect(target.clone(), is_stream));
        }
        while let Some(asker) = connecting.join_next().await {
            askers.push(asker??);
        }
    }
    Ok(askers)
}

async fn closed(askers: Vec<Asker>, window: Duration) -> Result<Cell> {
    let from = Instant::now() + WARM_UP;
    let until = from + window;
    let mut running = JoinSet::new();
    for mut asker in askers {
        running.spawn(async move {
            let mut own = Cell::default();
            while Instant::now() < until {
                let began = Instant::now();
                let outcome = asker.ask().await;
                let ended = Instant::now();
                match outcome {
                    // Slow answers are not left out because the window closed on them: times are of what began in it, the
                    // rate is of what ended in it.
                    Ok(()) => {
                        own.times.extend((began >= from).then(|| micros(ended - began)));
                        own.ended += usize::from(ended >= from && ended <= until);
                    }
                    Err(class) => {
                        own.fail(class);
                        if asker.reconnect().await.is_err() {
                            break;
                        }
                    }
                }
            }
            own
        });
    }
    let mut cell = Cell::gather(running).await?;
    cell.per_second = cell.ended as f64 / window.as_secs_f64();
    Ok(cell)
}

async fn open(askers: Vec<Asker>, rate: u32, window: Duration) -> Result<Cell> {
    let count = (f64::from(rate) * window.as_secs_f64()) as usize;
    let pace = Arc::new(Mutex::new(Pace::every(Duration::from_secs(1) / rate, count)));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for mut asker in askers {
        let pace = Arc::clone(&pace);
        running.spawn(async move {
            let mut own = Cell::default();
            loop {
                // Whoever holds it waits for the next instant; those who are idle wait for it.
                let Ok(due) = pace.lock().await.next().await else { break };
                match asker.ask().await {
                    Ok(()) => own.times.push(micros(due.elapsed())),
                    Err(class) => {
                        own.fail(class);
                        if asker.reconnect().await.is_err() {
                            break;
                        }
                    }
                }
            }
            own
        });
    }
    let mut cell = Cell::gather(running).await?;
    cell.per_second = cell.times.len() as f64 / began.elapsed().as_secs_f64();
    Ok(cell)
}

impl Cell {
    fn fail(&mut self, class: String) {
        *self.errors.entry(class).or_default() += 1;
    }

    async fn gather(mut running: JoinSet<Self>) -> Result<Self> {
        let mut all = Self::default();
        while let Some(own) = running.join_next().await {
            let own = own?;
            all.times.extend(own.times);
            all.ended += own.ended;
            for (class, count) in own.errors {
                *all.errors.entry(class).or_default() += count;
            }
        }
        Ok(all)
    }

    pub fn errors(&self) -> usize {
        self.errors.values().sum()
    }
}

impl Asker {
    async fn connect(target: Target, is_stream: bool) -> Result<Self> {
        let mut body = json!({
            "model": target.model,
            "messages": [
                {"role": "system", "content": "You answer questions about geography in one short sentence."},
                {"role": "user", "content": "What is the capital of France, please?"},
            ],
            "max_tokens": 64,
            "temperature": 0.2,
        });
        if is_stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        let sender = handshake(target.address).await?;
        Ok(Self { sender, target, body: Bytes::from(body.to_string()), is_stream })
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.sender = handshake(self.target.address).await?;
        Ok(())
    }

    /// Until the last byte. The error is its class.
    async fn ask(&mut self) -> Result<(), String> {
        let is_stream = self.is_stream;
        timeout(ANSWER_WITHIN, async {
            let answer = self.answer().await?;
            let body = collect(answer).await?;
            if is_stream && !body.ends_with(STREAM_END) {
                return Err("a stream without its end".to_owned());
            }
            if is_stream && !body.starts_with(EVENT) || !is_stream && !body.starts_with(b"{") {
                return Err("not the mock's answer".to_owned());
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()))
    }

    async fn answer(&mut self) -> Result<hyper::Response<Incoming>, String> {
        let request = Request::post("/v1/chat/completions")
            .header(HOST, "127.0.0.1")
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.target.token))
            .body(Full::new(self.body.clone()))
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|_| "connection closed")?;
        let answer = self.sender.send_request(request).await.map_err(|_| "connection cut")?;
        if answer.status() == 200 { Ok(answer) } else { Err(format!("status {}", answer.status().as_u16())) }
    }
}

fn micros(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e6
}

async fn handshake(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ends is seen by the request that it cuts.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn collect(answer: hyper::Response<Incoming>) -> Result<Vec<u8>, String> {
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| "answer cut")?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
