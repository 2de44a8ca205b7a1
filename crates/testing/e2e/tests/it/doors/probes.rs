//! What nobody should send, each by its name in the reference, and how to send it.

use super::wire::summary;

/// How an input reaches the server.
pub enum Probe {
    /// As the bytes of a connection that then waits for its end.
    Raw(Vec<u8>),
    /// As the body of `POST /api/v1/tasks`, with a token.
    Body(Vec<u8>),
    /// As text messages of an authenticated WebSocket session; the last answer or close frame counts.
    Messages(Vec<tokio_tungstenite::tungstenite::Message>),
    /// By a function of its own.
    Own(Own),
}

/// Inputs that take time or many connections.
pub enum Own {
    SlowHead,
    SlowBody,
    Silence,
    ReaderThatStops,
    WebSocketReaderThatStops,
    OpenedAndDropped,
    MessageFlood,
    PingFlood,
    SilentWebSocket,
    BrokenFrame,
    Guesses,
}

pub struct Case {
    pub name: &'static str,
    pub probe: Probe,
}

fn case(name: &'static str, probe: Probe) -> Case {
    Case { name, probe }
}

fn raw(name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    case(name, Probe::Raw(bytes.as_ref().to_vec()))
}

fn body(name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    case(name, Probe::Body(bytes.as_ref().to_vec()))
}

/// A request for `/live` with further lines in its head; it asks to be the last.
fn live(lines: &str) -> String {
    format!("GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n")
}

/// A request with a token that asks to be the last.
fn authorized(token: &str, line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

pub fn all(token: &str) -> Vec<Case> {
    let mut cases = heads(token);
    cases.extend(framing(token));
    cases.extend(targets(token));
    cases.extend(bodies());
    cases.extend(media(token));
    cases.extend(messages());
    cases.extend(
        [
            ("a head that comes too slowly", Own::SlowHead),
            ("a body that comes too slowly", Own::SlowBody),
            ("a connection without a word", Own::Silence),
            ("a reader that stops in the middle of an answer", Own::ReaderThatStops),
            ("a reader of WebSocket pushes that stops", Own::WebSocketReaderThatStops),
            ("1,000 connections opened and dropped", Own::OpenedAndDropped),
            ("a flood of WebSocket messages", Own::MessageFlood),
            ("a flood of WebSocket pings", Own::PingFlood),
            ("a WebSocket that never authenticates", Own::SilentWebSocket),
            ("a WebSocket frame against the protocol", Own::BrokenFrame),
            ("wrong tokens, more than a minute allows", Own::Guesses),
        ]
        .map(|(name, own)| case(name, Probe::Own(own))),
    );
    cases
}

fn heads(token: &str) -> Vec<Case> {
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    vec![
        raw("a header of 64 KiB", live(&format!("x-large: {}\r\n", "x".repeat(64 * 1024)))),
        raw("200 headers", live(&many)),
        raw("a request line of 64 KiB", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(64 * 1024))),
        raw("a null byte in a header", live("x-null: a\0b\r\n")),
        raw("a header that goes on in the next line", live("x-folded: a\r\n b\r\n")),
        raw("a space before the colon of a header", live("x-space : a\r\n")),
        raw("a lone line feed inside a header", live("x-feed: a\nb c\r\n")),
        raw("no Host", "GET /live HTTP/1.1\r\nconnection: close\r\n\r\n"),
        raw("two Hosts", live("host: y\r\n")),
        raw("two Authorization headers", authorized(token, "GET /health", "authorization: Bearer x\r\n")),
        raw("a token in the URL", authorized("-", &format!("GET /health?access_token={token}"), "")),
        raw("bytes that are no HTTP", b"\0\x01\x02\xff\xfe\r\n\r\n"),
        raw("a TLS handshake where none is expected", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        raw("the begin of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        raw("HTTP/1.0", "GET /live HTTP/1.0\r\n\r\n"),
    ]
}

fn framing(token: &str) -> Vec<Case> {
    let post = |lines: &str, body: &str| {
        authorized(token, "POST /api/v1/tasks", &format!("content-type: application/json\r\n{lines}")) + body
    };
    // Kept open, so that a server that reads it as a second request would answer twice.
    let smuggled = "GET /live HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"
    );
    let first = "GET /live HTTP/1.1\r\nhost: x\r\n\r\n";
    vec![
        raw("two different lengths", post("content-length: 2\r\ncontent-length: 3\r\n", "{}")),
        raw("a length that is no number", post("content-length: +2\r\n", "{}")),
        raw("a length and chunks", both),
        raw("an encoding after the chunks", post("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n")),
        raw("a chunk whose size is no number", post("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n")),
        raw("chunks in HTTP/1.0", "POST /live HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        raw("garbage behind a request", format!("{first}\0\0garbage\r\n\r\n")),
    ]
}

fn targets(token: &str) -> Vec<Case> {
    let get = |target: &str| authorized(token, &format!("GET {target}"), "");
    let many: String = (0..1_000).map(|number| format!("&a{number}=1")).collect();
    vec![
        raw("the method TRACE", live("").replace("GET", "TRACE")),
        raw("the method CONNECT", "CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        raw("OPTIONS for the whole server", "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        raw("a target with a host of its own", live("").replace("/live", "http://example.org/live")),
        raw("a path that climbs", get("/api/v1/agents/../../../etc/passwd")),
        raw("a path that climbs in disguise", get("/api/v1/agents/%2e%2e%2f%2e%2e%2fetc%2fpasswd")),
        raw("a percent sign without digits in the path", get("/api/v1/tasks/%zz")),
        raw("a path that is not UTF-8", get("/api/v1/tasks/%ff")),
        raw("a null byte in the path", get("/api/v1/agents/a%00b")),
        raw("1,000 query parameters", get(&format!("/api/v1/tasks?limit=1{many}"))),
        raw("a query parameter given twice", get("/api/v1/tasks?limit=1&limit=2")),
        raw("an unknown query parameter", get("/api/v1/tasks?surprise=1")),
        raw("a null byte in the query", get("/api/v1/audit?action=%00")),
        raw("a page of a million", get("/api/v1/tasks?limit=1000000")),
        raw("a WebSocket route without its handshake", get("/api/v1/ws")),
    ]
}

fn bodies() -> Vec<Case> {
    let nested = |levels: usize| format!(r#"{{"agent":"echo","input":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    vec![
        body("a body of 10 MB", format!(r#"{{"agent":"echo","input":"{}"}}"#, "x".repeat(10_000_000))),
        body("JSON nested 100 levels", nested(100)),
        body("JSON nested 100,000 levels", nested(100_000)),
        body("a body that is not UTF-8", b"{\"agent\":\"\xff\xfe\"}"),
        body("a lone surrogate", r#"{"agent":"echo","input":"\ud800"}"#),
        body("a key twice", r#"{"agent":"echo","input":{"a":1,"a":2}}"#),
        body("a key twice in disguise", r#"{"agent":"echo","input":{"a":1,"\u0061":2}}"#),
        body("an unknown field", r#"{"agent":"echo","surprise":1}"#),
        body("an array instead of an object", r#"["echo"]"#),
        body("text behind the JSON", r#"{"agent":"echo"} {}"#),
        body("an integer beyond 64 bits", r#"{"agent":"echo","input":18446744073709551616}"#),
        body("a number beyond a double", r#"{"agent":"echo","input":1e999}"#),
        body("NaN", r#"{"agent":"echo","input":NaN}"#),
        body("a number where a whole one belongs", r#"{"agent":"echo","attempts_max":1.5}"#),
        body("nothing where a body belongs", ""),
    ]
}

fn media(token: &str) -> Vec<Case> {
    let post = |lines: &str| {
        let lines = format!("{lines}content-length: 16\r\n");
        authorized(token, "POST /api/v1/tasks", &lines) + r#"{"agent":"echo"}"#
    };
    vec![
        raw("a form instead of JSON", post("content-type: application/x-www-form-urlencoded\r\n")),
        raw("a body without a type", post("")),
        raw("a compressed body", post("content-type: application/json\r\ncontent-encoding: gzip\r\n")),
        raw("an idempotency key with a space", post("content-type: application/json\r\nidempotency-key: a b\r\n")),
    ]
}

fn messages() -> Vec<Case> {
    use tokio_tungstenite::tungstenite::Message;
    let text = |name, text: &str| case(name, Probe::Messages(vec![Message::text(text.to_owned())]));
    vec![
        case("a binary WebSocket message", Probe::Messages(vec![Message::binary(b"{}".to_vec())])),
        case("a WebSocket message of 10 MB", Probe::Messages(vec![Message::text("x".repeat(10_000_000))])),
        text("a WebSocket message that is no JSON", "ping"),
        text(
            "a WebSocket message nested 100 levels",
            &format!(r#"{{"id":1,"type":{}{}}}"#, "[".repeat(100), "]".repeat(100)),
        ),
        text("a WebSocket message with a key twice", r#"{"id":1,"type":"ping","type":"ping"}"#),
        text("a WebSocket message of an unknown type", r#"{"id":1,"type":"sudo"}"#),
        case("eight WebSocket messages in a row that are no messages", Probe::Messages(vec![Message::text("x"); 8])),
    ]
}

#[test]
fn answers_are_summed_up() {
    assert_eq!(summary(""), "closed");
    assert_eq!(
        summary("HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 400 Bad\r\n\r\n{\"code\":\"AOS-1717\"}"),
        "200, 400 AOS-1717"
    );
}
