//! Connections that were caught on their way to a provider: the operations of models behind its own paths, nothing else of it,
//! and the same limits and ends as at the loopback.

use std::sync::Arc;

use agentos_api::models::{ModelCaller, ModelOperation};
use agentos_gateway::{CapturedHost, Captures, DoorCounts, ModelEdge};
use agentos_types::Code;
use agentos_wire::Protocol;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{door, harness::PATIENCE, models::ScriptedModels, samples};

struct Caught {
    models: Arc<ScriptedModels>,
    edge: ModelEdge,
    captures: Captures,
    until: CancellationToken,
}

fn caught() -> Caught {
    let (models, edge) = door::edge();
    let until = CancellationToken::new();
    let captures = edge.captures(door::agent(), until.clone());
    Caught { models, edge, captures, until }
}

impl Caught {
    fn try_open(&self) -> agentos_types::Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let bases = ["/v1", "/api/v1"].map(str::to_owned).into();
        let host = CapturedHost { name: "api.provider.example".into(), protocol: Protocol::Messages, bases };
        self.captures.serve(theirs, host)?;
        ours.set_nonblocking(true).unwrap();
        Ok(UnixStream::from_std(ours).unwrap())
    }

    fn open(&self) -> UnixStream {
        self.try_open().unwrap()
    }

    /// One request on a connection of its own, with all that comes back.
    async fn say(&self, line: &str, host: &str, body: &str) -> (u16, Value) {
        let mut stream = self.open();
        stream.write_all(request(line, host, body).as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn counts(&self) -> [DoorCounts; 2] {
        self.edge.counts.read().map(|(_, counts)| counts)
    }

    /// Waits until so many connections are open.
    async fn open_connections(&self, count: u64) {
        let wait = async {
            while self.counts()[1].connections != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{:?}", self.counts()));
    }
}

fn request(line: &str, host: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer own-key\r\nx-api-key: own-key\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn rest(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the other side closes");
    String::from_utf8(text).unwrap()
}

const HOST: &str = "api.provider.example";
const CHAT: &str = "POST /v1/chat/completions";
const BODY: &str = r#"{"model":"fast"}"#;

#[tokio::test]
async fn operations_are_answered_below_the_providers_own_paths_and_keys_are_dropped() {
    let caught = caught();
    for (line, operation) in [
        (CHAT, ModelOperation::Chat),
        ("POST /api/v1/embeddings?x=1", ModelOperation::Embeddings),
        ("POST https://api.provider.example/v1/messages", ModelOperation::Messages),
    ] {
        assert_eq!(caught.say(line, HOST, BODY).await, (200, json!({"id": "x"})), "{line}");
        let (caller, request) = caught.models.calls.lock().unwrap().pop().unwrap();
        assert_eq!((request.operation, request.headers.len(), &request.body[..]), (operation, 0, BODY.as_bytes()));
        let ModelCaller::Agent { agent, task, .. } = caller else { panic!("{caller:?}") };
        assert_eq!((agent, task), (samples::agent_name(), Some(samples::task_id(1))));
    }
    let (status, list) = caught.say("GET /v1/models", "API.Provider.example:443", "").await;
    assert_eq!((status, &list["data"][0]["id"]), (200, &json!("fast")));
    caught.open_connections(0).await;
    let [loopback, captured] = caught.counts();
    assert_eq!((loopback.requests, captured.requests, captured.connections), (0, 4, 0));
    assert!(caught.models.refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_call_of_a_model_is_refused_in_the_protocol_and_told() {
    let caught = caught();
    for (line, host, code) in [
        ("GET /v1/files?key=secret", HOST, Code::CAPTURED_PATH),
        ("POST /v1/moderations", HOST, Code::CAPTURED_PATH),
        ("GET /api/v1/tasks", HOST, Code::CAPTURED_PATH),
        ("POST /chat/completions", HOST, Code::CAPTURED_PATH),
        (CHAT, "other.example", Code::CAPTURED_HOST),
        ("POST https://other.example/v1/chat/completions", HOST, Code::CAPTURED_HOST),
        ("GET /v1/chat/completions", HOST, Code::METHOD_NOT_ALLOWED),
        ("POST /v1/models", HOST, Code::METHOD_NOT_ALLOWED),
    ] {
        let (status, told) = caught.say(line, host, BODY).await;
        assert_eq!(status, code.entry().http_status, "{line}");
        assert!(told.to_string().contains(&code.to_string()), "{line}: {told}");
        let is_anthropics = told["type"] == "error";
        assert_eq!(is_anthropics, code == Code::CAPTURED_PATH, "the protocol of the path, or of the host: {told}");
        let recorded = caught.models.refused.lock().unwrap().pop().expect("a record");
        let path = line.split_once(' ').unwrap().1.trim_start_matches("https://other.example");
        let path = path.split('?').next().unwrap();
        assert_eq!(recorded, format!("https://{HOST}:443{path} {code}"));
    }
    assert!(caught.models.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_ends_with_its_program_or_its_sandbox_and_never_looks_whole() {
    let caught = caught();
    let begin = async || {
        let sender = caught.models.will_stream();
        let mut stream = caught.open();
        stream.write_all(request(CHAT, HOST, BODY).as_bytes()).await.unwrap();
        sender.send("data: 1\n\n".into()).await.unwrap();
        let mut seen = String::new();
        while !seen.contains("data: 1") {
            let mut piece = [0; 512];
            let count = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        (sender, stream)
    };
    let (sender, stream) = begin().await;
    assert_eq!(caught.counts()[1].connections, 1);
    drop(stream);
    timeout(PATIENCE, sender.closed()).await.expect("the program's end reaches the kernel");
    let (sender, mut stream) = begin().await;
    caught.until.cancel();
    timeout(PATIENCE, sender.closed()).await.expect("the sandbox's end reaches the kernel");
    assert!(!rest(&mut stream).await.contains("0\r\n\r\n"), "a cut stream must not look whole");
    caught.open_connections(0).await;
}

#[tokio::test]
async fn more_than_there_are_places_for_wait_and_a_crowd_is_turned_away() {
    let caught = caught();
    // Nothing runs between these lines: all of them are open or wait.
    let crowd: Vec<UnixStream> = (0..256).map(|_| caught.open()).collect();
    assert_eq!(caught.try_open().unwrap_err().code, Code::TOO_MANY_CONNECTIONS);
    // Whoever says nothing in his time makes room.
    let (status, _) = async {
        loop {
            if let Ok(mut stream) = caught.try_open() {
                stream.write_all(request(CHAT, HOST, BODY).as_bytes()).await.unwrap();
                let answer = rest(&mut stream).await;
                if !answer.is_empty() {
                    break (answer[9..12].parse::<u16>().unwrap(), crowd);
                }
            }
            tokio::task::yield_now().await;
        }
    }
    .await;
    assert_eq!(status, 200);
}
