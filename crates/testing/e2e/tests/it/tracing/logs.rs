//! The log as machines read it: one JSON object a line, with fixed fields, and no secret.

use agentos_kit::{Collector, Mood, Package, Page};
use serde_json::{Map, Value, json};

use super::{PLANTED, exporting, http, net};

/// The order and the names of the fields; `fields` holds what a line says besides.
const FIELDS: [&str; 9] =
    ["timestamp", "level", "target", "message", "code", "request_id", "trace_id", "span_id", "fields"];

fn parsed(line: &str) -> Map<String, Value> {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    value.as_object().unwrap_or_else(|| panic!("no object: {line}")).clone()
}

/// RFC 3339 in UTC with milliseconds.
fn is_timestamp(text: &str) -> bool {
    let shape: String = text.chars().map(|letter| if letter.is_ascii_digit() { '9' } else { letter }).collect();
    shape == "9999-99-99T99:99:99.999Z"
}

fn check_line(line: &str) -> Map<String, Value> {
    let object = parsed(line);
    let unknown: Vec<&String> = object.keys().filter(|key| !FIELDS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} in {line}");
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name}: {line}"));
    assert!(is_timestamp(text("timestamp")), "{line}");
    assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level")), "{line}");
    assert!(!text("target").is_empty(), "{line}");
    text("message");
    for (id, digits) in [("trace_id", 32), ("span_id", 16)] {
        let good = |text: &str| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(object.get(id).is_none_or(|value| value.as_str().is_some_and(good)), "{id}: {line}");
    }
    object
}

#[tokio::test]
async fn every_line_of_a_busy_run_is_json_with_fixed_fields_and_no_secret() {
    let (collector, page) = (Collector::start().await, Page::serve(&format!("echo: {PLANTED}")).await);
    // A port where nobody listens any more.
    let gone = Page::serve("").await.port();
    let rest = format!(
        "[log]\nformat = \"json\"\nlevel = \"trace\"\n[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\", \"127.0.0.1:{gone}\"]\n",
        page.port()
    );
    let mut os = exporting(&collector, "", &rest).await;
    os.cli_with_input(&["secret", "set", "api-key"], &format!("{PLANTED}\n")).await;
    let secret = "[[grants]]\ncategory = \"secret\"\nactions = [\"use\"]\nresources = [\"api-key@127.0.0.1\"]\n";
    os.deploy(&Package::fetcher("caller", &format!("{}{secret}", net(&[page.port(), gone])))).await;
    let headers = json!({"authorization": "Bearer ${secret:api-key}"});
    for number in 0..5 {
        let quoted = format!("/{number}%22%7B?line=%0A");
        os.run_task("caller", json!({"url": page.url(&quoted), "headers": headers})).await;
        // Not a URL, and not granted: refusals and their detail.
        os.run_task("caller", json!({"url": "http://127.0.0.1:1/\n\"x\"", "headers": headers})).await;
    }
    let client = os.client();
    let input = json!({"agent": "caller", "attempts_max": 1, "input": {"url": format!("http://127.0.0.1:{gone}/"), "headers": headers}});
    let failed = client.submit_task(&serde_json::from_value(input).unwrap(), None).await.unwrap();
    assert_eq!(os.finished(&failed.id).await.state.as_str(), "failed");
    collector.set_mood(Mood::Status(500));
    let client = http();
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let bad = client.post(format!("{}/api/v1/tasks", os.url())).bearer_auth(os.token()).header("traceparent", header);
    for number in 0..40 {
        let path = format!("{}/no/such%0A%22{number}", os.url());
        client.get(path).bearer_auth(os.token()).send().await.unwrap();
    }
    let refused = bad.body("{\"agent\": \"x\ny\"").header("content-type", "application/json").send().await.unwrap();
    let request_id = refused.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(refused.status().is_client_error());
    os.kill().await;
    os.up().await;
    assert_eq!(os.down().await, 0);

    let log = os.log();
    assert!(log.ends_with('\n') && log.lines().count() > 50, "{} lines", log.lines().count());
    let lines: Vec<Map<String, Value>> = log.lines().map(check_line).collect();
    assert!(!log.contains(PLANTED), "a secret is in the log");
    let of_request = lines.iter().find(|line| line.get("request_id").is_some_and(|id| *id == request_id.as_str()));
    let of_request = of_request.unwrap_or_else(|| panic!("no line of the request {request_id}:\n{log}"));
    assert_eq!(of_request["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!(of_request["code"].as_str().unwrap().starts_with("AOS-"), "{of_request:?}");
    let of_task = lines.iter().find(|line| line.get("trace_id").is_some_and(|id| *id == failed.traceparent[3..35]));
    let of_task = of_task.unwrap_or_else(|| panic!("no line of the trace {}:\n{log}", failed.traceparent));
    assert_eq!(of_task["code"], "AOS-1603", "{of_task:?}");
}

#[tokio::test]
async fn text_stays_the_default_and_is_one_line_an_event() {
    let os = agentos_kit::TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let log = os.log();
    let ready = log.lines().find(|line| line.contains("ready url=")).unwrap_or_else(|| panic!("{log}"));
    assert!(ready.contains(" INFO ") && is_timestamp(&format!("{}Z", &ready[..23])), "{ready}");
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_err()), "{log}");
}
