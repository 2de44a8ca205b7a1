//! The gateway's own series. Labels come from the route table and fixed words alone, so a caller cannot grow them.

use std::sync::atomic::AtomicU64;

use agentos_base::names::{self, Metric};
use agentos_types::Fault;
use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::Arrived;
use crate::shared::Shared;

/// 0.5 ms to about 8 s in doubling steps: from a cached read to a request that ran into its time limit.
const BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub connections: Gauge,
    pub connections_refused: Counter,
    /// Connections without a valid token that made room for a newcomer.
    pub connections_displaced: Counter,
    /// Heads of requests that were malformed, too large or too slow.
    pub heads_refused: Counter,
    pub websockets: Gauge,
    /// Addresses that were locked out after wrong tokens.
    pub lockouts: Counter,
    /// Refusals that were not written to the audit log because of the bound on them.
    pub refusals_unrecorded: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            connections_displaced: Counter::default(),
            heads_refused: Counter::default(),
            websockets: Gauge::default(),
            lockouts: Counter::default(),
            refusals_unrecorded: Counter::default(),
        };
        let registry = &mut metrics.registry;
        register(registry, &names::GATEWAY_REQUESTS, metrics.requests.clone());
        register(registry, &names::GATEWAY_DURATION, metrics.durations.clone());
        register(registry, &names::GATEWAY_CONNECTIONS, metrics.connections.clone());
        register(registry, &names::GATEWAY_CONNECTIONS_REFUSED, metrics.connections_refused.clone());
        register(registry, &names::GATEWAY_CONNECTIONS_DISPLACED, metrics.connections_displaced.clone());
        register(registry, &names::GATEWAY_HEADS_REFUSED, metrics.heads_refused.clone());
        register(registry, &names::GATEWAY_WEBSOCKETS, metrics.websockets.clone());
        register(registry, &names::GATEWAY_LOCKOUTS, metrics.lockouts.clone());
        register(registry, &names::GATEWAY_REFUSALS_UNRECORDED, metrics.refusals_unrecorded.clone());
        metrics
    }

    /// The kernel's text and our own as one Prometheus text.
    pub fn page(&self, kernel: &str) -> Result<String, Fault> {
        let mut own = String::new();
        text::encode(&mut own, &self.registry).map_err(Fault::internal)?;
        Ok(prometheus_text(kernel) + &prometheus_text(&own))
    }
}

/// The encoder adds the full stop of the help and the ending of a counter's name by itself.
fn register(registry: &mut Registry, metric: &Metric, of: impl prometheus_client::registry::Metric) {
    registry.register(metric.stem(), metric.help.trim_end_matches('.'), of);
}

/// OpenMetrics into the Prometheus text format 0.0.4: no end mark, and a counter's family has the name of its sample.
fn prometheus_text(open_metrics: &str) -> String {
    let families = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let counters: Vec<&str> = families.filter(|name| !name.ends_with("_total")).collect();
    let mut page = String::with_capacity(open_metrics.len() + 64);
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(&name) => {
                page.push_str(&format!("# {keyword} {name}_total {rest}"));
            }
            _ => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

pub(super) fn count(shared: &Shared, arrived: Arrived, status: StatusCode) {
    let Arrived { at, route, method } = arrived;
    let elapsed = shared.ambient.now().since(at);
    shared.metrics.requests.get_or_create(&RequestLabels { route, method, status: status_class(status) }).inc();
    shared.metrics.durations.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
}

/// What stands for a path and a method that are not in the table.
pub(crate) const UNMATCHED: &str = "unmatched";
pub(crate) const OTHER_METHOD: &str = "other";

pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => OTHER_METHOD,
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_joined_as_prometheus_text() {
        let metrics = Metrics::new();
        metrics.connections_refused.inc();
        let page = metrics.page("# HELP a b\n# TYPE a counter\na_total 1\n# EOF\n").unwrap();
        assert!(page.contains("# TYPE a_total counter\na_total 1\n"), "{page}");
        assert!(page.contains("# TYPE agentos_gateway_connections_refused_total counter\n"), "{page}");
        assert!(page.contains("agentos_gateway_connections_refused_total 1\n"), "{page}");
        assert!(page.contains("# TYPE agentos_gateway_connections gauge\n"), "{page}");
        assert!(!page.contains("EOF"), "{page}");
    }
}
