//! An HTTP server on loopback that notes each request and answers by a script.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Lower-case names; a repeated header keeps its last value.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub enum Reply {
    Now(String),
    /// The answer waits until [`Server::release`].
    Held(String),
    /// Closes without an answer: nobody knows whether the request was carried out.
    Silence,
}

/// Status, extra header lines, body.
pub fn answer(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Now(text(status, headers, body))
}

pub fn held(body: &str) -> Reply {
    Reply::Held(text("200 OK", "", body))
}

fn text(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub struct Server {
    address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    release: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, release, script): (_, _, Arc<Script>) =
            (watch::Sender::new(Vec::new()), Arc::new(Notify::new()), Arc::new(script));
        let (noted, gate) = (seen.clone(), release.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), noted.clone(), gate.clone()));
            }
        });
        Self { address, seen, release, task }
    }

    /// Answers everything with 200 and `body`.
    pub async fn saying(body: &'static str) -> Self {
        Self::start(move |_| answer("200 OK", "", body)).await
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Stops listening. Returns the port at which nobody answers any more.
    pub async fn stop(mut self) -> u16 {
        self.task.abort();
        // Awaited, because the socket closes with the task and not with the wish.
        let _ = (&mut self.task).await;
        self.port()
    }

    /// `http://HOST:port/path` under one of the names that lead here.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Returns when `count` requests have arrived.
    pub async fn arrived(&self, count: usize) {
        self.seen.subscribe().wait_for(|seen| seen.len() >= count).await.unwrap();
    }

    /// Lets one held answer go.
    pub fn release(&self) {
        self.release.notify_one();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, noted: watch::Sender<Vec<Seen>>, gate: Arc<Notify>) {
    let Some(request) = receive(&mut stream).await else { return };
    let reply = script(&request);
    noted.send_modify(|seen| seen.push(request));
    let text = match reply {
        Reply::Now(text) => text,
        Reply::Held(text) => {
            gate.notified().await;
            text
        }
        Reply::Silence => return,
    };
    // The client may have gone away meanwhile.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn receive(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { method, target, headers, body: String::from_utf8(bytes[head_end + 4..].to_vec()).ok()? })
}
