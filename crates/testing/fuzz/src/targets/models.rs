//! Bodies and streams of models' protocols, from clients and from providers. The first byte chooses the protocol.

use agentos_wire::{
    Ask, Changes, Dialect, Evidence, Phase, Protocol, Refusal, Seen, StreamReader, StreamWriter, Tap, classify,
    emulate,
    eventstream::{Damaged, Decoder},
    input_tokens_max, peek, peek_embeddings, read_answer, read_ask, splice,
    sse::{Frame, Scanner},
    write_answer, write_ask_as,
};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Longer than any frame that the fuzzer makes of an input.
const FRAME_MAX: usize = 1 << 16;
/// Shorter than many of them.
const FRAME_MAX_SHORT: usize = 64;
const CLIENTS: [Protocol; 3] = [Protocol::Chat, Protocol::Responses, Protocol::Messages];

fn protocol(byte: u8) -> Protocol {
    match byte % 4 {
        0 => Protocol::Chat,
        1 => Protocol::Responses,
        2 => Protocol::Messages,
        _ => Protocol::Gemini,
    }
}

/// What is passed on is JSON, what is changed is what was to be changed, and what is translated reads again as the same.
pub fn model_request(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let protocol = protocol(*first);
    let _ = peek_embeddings(body);
    peeked(protocol, body);
    let Ok(ask) = read_ask(protocol, body) else { return };
    for to in Protocol::ALL {
        for dialect in [Dialect::Current, Dialect::Compatible] {
            if let Ok(written) = write_ask_as(to, dialect, &ask, "model") {
                written_ask(to, dialect, &written);
            }
        }
    }
    let _ = emulate::emulate(&ask, emulate::Lacks { tools: true, json_schema: true, json_object: true });
}

fn peeked(protocol: Protocol, body: &[u8]) {
    let Ok(seen) = peek(protocol, body) else { return };
    assert!(serde_json::from_slice::<IgnoredAny>(body).is_ok(), "what is passed on is JSON");
    assert!(input_tokens_max(&seen) >= seen.text_bytes.div_ceil(3), "the bound is one");
    let changes = Changes { model: "other", stream_usage: true, max_output_tokens: Some(5), dialect: Dialect::Current };
    let changed = splice(body, &seen, &changes);
    let Ok(again) = peek(protocol, &changed) else { panic!("what was changed is refused") };
    assert_eq!((again.max_output_tokens, again.stream, again.needs), (Some(5), seen.stream, seen.needs));
    assert!(protocol == Protocol::Gemini || again.model == "other", "the model is the chosen one");
    assert!(protocol != Protocol::Chat || !again.stream || again.stream_usage, "a stream is asked for its usage");
    assert_eq!(splice(&changed, &again, &changes), changed, "to change twice is to change once");
}

/// A provider can read it, and it means the same to us.
fn written_ask(to: Protocol, dialect: Dialect, written: &[u8]) {
    assert!(peek(to, written).is_ok(), "what is sent to a provider of {to} is refused by our own reader");
    if to == Protocol::Gemini {
        return;
    }
    let again = match read_ask(to, written) {
        Ok(again) => again,
        Err(refusal) => panic!("what was written for {to} is refused: {refusal}"),
    };
    let twice = write_ask_as(to, dialect, &again, "model").unwrap_or_default();
    let text = String::from_utf8_lossy;
    assert!(twice == written, "{to} changed on its way:\n{}\n{}", text(written), text(&twice));
}

/// Answers of providers, whole.
pub fn model_answer(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let protocol = protocol(*first);
    let _ = Tap::new(protocol).whole(body);
    let _ = Tap::embeddings().whole(body);
    for phase in [Phase::Connect, Phase::TimedOut, Phase::Cut, Phase::Answered, Phase::Streaming] {
        let evidence = Evidence::new(phase, Some(429), body);
        assert_eq!(classify(protocol, &evidence), classify(protocol, &evidence), "the same evidence, the same class");
    }
    let Ok(answer) = read_answer(protocol, body) else { return };
    for to in [Protocol::Chat, Protocol::Messages] {
        let Ok(written) = write_answer(to, &answer, &Ask::default()) else { continue };
        let twice = again(to, &written);
        assert_eq!(said(&again(to, &twice)), said(&twice), "{to} changed on its way");
    }
    let _ = write_answer(Protocol::Responses, &answer, &Ask::default());
}

fn again(to: Protocol, written: &[u8]) -> Vec<u8> {
    match read_answer(to, written).and_then(|answer| write_answer(to, &answer, &Ask::default())) {
        Ok(again) => again,
        Err(refusal) => panic!("what was written for {to} is refused: {refusal}"),
    }
}

/// Without the object of what the protocol has no place for, which each reader takes for a provider's own and keeps once more.
fn said(written: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(written).unwrap_or_default();
    value.as_object_mut().map(|object| object.remove("agent_os"));
    value
}

/// Streams of providers: the second byte tells how they are cut into reads.
pub fn model_stream(data: &[u8]) {
    let [first, second, stream @ ..] = data else { return };
    let protocol = protocol(*first);
    let whole = frames(stream, stream.len().max(1), FRAME_MAX);
    assert_eq!(frames(stream, usize::from(*second).max(1), FRAME_MAX), whole, "a cut changes no frame");
    if let Some(whole) = &whole {
        let raw: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.iter().copied()).collect();
        assert_eq!(raw, stream, "every byte is passed on");
    }
    let short = frames(stream, usize::from(*second).max(1), FRAME_MAX_SHORT).unwrap_or_default();
    assert!(short.iter().all(|frame| frame.raw.len() <= FRAME_MAX_SHORT), "the limit holds");
    let frames = whole.unwrap_or_default();
    let mut tap = Tap::new(protocol);
    for frame in &frames {
        let before = tap.delivered_bytes();
        tap.frame(frame);
        assert!(tap.delivered_bytes() >= before, "what is delivered stays delivered");
    }
    CLIENTS.into_iter().for_each(|to| translated(protocol, to, &frames, tap.is_terminal()));
}

/// A stream that its reader refuses ends cleanly for nobody.
fn translated(from: Protocol, to: Protocol, frames: &[Frame], is_terminal: bool) {
    let ask = Ask::default();
    let (mut reader, mut writer) = (StreamReader::new(from), StreamWriter::new(to, &ask));
    let mut out = Vec::new();
    let read = frames.iter().try_for_each(|frame| -> Result<(), Refusal> {
        reader.frame(frame)?.iter().for_each(|delta| out.extend(writer.delta(delta)));
        Ok(())
    });
    let ended = read.and_then(|()| reader.end()).map(|deltas| {
        deltas.iter().for_each(|delta| out.extend(writer.delta(delta)));
    });
    let mut tap = Tap::new(to);
    let mut scanner = Scanner::new(FRAME_MAX);
    scanner.push(&out);
    while let Ok(Some(frame)) = scanner.next_frame() {
        assert!(!matches!(tap.frame(&frame), Seen::Malformed), "{to}: {}", String::from_utf8_lossy(&frame.raw));
    }
    assert!(ended.is_ok() || is_terminal || !tap.is_terminal(), "{from} to {to}: a broken stream ends cleanly");
}

/// Bedrock's framing: the first byte tells how it is cut into reads.
pub fn event_stream(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let whole = decoded(stream, stream.len().max(1));
    assert_eq!(decoded(stream, usize::from(*first).max(1)), whole, "a cut changes no event and no end");
    let (events, damaged, is_torn) = whole;
    assert!(damaged.is_none() || is_torn, "what is damaged does not end well");
    let Some(frames) = frames(&events, events.len().max(1), events.len().max(1)) else {
        panic!("no events are written")
    };
    for frame in &frames {
        assert!(
            frame.event.is_some() && serde_json::from_slice::<IgnoredAny>(&frame.data).is_ok(),
            "each is named JSON"
        );
    }
    let mut tap = Tap::new(Protocol::Messages);
    frames.iter().for_each(|frame| drop(tap.frame(frame)));
}

/// What was read, why not more, and whether a connection may end there.
fn decoded(stream: &[u8], length: usize) -> (Vec<u8>, Option<Damaged>, bool) {
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    for part in stream.chunks(length) {
        match decoder.events(part) {
            Ok(read) => events.extend_from_slice(&read),
            Err(damaged) => return (events, Some(damaged), true),
        }
    }
    let damaged = decoder.next_message().err();
    (events, damaged, decoder.is_torn())
}

/// `None` if one is too long.
fn frames(stream: &[u8], length: usize, limit: usize) -> Option<Vec<Frame>> {
    let (mut scanner, mut frames) = (Scanner::new(limit), Vec::new());
    for part in stream.chunks(length) {
        scanner.push(part);
        while let Some(frame) = scanner.next_frame().ok()? {
            frames.push(frame);
        }
    }
    frames.extend(scanner.end().ok()?);
    Some(frames)
}
