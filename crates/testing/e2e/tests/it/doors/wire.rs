//! Bytes to the server and back, without a client library that would mend them.

use std::{net::SocketAddr, time::Duration};

use agentos_kit::TestOs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// No probe waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn address(os: &TestOs) -> SocketAddr {
    os.url().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
}

/// A connection that comes from the given loopback address.
pub async fn connect_from(source: &str, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(server).await.unwrap()
}

/// Everything that the server says until it closes.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well; what came before it counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server never closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes, stops sending, and returns everything until the server closes.
pub async fn raw(server: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    // The server may close before it has read everything; what it answered is what counts.
    let _ = stream.write_all(bytes).await;
    until_closed(&mut stream).await
}

/// `431 AOS-1718`, `200`, or `closed` for each answer in the text, joined by commas.
pub fn summary(answers: &str) -> String {
    let answers = answers.replace("HTTP/1.0 ", "HTTP/1.1 ");
    let each = answers.split("HTTP/1.1 ").skip(1).map(|answer| {
        let status = answer.get(..3).unwrap_or_default();
        let code = answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.get(..8));
        code.map_or_else(|| status.to_owned(), |code| format!("{status} {code}"))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "closed".into() } else { each.join(", ") }
}
