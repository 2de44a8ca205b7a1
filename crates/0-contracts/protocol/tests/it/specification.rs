//! Reads `docs/src/reference/worker-protocol.md` against the types.

use std::{collections::BTreeSet, fs, path::Path};

use agentos_protocol::{KernelFrame, PROTOCOL_VERSION, WorkerFrame, syscall::TABLE};
use agentos_types::{Code, limits, task::ErrorClass};
use serde_json::{Value, json};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/src/reference/worker-protocol.md");
    fs::read_to_string(path).unwrap()
}

/// The text between two headings.
fn section<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let start = page.find(from).unwrap_or_else(|| panic!("no heading '{from}'"));
    let end = page[start..].find(to).unwrap_or_else(|| panic!("no heading '{to}'"));
    &page[start..start + end]
}

#[test]
fn every_system_call_is_in_the_table_with_its_grant() {
    let page = page();
    let calls = section(&page, "## System calls", "## Errors");
    for entry in TABLE {
        let row = format!("| `{}` | `{}:{}` | {} |", entry.name, entry.category, entry.verb, entry.summary);
        assert!(calls.contains(&row), "the page lacks the row: {row}");
        assert!(
            calls.matches(&format!("| `{}` |", entry.name)).count() == 2,
            "{} needs arguments and result",
            entry.name
        );
    }
    let rows = calls.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, 2 * TABLE.len(), "the page has a row for a call that does not exist");
}

/// Every example of a section, decoded as `F` and encoded again without a change; returns the frame types seen.
fn check_examples<F>(section: &str) -> BTreeSet<String>
where
    F: serde::Serialize + serde::de::DeserializeOwned,
{
    let mut types = BTreeSet::new();
    for example in section.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let value: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        let frame: F = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert_eq!(serde_json::to_value(&frame).unwrap(), value, "a member is unknown or missing");
        let kind = value["type"].as_str().unwrap().to_owned();
        assert!(section.contains(&format!("### `{kind}`")), "{kind} has no heading");
        types.insert(kind);
    }
    types
}

/// The names of all variants, taken from the message that serde gives for an unknown one.
fn variants<F: serde::de::DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<F>(json!({"type": "no such frame"})) else { panic!("it is a frame") };
    let text = error.to_string();
    let (_, list) = text.split_once("expected one of ").unwrap();
    list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_frame_has_an_example_that_is_valid() {
    let page = page();
    let kernel = section(&page, "## Frames from the kernel", "## Frames from the worker");
    assert_eq!(check_examples::<KernelFrame>(kernel), variants::<KernelFrame>());
    let worker = section(&page, "## Frames from the worker", "## Heartbeat");
    assert_eq!(check_examples::<WorkerFrame>(worker), variants::<WorkerFrame>());
}

#[test]
fn numbers_classes_and_codes_are_those_of_the_code() {
    let page = page();
    assert!(page.starts_with(&format!("# Worker protocol, version {PROTOCOL_VERSION}\n")));
    assert_eq!((limits::FRAME_BYTES_MAX, limits::PAYLOAD_BYTES_MAX), (4_194_304, 1 << 20), "edit the page as well");
    assert_eq!((limits::STEPS_PER_TASK_MAX, limits::STEP_KEY_BYTES_MAX), (10_000, 200), "edit the page as well");
    assert_eq!((limits::KV_VALUE_BYTES_MAX, limits::KV_KEY_BYTES_MAX), (1 << 20, 256), "edit the page as well");
    assert_eq!(limits::JSON_DEPTH_MAX, 64, "edit the page as well");
    for class in ErrorClass::ALL {
        assert!(page.contains(&format!("| `{}` |", class.as_str())), "the page lacks class {}", class.as_str());
    }
    for word in page.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("AOS-")) {
        assert!(word.parse::<Code>().is_ok(), "{word} is not in the catalogue");
    }
}
