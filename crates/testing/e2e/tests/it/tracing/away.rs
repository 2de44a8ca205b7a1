//! A collector that is away, slow, broken or rude, and a product that does not mind.

use std::time::{Duration, Instant};

use agentos_kit::{Collector, Mood, Package, TestOs, until};
use serde_json::json;

use super::{exporting, http};

async fn metric(os: &TestOs, line: &str) -> u64 {
    let page = os.client().metrics().await.unwrap();
    let value =
        page.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("no {line} in {page}"));
    value.trim().parse().unwrap()
}

const DROPPED: &str = "agentos_trace_spans_total{outcome=\"dropped\"}";
const FAILED: &str = "agentos_trace_spans_total{outcome=\"failed\"}";
const EXPORTED: &str = "agentos_trace_spans_total{outcome=\"exported\"}";

#[tokio::test]
async fn no_mood_of_the_collector_reaches_the_work() {
    let collector = Collector::start().await;
    let mut os = exporting(&collector, "otlp_timeout_ms = 300\nqueue_max = 64\nbatch_max = 16\n", "").await;
    os.deploy(&Package::echo("echo", "")).await;
    let moods = [Mood::Status(500), Mood::Status(503), Mood::Status(401), Mood::Garbage, Mood::Silent, Mood::Rude];
    for mood in moods {
        collector.set_mood(mood);
        for number in 0..20 {
            let task = os.run_task("echo", json!({"action": "echo", "number": number})).await;
            assert_eq!(task.state.as_str(), "completed", "{mood:?}");
        }
        assert!(os.client().ready().await.unwrap(), "{mood:?}");
    }
    until("spans that found no room are counted", || async { metric(&os, DROPPED).await > 0 }).await;
    until("spans that were refused are counted", || async { metric(&os, FAILED).await > 0 }).await;
    let complaints = os.log().lines().filter(|line| line.contains("traces are not exported")).count();
    assert!((1..=3).contains(&complaints), "{complaints} lines for a run of less than two minutes:\n{}", os.log());
    // A collector that hangs does not hold up the end either.
    collector.set_mood(Mood::Silent);
    let began = Instant::now();
    assert_eq!(os.down().await, 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn spans_leave_again_once_the_collector_is_back_and_the_last_ones_at_the_shutdown() {
    let collector = Collector::start().await;
    let mut os = exporting(&collector, "", "").await;
    os.deploy(&Package::echo("echo", "")).await;
    collector.set_mood(Mood::Status(503));
    // Those of the start may have come before.
    let before = collector.heads().len();
    let task = os.run_task("echo", json!({"action": "echo"})).await;
    until("a refused export", || async { collector.heads().len() > before }).await;
    collector.set_mood(Mood::Well);
    let submission = task.traceparent.split('-').nth(2).unwrap().to_owned();
    collector.span("the submission", |span| span.span_id == submission).await;
    // Counted once the answer is read, which is after the collector has the span.
    until("the count of what was sent", || async { metric(&os, EXPORTED).await > 0 }).await;
    os.run_task("echo", json!({"action": "echo"})).await;
    let last = os.run_task("echo", json!({"action": "echo"})).await;
    assert_eq!(os.down().await, 0);
    let last = last.traceparent.split('-').nth(2).unwrap().to_owned();
    let attempt = collector.spans().into_iter().find(|span| span.parent == last && span.name == "invoke_agent echo");
    assert!(attempt.is_some(), "what waited at the end was sent");
}

#[tokio::test]
async fn nothing_leaves_without_an_endpoint_and_bad_settings_refuse_the_start() {
    let collector = Collector::start().await;
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    os.run_task("echo", json!(1)).await;
    assert!(!os.client().metrics().await.unwrap().contains("agentos_trace_spans"));
    assert_eq!(os.down().await, 0);
    assert!(collector.heads().is_empty());
    let endpoint = collector.endpoint();
    for (variables, named) in [
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")], "telemetry.otlp_endpoint"),
        (vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "telemetry.otlp_protocol"),
        (vec![("OTEL_TRACES_SAMPLER_ARG", "1.5")], "telemetry.sample_ratio"),
        (vec![("OTEL_TRACES_SAMPLER_ARG", "NaN")], "telemetry.sample_ratio"),
        (vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "1")], "telemetry.otlp_timeout_ms"),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense")],
            "telemetry.otlp_headers",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://far.example"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b")],
            "unencrypted",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem")],
            "not usable",
        ),
    ] {
        for (name, value) in &variables {
            os.set_env(name, value);
        }
        let refused = os.cli(&["up", "--port", "0"]).await;
        assert!(refused.code != 0 && refused.stderr.contains("AOS-1002"), "{variables:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(named), "{variables:?}: {}", refused.stderr);
        for (name, _) in &variables {
            os.unset_env(name);
        }
    }
}

#[tokio::test]
async fn a_caller_decides_about_its_trace_and_a_stranger_about_none() {
    let collector = Collector::start().await;
    let os = exporting(&collector, "sample_ratio = 0.0\n", "").await;
    let client = http();
    let ask = |trace: char, flag: &str, token: Option<String>| {
        let header = format!("00-{}-b7ad6b7169203331-{flag}", trace.to_string().repeat(32));
        let request = client.get(format!("{}/api/v1/tasks", os.url())).header("traceparent", header);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    };
    for (trace, flag, token, status) in
        [('1', "01", None, 401), ('2', "00", Some(os.token()), 200), ('3', "01", Some("aos_wrong".to_owned()), 401)]
    {
        let response = ask(trace, flag, token).send().await.unwrap();
        assert_eq!(response.status(), status);
        let answered = response.headers()["traceparent"].to_str().unwrap();
        assert!(answered.contains(&trace.to_string().repeat(32)) && answered.ends_with("-00"), "{answered}");
    }
    let response = ask('4', "01", Some(os.token())).send().await.unwrap();
    assert!(response.headers()["traceparent"].to_str().unwrap().ends_with("-01"));
    collector.span("the caller's request", |span| span.trace_id == "4".repeat(32)).await;
    let traces: Vec<String> = collector.spans().into_iter().map(|span| span.trace_id).collect();
    assert!(traces.iter().all(|trace| *trace == "4".repeat(32)), "{traces:?}");
}
