//! The number of series on `/metrics` has a bound, whatever callers do, and no label says what they chose.

use std::collections::{BTreeMap, BTreeSet};

use agentos_base::names::METRICS;
use agentos_kit::{Collector, Package, TestOs};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{exporting, http};

/// Series that a server with two agents can have: routes x methods x statuses that the work below reaches, a histogram a
/// route, agents x states. Measured at 184; a label that a caller can choose would pass it within this test.
const SERIES_MAX: usize = 400;

/// Series of a page: name and labels.
fn series(page: &str) -> BTreeSet<(String, BTreeMap<String, String>)> {
    let parse = |line: &str| {
        let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let Some((name, labels)) = head.split_once('{') else { return (head.to_owned(), BTreeMap::new()) };
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let pair = |pair: &str| {
            let (label, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            (label.to_owned(), value.strip_suffix('"').unwrap_or_else(|| panic!("{line}")).to_owned())
        };
        (name.to_owned(), labels.split(',').map(pair).collect())
    };
    page.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

/// Paths, methods, headers and bodies that nobody foresaw.
async fn hostile(os: &TestOs, round: usize) {
    let client = http();
    let send = |method: Method, path: String| {
        client.request(method, format!("{}{path}", os.url())).bearer_auth(os.token()).send()
    };
    for path in [
        format!("/api/v1/tasks/task_01J9ZQ3V4W5X6Y7Z8A9B0C{round:04}"),
        format!("/api/v1/agents/agent-{round}"),
        format!("/no/such/{round}/route"),
        format!("/api/v1/tasks/%22%7D%0Aagentos_evil{{a=%22{round}"),
        format!("/api/v1/tasks?cursor=x{round}"),
        format!("/errors/AOS-{round}"),
    ] {
        for method in ["GET", "DELETE", "PATCH", "OPTIONS", &format!("ODD{round}")] {
            send(Method::from_bytes(method.as_bytes()).unwrap(), path.clone()).await.unwrap();
        }
    }
    let odd = client.get(format!("{}/api/v1/tasks", os.url())).bearer_auth(format!("aos_wrong_{round}"));
    assert_eq!(
        odd.header("x-request-id", format!("x{round}")).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn the_series_are_bounded_and_say_nothing_that_a_caller_chose() {
    let collector = Collector::start().await;
    let os = exporting(&collector, "", "[gateway]\nauth_failures_max = 100000\nrequests_per_second = 1000000\n").await;
    os.deploy(&Package::echo("echo", "")).await;
    os.deploy(&Package::rogue("rogue", "")).await;
    let mut counts = Vec::new();
    for round in 0..6 {
        for number in 0..10 {
            let body = serde_json::from_value(
                json!({"agent": "echo", "input": {"words": format!("free text {round} {number}")}}),
            );
            os.client().submit_task(&body.unwrap(), Some(&format!("key-{round}-{number}"))).await.unwrap();
            hostile(&os, round * 10 + number).await;
        }
        os.cli_ok(&["token", "create", &format!("token-name-{round}"), "--role", "viewer"]).await;
        os.run_task("echo", json!({"round": round})).await;
        counts.push(series(&os.client().metrics().await.unwrap()).len());
    }
    let page = os.client().metrics().await.unwrap();
    let all = series(&page);
    assert!(all.len() <= SERIES_MAX, "{} series", all.len());
    assert_eq!(
        counts[2..].iter().min(),
        counts[2..].iter().max(),
        "more of the same work makes no new series: {counts:?}"
    );
    for (name, labels) in &all {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let metric = METRICS.iter().find(|metric| metric.name == name || metric.name == stem);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the table of names"));
        let own = labels.keys().map(String::as_str).filter(|label| *label != "le");
        assert_eq!(own.collect::<BTreeSet<_>>(), metric.labels.iter().copied().collect(), "{name}");
        for (label, value) in labels {
            let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./{}+".contains(&byte));
            assert!(is_plain && value.len() <= 64, "{name}: {label}={value}");
        }
    }
    for chosen in ["task_", "free text", "token-name", "aos_", "http://", "evil", "ODD", "agent-1", "no/such"] {
        assert!(!all.iter().any(|(_, labels)| labels.values().any(|value| value.contains(chosen))), "{chosen}: {page}");
    }
    println!("{} series after six rounds of work", all.len());
}
