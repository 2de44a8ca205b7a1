//! An OpenTelemetry collector under the test's control: it reads what is exported with the official definitions, and
//! misbehaves on demand. It outlives the servers that it serves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::eventually;

/// Larger than any export.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// What the collector does with the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request is answered with this status, and thrown away.
    Status(u16),
    /// 200 and bytes that are no message.
    Garbage,
    /// Reads, and never answers.
    Silent,
    /// Closes the connection in the middle.
    Rude,
}

/// One span as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenSpan {
    pub trace_id: String,
    pub span_id: String,
    /// Empty for a root.
    pub parent: String,
    pub name: String,
    pub kind: i32,
    pub started_ns: u64,
    pub ended_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// Span ids.
    pub links: Vec<String>,
    pub error: Option<String>,
    pub flags: u32,
}

impl SeenSpan {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Collector {
    shared: Arc<Mutex<Shared>>,
    port: u16,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    mood: Mood,
    spans: Vec<SeenSpan>,
    resource: BTreeMap<String, String>,
    /// Head and body of every request, whatever became of it.
    requests: Vec<(String, Vec<u8>)>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Shared { mood: Mood::Well, spans: Vec::new(), resource: BTreeMap::new(), requests: Vec::new() };
        let shared = Arc::new(Mutex::new(state));
        let serving = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, serving.clone()));
            }
        });
        Self { shared, port, server }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set_mood(&self, mood: Mood) {
        self.with(|shared| shared.mood = mood);
    }

    /// Spans so far, in the order of arrival.
    pub fn spans(&self) -> Vec<SeenSpan> {
        self.with(|shared| shared.spans.clone())
    }

    pub fn resource(&self) -> BTreeMap<String, String> {
        self.with(|shared| shared.resource.clone())
    }

    /// Heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.with(|shared| shared.requests.iter().map(|(head, _)| head.clone()).collect())
    }

    /// Whether any byte sequence that came in a body holds the text.
    pub fn holds(&self, text: &str) -> bool {
        let in_body = |body: &[u8]| body.windows(text.len()).any(|part| part == text.as_bytes());
        self.with(|shared| shared.requests.iter().any(|(_, body)| in_body(body)))
    }

    /// Waits for a span, and returns the first that fits.
    pub async fn span(&self, what: &str, fits: impl Fn(&SeenSpan) -> bool) -> SeenSpan {
        eventually(&format!("the span of {what}"), || {
            let spans = self.spans();
            let found = spans.iter().find(|span| fits(span)).cloned();
            async move { found.ok_or_else(|| spans.into_iter().map(|span| span.name).collect::<Vec<_>>()) }
        })
        .await
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let Some((head, body)) = read_request(&mut stream).await else { return };
    let mood = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.mood == Mood::Well {
            take_in(&mut shared, &body);
        }
        shared.requests.push((head, body));
        shared.mood
    };
    let (status, body): (u16, &[u8]) = match mood {
        Mood::Well => (200, b""),
        Mood::Status(status) => (status, b"no"),
        Mood::Garbage => (200, b"\xff\xffgarbage\x00<html>"),
        Mood::Silent => return std::future::pending().await,
        Mood::Rude => return,
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
}

/// A message that cannot be read is a defect of the exporter, and ends the connection without an answer.
fn take_in(shared: &mut Shared, body: &[u8]) {
    let request = ExportTraceServiceRequest::decode(body).expect("a message of the protocol");
    for of_resource in request.resource_spans {
        shared.resource = texts(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        shared.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(seen));
    }
}

fn seen(span: Span) -> SeenSpan {
    SeenSpan {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind,
        started_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        error: span.status.filter(|status| status.code == 2).map(|status| status.message),
        flags: span.flags,
        name: span.name,
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: KeyValue| (attribute.key, text(attribute.value.and_then(|value| value.value)));
    attributes.into_iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length: usize = length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
            let body = bytes.get(end + 4..)?;
            if body.len() >= length {
                return Some((head, body.to_vec()));
            }
        }
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(chunk.get(..count)?);
    }
}
