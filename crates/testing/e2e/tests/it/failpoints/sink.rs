//! The world outside: an HTTP server that writes down every request it has received whole, and is slow, rude or deaf where
//! a path or a port says so.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_judge::Request;
use agentos_kit::until;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// What an answer takes, so that a crash can fall between a request and its answer.
const THINKING: Duration = Duration::from_millis(15);
const REQUEST_BYTES_MAX: usize = 1 << 16;

#[derive(Debug)]
pub struct Sink {
    shared: Arc<Mutex<Shared>>,
    pub port: u16,
    /// Every third connection to it is closed before a byte is read.
    pub deaf_port: u16,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Vec<Request>,
    /// Connections that were accepted, and those that are still open.
    accepted: u64,
    open: BTreeSet<u64>,
    /// Paths that were refused once.
    refused: BTreeSet<String>,
}

impl Sink {
    pub async fn open() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (listener, deaf) = (bind().await, bind().await);
        let (port, deaf_port) = (listener.local_addr().unwrap().port(), deaf.local_addr().unwrap().port());
        let servers =
            vec![tokio::spawn(serve(listener, shared.clone(), false)), tokio::spawn(serve(deaf, shared.clone(), true))];
        Self { shared, port, deaf_port, servers }
    }

    /// Everything received so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }

    pub fn has_seen(&self, task_key: &str, step: &str) -> bool {
        lock(&self.shared).requests.iter().any(|request| request.task_key == task_key && request.step == step)
    }

    /// Returns when everything that was sent before this call has been received or given up. Connections are accepted in
    /// the order in which they were made, so one of our own tells that all earlier ones were.
    pub async fn has_caught_up(&self) {
        for port in [self.port, self.deaf_port] {
            let mark = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut end = Vec::new();
            let mut mark = mark;
            let _ = mark.write_all(b"GET /mark HTTP/1.1\r\n\r\n").await;
            let _ = mark.read_to_end(&mut end).await;
        }
        let before = lock(&self.shared).accepted;
        until("the sink has read what came", || async {
            lock(&self.shared).open.iter().all(|number| *number >= before)
        })
        .await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>, deaf: bool) {
    let mut count = 0_u64;
    while let Ok((stream, _)) = listener.accept().await {
        count += 1;
        if deaf && count % 3 == 1 {
            continue;
        }
        let shared = shared.clone();
        let number = {
            let mut shared = lock(&shared);
            shared.accepted += 1;
            let number = shared.accepted - 1;
            shared.open.insert(number);
            number
        };
        tokio::spawn(async move {
            answer(stream, &shared).await;
            lock(&shared).open.remove(&number);
        });
    }
}

async fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) {
    let Some(head) = read_request(&mut stream).await else { return };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    // `/KIND/TASK-KEY/STEP`
    let &[_, kind, task_key, step] = parts.as_slice() else { return };
    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned);
    let safety = match (head.starts_with("GET "), &key) {
        (true, _) => "idempotent",
        (false, Some(_)) => "keyed",
        (false, None) => "unsafe",
    };
    let request = Request { safety: safety.into(), task_key: task_key.into(), step: step.into(), key };
    let status = {
        let mut shared = lock(shared);
        shared.requests.push(request);
        if kind == "flaky" && shared.refused.insert(path.clone()) { 503 } else { 200 }
    };
    if kind == "drop" {
        return;
    }
    sleep(THINKING).await;
    let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok").as_bytes()).await;
}

/// Head of a request whose body has arrived as well. A request that broke off was not received.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return Some(head.to_owned());
            }
        }
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}
