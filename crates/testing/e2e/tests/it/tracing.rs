//! One trace from the client over gateway, task, agent and tool, also when the server is killed in between; and a product
//! that does not care what becomes of its collector.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

mod away;
mod cardinality;
mod logs;
mod restart;

use agentos_kit::{Collector, Package, TestOs};

pub(super) const PLANTED: &str = "correct-horse-battery-staple-42";
/// Exports soon, so that tests do not wait for the delay.
const TELEMETRY: &str = "batch_delay_ms = 20\n";

/// A server that exports to the collector, with further text in the sections `[telemetry]` and after it.
pub(super) async fn exporting(collector: &Collector, telemetry: &str, rest: &str) -> TestOs {
    let endpoint = collector.endpoint();
    TestOs::start_with(&format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n{TELEMETRY}{telemetry}{rest}")).await
}

/// The echo agent with other work in it.
pub(super) fn agent(name: &str, handler: &str, rest: &str) -> Package {
    let script = include_str!("../../../../../examples/python/echo/echo_agent.py");
    let (before, after) = script.split_once("def handle(task):\n").expect("the handler of the example");
    Package::python(name, &format!("{before}{handler}\n\ndef unused(task):\n{after}"), rest)
}

pub(super) fn net(ports: &[u16]) -> String {
    let urls: Vec<String> = ports.iter().map(|port| format!("\"http://127.0.0.1:{port}/*\"")).collect();
    format!("[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [{}]\n", urls.join(", "))
}

/// A client that sends what it is told; the one of the product knows no `traceparent`.
pub(super) fn http() -> reqwest::Client {
    // Refused when another test of this process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
