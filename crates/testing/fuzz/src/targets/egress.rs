//! What programs inside sandboxes send to the egress proxy before anything is granted: names, hellos of TLS, heads of HTTP.

use agentos_egress::proxy::{
    client_hello::{self, Progress},
    dns::message::{self, Defect, Kind, Outcome},
    http::{
        chunk_size,
        head::{Field, Framing, RequestHead, ResponseHead, Scan, Version, scan},
    },
};

/// What was read of a hello does not change by what follows, and a hello that can only become whole asks for more.
pub fn client_hello(data: &[u8]) {
    let progress = client_hello::parse(data);
    if let Progress::Incomplete(needed) = progress {
        assert!(needed > data.len(), "it waits for {needed} bytes and has {}", data.len());
        return;
    }
    let mut longer = data.to_vec();
    longer.extend_from_slice(b"\x16\x03\x01\x00\x02xy");
    assert_eq!(client_hello::parse(&longer), progress, "bytes behind it changed it");
    if let Progress::Complete(hello) = progress {
        let name = hello.server_name.unwrap_or_else(|| "-".to_owned());
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        let half = data.get(..data.len() / 2).unwrap_or_default();
        assert!(
            !matches!(client_hello::parse(half), Progress::Malformed) || half.len() < 5,
            "its first half is no start"
        );
    }
}

/// A question has one name in one spelling, and no answer of ours is a question.
pub fn dns(data: &[u8]) {
    let answers = match message::parse(data) {
        Err(defect) => defect.answer().into_iter().collect(),
        Ok(question) => {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            assert!(question.name.len() <= 253 && question.name.bytes().all(known), "{:?}", question.name);
            assert!(!question.name.starts_with('.') && !question.name.ends_with('.'), "{:?}", question.name);
            let mut outcomes = vec![Outcome::NoData, Outcome::NoName, Outcome::Failed, Outcome::Refused];
            if question.kind == Kind::A {
                outcomes.push(Outcome::Address([198, 18, 0, 1].into()));
            }
            outcomes.into_iter().map(|outcome| question.answer(outcome)).collect::<Vec<_>>()
        }
    };
    for answer in answers {
        assert_eq!(answer.get(..2), data.get(..2), "the answer has the id of the question");
        assert_eq!(message::parse(&answer), Err(Defect::Silent), "an answer would be answered");
        assert!(answer.len() <= data.len() + 32, "an answer is hardly longer than its question");
    }
}

/// What was read of a head prints and reads again as the same, and holds nothing that would end a line.
pub fn http_head(data: &[u8]) {
    let whole = scan(data, 0);
    let half = scan(data.get(..data.len() / 2).unwrap_or_default(), 0);
    if half == Scan::Incomplete {
        assert_eq!(scan(data, data.len() / 2), whole, "in two pieces it is read as in one");
    } else {
        assert_eq!(half, whole, "what follows changed what was read");
    }
    if let Ok(head) = RequestHead::parse(data) {
        check_fields(&head.fields);
        let first = format!("{} {} {}", head.method, head.target, version(head.version));
        assert_eq!(RequestHead::parse(&print(&first, &head.fields)).as_ref(), Ok(&head));
        let lengths = head.fields.iter().filter(|field| field.is("content-length")).count();
        let codings = head.fields.iter().filter(|field| field.is("transfer-encoding")).count();
        let declared = match head.framing {
            Framing::None => (0, 0),
            Framing::Length(_) => (1, 0),
            Framing::Chunked => (0, 1),
            Framing::UntilClose => (9, 9),
        };
        assert_eq!((lengths, codings), declared, "one thing says where the body ends");
        assert!(head.host.is_some() || head.version == Version::Http10);
    }
    if let Ok(head) = ResponseHead::parse(data) {
        check_fields(&head.fields);
        let first = format!("{} {} {}", version(head.version), head.status, head.reason);
        assert_eq!(ResponseHead::parse(&print(&first, &head.fields)).as_ref(), Ok(&head));
    }
    if let Some(size) = chunk_size(data) {
        assert_eq!(chunk_size(format!("{size:x}\r").as_bytes()), Some(size));
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn check_fields(fields: &[Field]) {
    for field in fields {
        assert!(!field.name.is_empty() && !field.name.contains([' ', ':', '\r', '\n']), "{:?}", field.name);
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{field:?} ends a line");
    }
}

fn print(first: &str, fields: &[Field]) -> Vec<u8> {
    let mut text = format!("{first}\r\n").into_bytes();
    for field in fields {
        text.extend_from_slice(field.name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(&field.value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}
