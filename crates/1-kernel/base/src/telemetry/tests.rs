//! The log of a process of its own: the subscriber and the hook belong to the whole process, so each test runs this very
//! program again with one ignored test that writes.

use std::process::Command;

use agentos_types::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::trace::{Scope, TraceContext, scoped};

const PLANTED: &str = "correct-horse\n\"battery-staple\" 42";
const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Everything that a line can hold, and panics of several lines with a secret in them.
fn write_all(format: LogFormat) {
    let redactor = Redactor::default();
    redactor.keep([PLANTED.to_owned()]);
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1_795_392_000_123));
    install(LevelFilter::TRACE, format, redactor, ambient, None);
    tracing::info!(count = 3, ratio = 0.5, on = true, text = "line\nbreak \"quoted\"", detail = ?Some(1), "plain");
    tracing::warn!(message_of = PLANTED, level = "fake", timestamp = "never", "fields that claim to be fixed ones");
    let scope = Scope { request_id: Some("req_1".into()), context: TraceContext::parse(CONTEXT) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(scoped(scope, async { tracing::debug!(code = "AOS-1000", "within a request") }));
    let thread = std::thread::Builder::new().name("worker \"1\"".into());
    let panicking = thread.spawn(|| panic!("first line\nsecond line {PLANTED}\n\tthird"));
    assert!(panicking.unwrap().join().is_err());
    assert!(std::panic::catch_unwind(|| std::panic::panic_any(7)).is_err());
}

#[test]
#[ignore = "writes to the standard error of the process that the tests below start"]
fn writes_json() {
    write_all(LogFormat::Json);
}

#[test]
#[ignore = "writes to the standard error of the process that the tests below start"]
fn writes_text() {
    write_all(LogFormat::Text);
}

fn stderr_of(test: &str) -> String {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own)
        .args(["--exact", &format!("telemetry::tests::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn every_line_is_json_panics_of_several_lines_included() {
    let text = stderr_of("writes_json");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(!text.contains("battery-staple"), "{text}");
    let target = "agentos_base::telemetry::tests";
    assert_eq!(
        lines[0],
        json!({"timestamp": "2026-11-23T00:00:00.123Z", "level": "INFO", "target": target,
        "message": "plain",
        "fields": {"count": 3, "ratio": 0.5, "on": true, "text": "line\nbreak \"quoted\"", "detail": "Some(1)"}})
    );
    assert!(text.starts_with("{\"timestamp\":\"2026-11-23T00:00:00.123Z\",\"level\":\"INFO\",\"target\":"), "{text}");
    assert_eq!(lines[1]["level"], "WARN");
    assert_eq!(lines[1]["fields"]["level"], "fake");
    assert_eq!((&lines[2]["request_id"], &lines[2]["code"]), (&json!("req_1"), &json!("AOS-1000")));
    assert_eq!(lines[2]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(lines[2]["span_id"], "b7ad6b7169203331");
    assert_eq!((&lines[3]["level"], &lines[3]["message"]), (&json!("ERROR"), &json!("panicked")));
    let reason = lines[3]["fields"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("first line\nsecond line [redacted]"), "{reason}");
    assert_eq!(lines[3]["fields"]["thread"], "worker \"1\"");
    assert!(lines[3]["fields"]["place"].as_str().unwrap().contains("tests.rs:"), "{}", lines[3]);
    assert_eq!(lines[4]["fields"]["reason"], "no message");
}

#[test]
fn text_is_for_people_and_holds_no_secret_either() {
    let text = stderr_of("writes_text");
    assert!(text.contains(" INFO agentos_base::telemetry::tests: plain count=3"), "{text}");
    assert!(text.contains("ERROR agentos_base::telemetry: panicked"), "{text}");
    assert!(!text.contains("battery-staple"), "{text}");
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_err()), "{text}");
}
