//! A web page under the test's control: its content changes when the test says so, and every request is kept.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request head and body are read up to this size; tests send less.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Page {
    shared: Arc<Mutex<Shared>>,
    port: u16,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    status: u16,
    body: String,
    requests: Vec<String>,
}

impl Page {
    pub async fn serve(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Mutex::new(Shared { status: 200, body: body.to_owned(), requests: Vec::new() }));
        let serving = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, serving.clone()));
            }
        });
        Self { shared, port, server }
    }

    pub fn set(&self, body: &str) {
        self.with(|shared| shared.body = body.to_owned());
    }

    pub fn set_status(&self, status: u16) {
        self.with(|shared| shared.status = status);
    }

    /// Requests so far: head and body as they came.
    pub fn requests(&self) -> Vec<String> {
        self.with(|shared| shared.requests.clone())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let Some(request) = read_request(&mut stream).await else { return };
    let response = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.requests.push(request);
        format!(
            "HTTP/1.1 {} X\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
            shared.status,
            shared.body.len(),
            shared.body
        )
    };
    let _ = stream.write_all(response.as_bytes()).await;
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text);
            }
        }
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(chunk.get(..count)?);
    }
}
