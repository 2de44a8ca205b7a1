//! Files of the corpus with something broken in them. Whatever it is: nothing panics, a stream that ends well was whole, and
//! one that was not does not end.

use agentos_wire::{
    Ask, Class, Delta, Evidence, Object, Phase, Protocol, StreamReader, StreamWriter, Tap, WireError, classify,
    emulate, read_answer, read_ask, write_ask,
};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};

use crate::corpus::{self, assemble, files, frames};

/// What is put in the place of a node.
fn splinters() -> impl Strategy<Value = Option<Value>> {
    let values = [
        json!(null),
        json!(""),
        json!("text"),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(true),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!({"type": "text"}),
        json!({"type": "tool_use", "id": "a", "name": "b", "input": {}}),
        json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "nobody"}]}]),
    ];
    prop_oneof![1 => Just(None), 4 => prop::sample::select(values.to_vec()).prop_map(Some)]
}

/// Replaces the node with this number, counted from the front, or takes it out.
fn break_node(value: &mut Value, left: &mut usize, splinter: &Option<Value>) {
    match value {
        Value::Array(items) => {
            for at in 0..items.len() {
                if *left == 0 {
                    match splinter {
                        Some(splinter) => items[at] = splinter.clone(),
                        None => drop(items.remove(at)),
                    }
                    *left = usize::MAX;
                    return;
                }
                *left = left.saturating_sub(usize::from(*left != usize::MAX));
                break_node(&mut items[at], left, splinter);
                if *left == usize::MAX {
                    return;
                }
            }
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if *left == 0 {
                    match splinter {
                        Some(splinter) => drop(fields.insert(name, splinter.clone())),
                        None => drop(fields.remove(&name)),
                    }
                    *left = usize::MAX;
                    return;
                }
                *left = left.saturating_sub(usize::from(*left != usize::MAX));
                break_node(&mut fields[&name], left, splinter);
                if *left == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

fn broken(bytes: &[u8], node: usize, splinter: &Option<Value>) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    break_node(&mut value, &mut node.clone(), splinter);
    Some(value.to_string().into_bytes())
}

fn pick(folder: &str, at: prop::sample::Index) -> Vec<u8> {
    let files = files(folder);
    at.get(&files).1.clone()
}

proptest! {
    // The same cases each time: a failure is repeated by running it again.
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn requests(at: prop::sample::Index, node in 0usize..60, splinter in splinters()) {
        let body = broken(&pick("messages/asks", at), node, &splinter).unwrap();
        let Ok(ask) = read_ask(Protocol::Messages, &body) else { return Ok(()) };
        for protocol in [Protocol::Chat, Protocol::Messages, Protocol::Gemini] {
            if let Ok(written) = write_ask(protocol, &ask, "model") {
                corpus::json(&written);
            }
        }
        let all = emulate::Lacks { tools: true, json_schema: true, json_object: true };
        if let Ok(Some((words, _))) = emulate::emulate(&ask, all) {
            prop_assert!(words.tools.is_empty());
        }
    }

    #[test]
    fn answers(at: prop::sample::Index, node in 0usize..40, splinter in splinters(), gemini: bool) {
        let (folder, protocol) = if gemini { ("gemini/answers", Protocol::Gemini) } else { ("messages/answers", Protocol::Messages) };
        let body = broken(&pick(folder, at), node, &splinter).unwrap();
        Tap::new(protocol).whole(&body);
        if let Ok(answer) = read_answer(protocol, &body)
            && let Ok(written) = corpus::for_messages(&answer)
        {
            prop_assert!(corpus::json(&written)["stop_reason"].is_string());
        }
    }

    #[test]
    fn streams(at: prop::sample::Index, frame: prop::sample::Index, node in 0usize..12, splinter in splinters(), gemini: bool, twice: bool) {
        let (folder, protocol) = if gemini { ("gemini/streams", Protocol::Gemini) } else { ("messages/streams", Protocol::Messages) };
        let stream = pick(folder, at);
        let mut frames = frames(&stream, 64);
        let at = frame.index(frames.len());
        if let Some(data) = broken(&frames[at].data, node, &splinter) {
            frames[at].data = data.into();
        }
        if twice {
            let again = frames[at].clone();
            frames.insert(at, again);
        }
        let (mut reader, mut writer) = (StreamReader::new(protocol), StreamWriter::new(Protocol::Messages, &Ask::default()));
        let mut tap = Tap::new(protocol);
        let mut out = Vec::new();
        let mut ended = false;
        let mut take = |deltas: Vec<Delta>, ended: &mut bool| {
            for delta in deltas {
                *ended |= matches!(delta, Delta::End);
                out.extend(writer.delta(&delta));
            }
        };
        let mut fine = true;
        for frame in &frames {
            tap.frame(frame);
            match reader.frame(frame) {
                Ok(deltas) => take(deltas, &mut ended),
                Err(_) => { fine = false; break }
            }
        }
        if fine {
            match reader.end() {
                Ok(deltas) => take(deltas, &mut ended),
                Err(_) => fine = false,
            }
        }
        if !fine {
            let error = WireError { status: 502, kind: Some(Class::StreamBroken), code: "x".into(), message: "broken".into(), retry_after: None, facts: Object::default() };
            out.extend(writer.error(&error));
        }
        match assemble(&out) {
            Ok(_) => prop_assert!(ended, "an end that nobody told"),
            // What a model wrote as arguments is not checked on its way: its client finds that out.
            Err(error) if error.starts_with("arguments") => {}
            Err(error) => prop_assert!(!ended || error.contains("message"), "neither an end nor an error"),
        }
    }

    #[test]
    fn errors(body in prop::collection::vec(any::<u8>(), 0..200), status: u16, retry in ".{0,40}") {
        let evidence = Evidence { retry_after: Some(&retry), date: Some(&retry), ..Evidence::new(Phase::Answered, Some(status), &body) };
        for protocol in Protocol::ALL {
            prop_assert_eq!(classify(protocol, &evidence), classify(protocol, &evidence));
        }
    }
}
