//! Files of the corpus, and what tests ask of them.

use std::{fs, path::Path};

use agentos_wire::{
    Answer, Ask, Protocol, Refusal,
    sse::{Frame, Scanner},
};
use serde_json::{Map, Value, json};

/// All files of a folder, by name without ending.
pub fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

pub fn file(folder: &str, name: &str) -> Vec<u8> {
    files(folder).into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{folder}/{name}")).1
}

pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// Every string, number and bool with its path; of texts that a protocol may join, the pieces still stand in the whole.
pub fn leaves(value: &Value) -> Vec<(String, Value)> {
    fn walk(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| walk(item, &format!("{path}[{at}]"), found));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| walk(field, &format!("{path}.{name}"), found));
            }
            leaf => found.push((path.to_owned(), leaf.clone())),
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// The leaves of `source` that stand nowhere in `target`: neither as they are nor inside of a string.
pub fn lost(source: &Value, target: &Value) -> Vec<(String, Value)> {
    let there: Vec<Value> = leaves(target).into_iter().map(|(_, leaf)| leaf).collect();
    let found = |leaf: &Value| match leaf {
        Value::String(text) => {
            there.iter().any(|leaf| leaf.as_str().is_some_and(|there| there.contains(text.as_str())))
        }
        leaf => there.contains(leaf),
    };
    leaves(source).into_iter().filter(|(_, leaf)| !found(leaf)).collect()
}

/// Cuts a stream into pieces of `size` bytes, so that characters and line ends are torn, and into frames.
pub fn frames(stream: &[u8], size: usize) -> Vec<Frame> {
    let mut scanner = Scanner::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(size) {
        scanner.push(piece);
        while let Some(frame) = scanner.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames.extend(scanner.end().unwrap());
    frames
}

/// Puts a stream of Messages together as the official SDKs do, with their demands: one beginning, blocks one after the other.
/// An `Err` is what an SDK would raise.
pub fn assemble(stream: &[u8]) -> Result<Value, String> {
    let mut message: Option<Value> = None;
    let mut arguments = String::new();
    let mut open = None;
    let mut over = false;
    for frame in frames(stream, stream.len().max(1)) {
        let data = json(&frame.data);
        assert_eq!(frame.event.as_deref(), data["type"].as_str().map(str::as_bytes), "name and type are the same");
        assert!(!over, "nothing comes behind the end");
        let index = data["index"].as_u64();
        match data["type"].as_str().unwrap() {
            "message_start" => assert!(message.replace(data["message"].clone()).is_none(), "it begins once"),
            "content_block_start" => {
                assert_eq!(open, None, "one block at a time");
                open = index;
                let content = message.as_mut().unwrap()["content"].as_array_mut().unwrap();
                assert_eq!(index, Some(content.len() as u64));
                content.push(data["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let block = message.as_mut().unwrap()["content"].as_array_mut().unwrap().last_mut().unwrap();
                grow(block, &data["delta"], &mut arguments);
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                let block = message.as_mut().unwrap()["content"].as_array_mut().unwrap().last_mut().unwrap();
                if !arguments.is_empty() {
                    let input = serde_json::from_str(&std::mem::take(&mut arguments));
                    block["input"] = input.map_err(|error| format!("arguments: {error}"))?;
                }
            }
            "message_delta" => {
                let message = message.as_mut().unwrap();
                merge(message, &data["delta"]);
                merge(&mut message["usage"], &data["usage"]);
            }
            "message_stop" => over = true,
            "error" => return Err(data["error"].to_string()),
            "ping" | "agent_os" => {}
            other => panic!("{other}"),
        }
    }
    if over { Ok(message.unwrap()) } else { Err("cut".to_owned()) }
}

fn grow(block: &mut Value, delta: &Value, arguments: &mut String) {
    let mut add = |field: &str| {
        let text = format!("{}{}", block[field].as_str().unwrap_or_default(), delta[field].as_str().unwrap());
        block[field] = json!(text);
    };
    match delta["type"].as_str().unwrap() {
        "text_delta" => add("text"),
        "thinking_delta" => add("thinking"),
        "signature_delta" => add("signature"),
        "input_json_delta" => arguments.push_str(delta["partial_json"].as_str().unwrap()),
        "citations_delta" => {}
        other => panic!("{other}"),
    }
}

fn merge(into: &mut Value, from: &Value) {
    let empty = Map::new();
    for (name, value) in from.as_object().unwrap_or(&empty) {
        into[name] = value.clone();
    }
}

/// What is the same in other words: a string is one block, null is absence, turns of one side are one turn.
pub fn normal(mut body: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(fields) => {
                fields.retain(|_, field| !field.is_null());
                for name in ["content", "system"] {
                    if let Some(Value::String(text)) = fields.get(name) {
                        let blocks = json!([{"type": "text", "text": text}]);
                        fields.insert(name.to_owned(), blocks);
                    }
                }
                if fields.get("type") == Some(&json!("custom")) {
                    fields.remove("type");
                }
                fields.values_mut().for_each(walk);
            }
            _ => {}
        }
    }
    walk(&mut body);
    body
}

pub fn for_messages(answer: &Answer) -> Result<Vec<u8>, Refusal> {
    agentos_wire::write_answer(Protocol::Messages, answer, &Ask::default())
}
