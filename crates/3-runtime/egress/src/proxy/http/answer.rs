//! Answers of our own: why a request of a program was not carried out, in words that a person at its terminal understands.

use std::time::Duration;

use agentos_protocol::egress::Refusal;
use agentos_types::Code;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::super::{
    stop::Stop,
    wire::{Stream, Wire},
};

/// What a program still sends is read and dropped within these bounds: closing before would take the answer with it.
const DRAIN_BYTES_MAX: u64 = 256 * 1024;
const DRAIN: Duration = Duration::from_secs(1);

/// Answers and ends the connection.
pub(super) async fn refuse(client: &mut Wire<impl Stream>, stop: &Stop) {
    let (status, reason, text) = words(stop);
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let message = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\nX-AgentOS-Reason: {reason}\r\n\r\n{text}\n",
        text.len() + 1
    );
    if matches!(timeout(DRAIN, client.stream.write_all(message.as_bytes())).await, Ok(Ok(()))) {
        end(client).await;
    }
}

/// Says that nothing follows, and lets the program finish its sentence.
pub(in super::super) async fn end(client: &mut Wire<impl Stream>) {
    let ended = async {
        client.stream.shutdown().await?;
        client.buffer.clear();
        tokio::io::copy(&mut (&mut client.stream).take(DRAIN_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let _ = timeout(DRAIN, ended).await;
}

/// Status line, a word for programs, a sentence for people.
fn words(stop: &Stop) -> (&'static str, String, String) {
    match stop {
        Stop::Refused { reason, .. } | Stop::Limited(reason) => {
            let (status, word, text) = refusal_words(*reason);
            (status, word.to_owned(), text.to_owned())
        }
        Stop::Denied { code, message } => ("403 Forbidden", plain(code), format!("{code}: {message}")),
        Stop::Unreachable { fault, .. } => {
            let status = if fault.code == Code::ADDRESS_DENIED { "403 Forbidden" } else { "502 Bad Gateway" };
            (status, fault.code.to_string(), fault.to_string())
        }
        Stop::Broken | Stop::Stuck => ("502 Bad Gateway", "broken".to_owned(), "the target broke off".to_owned()),
        Stop::NobodyToAsk => ("503 Service Unavailable", "ended".to_owned(), "the sandbox has ended".to_owned()),
    }
}

fn refusal_words(reason: Refusal) -> (&'static str, &'static str, &'static str) {
    match reason {
        Refusal::NotUnderstood => ("400 Bad Request", "not-understood", "this is no request that belongs here"),
        Refusal::Smuggling => ("400 Bad Request", "smuggling", "the request can be read in two ways"),
        Refusal::NoServerName => ("400 Bad Request", "no-server-name", "TLS without a server name"),
        Refusal::HiddenServerName => ("400 Bad Request", "hidden-server-name", "TLS hides its server name"),
        Refusal::NamesDiffer => ("403 Forbidden", "names-differ", "the request names several hosts"),
        Refusal::NoName => ("403 Forbidden", "no-name", "only names are granted, not addresses"),
        Refusal::ConnectionLimit => {
            ("429 Too Many Requests", "connection-limit", "too many connections of this sandbox")
        }
        Refusal::ByteLimit => ("429 Too Many Requests", "byte-limit", "this sandbox has moved all bytes that it may"),
        Refusal::TooSlow => ("408 Request Timeout", "too-slow", "the request was not complete in time"),
    }
}

/// A code as it is written, whatever it was that came.
fn plain(code: &str) -> String {
    code.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').take(32).collect()
}
