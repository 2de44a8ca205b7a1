//! Requests of tools to the outside, and what a trace says of them.
//!
//! A target learns the id of a trace only if the operator lists it in `telemetry.propagate_to`: the ids tell a stranger
//! which of his requests belong together, and let him write into our traces if he has a collector in common with us.

use agentos_base::{
    Ambient, names,
    trace::{Kind, Span, TraceContext},
};
use agentos_dialer::{CheckedUrl, Dialer, Header, HostPort, Request, Response};
use agentos_types::Result;

const TRACEPARENT: &str = "traceparent";

/// The dialer with the span of each request. Redirects are part of the request that led to them.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub dialer: Dialer,
    pub ambient: Ambient,
    /// Targets whose requests carry `traceparent`.
    pub propagate_to: Vec<HostPort>,
}

impl Outgoing {
    /// `step` is the traceparent of the system call.
    pub(crate) async fn send(
        &self,
        step: &str,
        mut request: Request,
        may_follow: &(dyn Fn(&CheckedUrl) -> bool + Send + Sync),
    ) -> Result<Response> {
        let tracer = self.ambient.tracer();
        let parent = tracer.wanted(step);
        let context = parent.map(|parent| parent.child(&self.ambient));
        self.propagate(context, step, &mut request);
        let (Some(context), Some(parent)) = (context, parent) else {
            return self.dialer.send(request, may_follow).await;
        };
        let (method, target, started_at) = (request.method.as_str(), request.url.host_port(), self.ambient.now());
        let scheme = if request.url.is_https() { "https" } else { "http" };
        let outcome = self.dialer.send(request, may_follow).await;
        let host =
            target.name().map_or_else(|| target.address().map(|at| at.to_string()).unwrap_or_default(), str::to_owned);
        let mut span = Span::new(method, Kind::Client, context, started_at)
            .parent(Some(parent))
            .ended(self.ambient.now())
            .text(names::HTTP_REQUEST_METHOD, method)
            .text(names::URL_SCHEME, scheme)
            .text(names::SERVER_ADDRESS, host)
            .integer(names::SERVER_PORT, i64::from(target.port()));
        span = match &outcome {
            Ok(response) => {
                let failed = (response.status >= 400).then(|| response.status.to_string());
                span.integer(names::HTTP_RESPONSE_STATUS_CODE, i64::from(response.status)).failed(failed)
            }
            Err(fault) => span.failed(Some(fault.code.to_string())),
        };
        tracer.record(span);
        outcome
    }

    /// A header that the agent set itself stands. Marked sensitive, so that it stays behind at a redirect to elsewhere.
    fn propagate(&self, context: Option<TraceContext>, step: &str, request: &mut Request) {
        let is_set = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case(TRACEPARENT));
        if !is_set && self.propagate_to.contains(&request.url.host_port()) {
            let value = context.map_or_else(|| step.to_owned(), |context| context.to_string());
            request.headers.push(Header::sensitive(TRACEPARENT, value));
        }
    }
}
