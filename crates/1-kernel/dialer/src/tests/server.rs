//! A server that answers byte for byte what a test wants, also nonsense.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(super) enum Reply {
    /// Written, then the connection is closed.
    Close(Vec<u8>),
    /// Written, then nothing more until the client leaves.
    Stall(Vec<u8>),
    /// The second part again and again until the client leaves.
    Endless(Vec<u8>, Vec<u8>),
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// Told when a `Stall` has been written.
    pub(super) stalled: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, Arc::new(script)).await
    }

    pub(super) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(acceptor), Arc::new(script)).await
    }

    async fn start_with(acceptor: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stalled = Arc::new(Notify::new());
        let (log, signal) = (Arc::clone(&requests), Arc::clone(&stalled));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (script, log, signal) = (Arc::clone(&script), Arc::clone(&log), Arc::clone(&signal));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(tcp, &*script, &log, &signal).await,
                        Some(acceptor) => {
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                serve(tls, &*script, &log, &signal).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, stalled, task }
    }

    /// All requests so far, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S>(mut stream: S, script: &Script, log: &Mutex<Vec<String>>, stalled: &Notify)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(request) = read_request(&mut stream).await else { return };
    let reply = script(&request);
    log.lock().unwrap().push(request);
    // Write errors mean that the client has left, which is what some tests are about.
    match reply {
        Reply::Close(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Stall(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            stalled.notify_one();
            let _ = stream.read(&mut [0; 64]).await;
            stalled.notify_one();
        }
        Reply::Endless(head, part) => {
            let _ = stream.write_all(&head).await;
            while stream.write_all(&part).await.is_ok() {}
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
}

pub(super) fn ok(body: &str) -> Reply {
    Reply::Close(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into())
}

pub(super) fn redirect(status: u16, location: &str) -> Reply {
    Reply::Close(format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into())
}
