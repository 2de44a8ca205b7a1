use super::*;
use crate::sse::{Frame, Scanner};

/// From the test vectors of AWS's own implementations.
const EMPTY: &str = "000000100000000005c248eb7d98c8ff";
const BARE: &str = "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/corpus/eventstream/{name}.bin", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut scanner = Scanner::default();
    scanner.push(stream);
    std::iter::from_fn(|| scanner.next_frame().unwrap()).collect()
}

/// All events, read in pieces of this size; and why it ended, if it did.
fn read(stream: &[u8], size: usize) -> (Vec<u8>, Option<Damaged>, bool) {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for piece in stream.chunks(size) {
        match decoder.events(piece) {
            Ok(events) => out.extend_from_slice(&events),
            Err(damaged) => return (out, Some(damaged), decoder.is_torn()),
        }
    }
    let damaged = decoder.next_message().err();
    (out, damaged, decoder.is_torn())
}

fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(MESSAGE_MIN + headers.len() + payload.len()).unwrap();
    let mut out = [total.to_be_bytes(), u32::try_from(headers.len()).unwrap().to_be_bytes()].concat();
    out.extend(crc32(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend(crc32(&out).to_be_bytes());
    out
}

fn header(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(name.len()).unwrap()];
    out.extend_from_slice(name.as_bytes());
    out.push(7);
    out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    out.extend_from_slice(value.as_bytes());
    out
}

#[test]
fn the_sum_is_that_of_gzip() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
    // A message that says nothing of itself is well formed and means nothing.
    for vector in [EMPTY, BARE] {
        let mut decoder = Decoder::default();
        decoder.push(&bytes(vector));
        assert_eq!(decoder.next_message(), Err(Damaged::Form("does not say what it is")), "{vector}");
    }
    assert_eq!(message(b"", b"{'foo':'bar'}"), bytes(BARE));
}

#[test]
fn a_recorded_stream_is_the_stream_of_the_vendor_itself_however_it_is_cut() {
    for name in ["text", "tools", "thinking"] {
        let path = format!("{}/tests/corpus/messages/streams/{name}.sse", env!("CARGO_MANIFEST_DIR"));
        let wanted = frames(&std::fs::read(path).unwrap());
        let stream = file(name);
        for size in [1, 2, 7, 64, stream.len()] {
            let (events, damaged, torn) = read(&stream, size);
            assert_eq!((damaged, torn), (None, false), "{name} {size}");
            let found = frames(&events);
            assert_eq!(found.len(), wanted.len(), "{name} {size}");
            for (found, wanted) in found.iter().zip(&wanted) {
                assert_eq!((&found.event, &found.data), (&wanted.event, &wanted.data), "{name} {size}");
            }
        }
    }
}

#[test]
fn an_exception_is_an_error_of_the_stream_with_the_providers_words() {
    for (name, word, said) in [
        ("throttled", "throttlingException", "Too many tokens"),
        ("model_failed", "modelStreamErrorException", "originalStatusCode\":500"),
        ("refused_first", "validationException", "extraneous key [stream]"),
    ] {
        let (events, damaged, _) = read(&file(name), 50);
        assert_eq!(damaged, None, "{name}");
        let last = frames(&events).pop().unwrap();
        let data = String::from_utf8(last.data.to_vec()).unwrap();
        assert_eq!(last.event.as_deref(), Some(&b"error"[..]), "{name}");
        assert!(data.starts_with(&format!(r#"{{"type":"error","error":{{"type":"{word}","#)), "{data}");
        assert!(data.contains(said), "{data}");
    }
    let headers = [
        header(":message-type", "error"),
        header(":error-code", "InternalFailure"),
        header(":error-message", "it \"broke\""),
    ];
    let (events, ..) = read(&message(&headers.concat(), b""), 9);
    let expected = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"InternalFailure\",\"message\":\"it \\\"broke\\\"\"}}\n\n";
    assert_eq!(String::from_utf8(events).unwrap(), expected);
}

#[test]
fn what_is_damaged_or_torn_ends_the_stream_behind_what_was_whole() {
    let whole = file("text");
    let damaged = file("damaged");
    let at = whole.iter().zip(&damaged).position(|(one, other)| one != other).unwrap();
    for size in [1, damaged.len()] {
        let (events, reason, torn) = read(&damaged, size);
        assert_eq!((reason, torn), (Some(Damaged::Checksum), true));
        assert_eq!(frames(&events).len(), 4, "what stood before it has come");
    }
    // Every single bit is noticed: of a length by the sum of the prelude, so that nobody waits for gigabytes.
    let (first, ..) = read(&whole, whole.len());
    for byte in 0..at {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x10;
        let (events, reason, torn) = read(&flipped, flipped.len());
        assert!(reason.is_some() || torn, "byte {byte}");
        assert!(first.starts_with(&events) && events.len() < first.len(), "byte {byte}");
    }
    for cut in 1..200 {
        let (_, reason, torn) = read(&whole[..whole.len() - cut], 31);
        assert_eq!(reason, None);
        assert_eq!(torn, read_is_torn(&whole, whole.len() - cut), "{cut}");
    }
    assert!(read(&file("torn"), 10).2);
}

/// Whether this length ends inside of a message.
fn read_is_torn(stream: &[u8], length: usize) -> bool {
    let mut at = 0;
    while at < length {
        at += number(&stream[at..], 0);
    }
    at != length
}

#[test]
fn lengths_and_names_that_cannot_be_are_refused() {
    let prelude = |total: u32, headers: u32| {
        let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        out.extend(crc32(&out).to_be_bytes());
        out
    };
    for (total, headers, expected) in [
        (u32::MAX, 0, Damaged::TooLong),
        (200_000, 150_000, Damaged::TooLong),
        (15, 0, Damaged::Form("is shorter than its own head")),
        (20, 10, Damaged::Form("is shorter than its own head")),
    ] {
        assert_eq!(read(&prelude(total, headers), 12).1, Some(expected));
    }
    let event = |name: &str, payload: &[u8]| {
        message(&[header(":message-type", "event"), header(":event-type", name)].concat(), payload)
    };
    let reason = |stream: &[u8]| read(stream, stream.len()).1;
    for (stream, said) in [
        (event("chunk", b"{}"), "holds no chunk"),
        (event("chunk", br#"{"bytes":"%"}"#), "holds no base64"),
        (event("chunk", br#"{"bytes":"e30="}"#), "holds no event"),
        // {"type":"a\nevent: b"}
        (event("chunk", br#"{"bytes":"eyJ0eXBlIjoiYVxuZXZlbnQ6IGIifQ=="}"#), "has a name that is none"),
        (event("new\r\n\r\nevent", b"{}"), "has a name that is none"),
        (event("new", b"no json"), "holds no JSON"),
        (message(&header(":message-type", "sermon"), b""), "is of a kind that there is not"),
        (
            message(&[header(":message-type", "event"), header(":message-type", "event")].concat(), b""),
            "has a header twice",
        ),
        (message(&header(":message-type", "event")[..9], b""), "has torn headers"),
        (message(&[1, b'x', 12], b""), "has a header of a type that there is not"),
    ] {
        assert_eq!(reason(&stream), Some(Damaged::Form(said)));
    }
    // Headers of other types are passed over, and new kinds of events told.
    let others =
        [&[1, b'a', 0][..], &[1, b'b', 4, 0, 0, 0, 1], &[1, b'c', 6, 0, 1, 9], &[1, b'd', 8, 0, 0, 0, 0, 0, 0, 0, 0]];
    let headers = [others.concat(), header(":message-type", "event"), header(":event-type", "metadata")].concat();
    let (events, damaged, _) = read(&message(&headers, br#"{"a":1}"#), 5);
    assert_eq!(damaged, None);
    let expected =
        "event: amazon-bedrock-metadata\ndata: {\"type\":\"amazon-bedrock-metadata\",\"payload\":{\"a\":1}}\n\n";
    assert_eq!(String::from_utf8(events).unwrap(), expected);
}
