//! Bodies and streams that somebody has damaged: every reader answers or refuses, and none of them panics or ends cleanly
//! what is torn.

use agentos_wire::{
    Ask, Changes, Dialect, Evidence, Phase, Protocol, StreamReader, StreamWriter, Tap, classify, peek, peek_embeddings,
    read_answer, read_ask, splice, write_answer, write_ask_as,
};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::corpus::{files, frames};

const FOLDERS: &[&str] = &[
    "chat/asks",
    "chat/answers",
    "chat/streams",
    "messages/asks",
    "messages/answers",
    "messages/streams",
    "gemini/answers",
    "gemini/streams",
    "responses/asks",
];

/// A file of the corpus with some bytes changed, taken out, or put twice.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = FOLDERS.iter().flat_map(|folder| files(folder)).map(|(_, bytes)| bytes).collect();
    let change =
        (any::<prop::sample::Index>(), 0_u8..4, prop::sample::select(br#"{}[]",:0-9e\ntu"#.to_vec()), 0_usize..40);
    (prop::sample::select(all), proptest::collection::vec(change, 0..5)).prop_map(|(mut bytes, changes)| {
        for (at, how, byte, length) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn requests(protocol: Protocol, bytes: &[u8]) -> Ask {
    if let Ok(seen) = peek(protocol, bytes) {
        let changes =
            Changes { model: "other", stream_usage: true, max_output_tokens: Some(5), dialect: Dialect::Current };
        let changed = splice(bytes, &seen, &changes);
        let again = peek(protocol, &changed).unwrap();
        assert_eq!((again.max_output_tokens, again.stream), (Some(5), seen.stream));
        assert!(protocol == Protocol::Gemini || again.model == "other");
        assert!(!again.stream || again.stream_usage);
    }
    let _ = peek_embeddings(bytes);
    let ask = read_ask(protocol, bytes).unwrap_or_default();
    for to in Protocol::ALL {
        for dialect in [Dialect::Current, Dialect::Compatible] {
            let _ = write_ask_as(to, dialect, &ask, "m");
        }
    }
    ask
}

fn answers(protocol: Protocol, bytes: &[u8], ask: &Ask) {
    let _ = Tap::new(protocol).whole(bytes);
    let _ = Tap::embeddings().whole(bytes);
    let _ = classify(protocol, &Evidence::new(Phase::Answered, Some(400), bytes));
    let Ok(answer) = read_answer(protocol, bytes) else { return };
    for to in Protocol::ALL {
        let _ = write_answer(to, &answer, ask);
    }
}

/// The lines with which the protocols end a stream.
const ENDS: &[&str] =
    &["data: [DONE]", "event: message_stop", "event: response.completed", "event: response.incomplete"];

/// What a provider says at its end, by protocol.
fn end_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Chat => "[DONE]",
        Protocol::Responses => "response.completed",
        Protocol::Messages => "message_stop",
        Protocol::Gemini => "finishReason",
    }
}

fn streams(protocol: Protocol, bytes: &[u8], ask: &Ask) {
    for to in [Protocol::Chat, Protocol::Responses, Protocol::Messages] {
        let (mut tap, mut reader, mut writer) =
            (Tap::new(protocol), StreamReader::new(protocol), StreamWriter::new(to, ask));
        let mut out = Vec::new();
        let mut read = Ok(Vec::new());
        for frame in frames(bytes, 64) {
            let _ = tap.frame(&frame);
            read = read.and_then(|_: Vec<_>| reader.frame(&frame));
            let Ok(deltas) = &read else { continue };
            deltas.iter().for_each(|delta| out.extend(writer.delta(delta)));
        }
        if read.and_then(|_| reader.end()).is_err() {
            let out = String::from_utf8(out).unwrap();
            let clean = out.lines().any(|line| ENDS.contains(&line));
            // An end may have come before what is wrong; without one there is none here either.
            assert!(!clean || String::from_utf8_lossy(bytes).contains(end_of(protocol)), "{to}: {out}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]
    #[test]
    fn damage_is_refused_and_never_a_panic(bytes in damaged()) {
        for protocol in Protocol::ALL {
            let ask = requests(protocol, &bytes);
            answers(protocol, &bytes, &ask);
            streams(protocol, &bytes, &ask);
        }
    }
}
