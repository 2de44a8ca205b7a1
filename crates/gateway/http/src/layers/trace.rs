//! Each request is a span: child of the caller's if `traceparent` names one, else the first of a trace. The response's
//! `traceparent` names it, and so do the log lines of the request and the task that it submits.
//!
//! A caller's decision to record stands, but not that of a stranger: without a token nobody makes this server record more
//! than its own ratio, or a flood of refused requests would crowd out the spans of real ones.

use agentos_base::{
    names,
    trace::{Kind, Scope, Span, TraceContext},
};
use agentos_types::RequestId;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::Response,
};

use super::Arrived;
use crate::{
    layers::metrics::{OTHER_METHOD, UNMATCHED},
    routes::PUBLIC_ROUTES,
    shared::Shared,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Asked every few seconds by machines; a trace of it tells nothing.
const UNTRACED: [&str; 3] = ["/live", "/ready", "/metrics"];

/// The one context of the request. Two headers are none: nobody could say which counts.
fn given(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    TraceContext::parse(value.to_str().ok()?)
}

/// What the span of a request under way says.
pub(super) struct Seen {
    context: TraceContext,
    arrived: Arrived,
    parent: Option<TraceContext>,
    request_id: String,
}

impl Seen {
    /// Leaves the request's context in its extensions.
    pub fn begin(shared: &Shared, request: &mut Request, arrived: Arrived, request_id: &RequestId) -> Self {
        let parent = given(request.headers());
        let context = parent.map_or_else(|| shared.ambient.root(), |parent| parent.child(&shared.ambient));
        request.extensions_mut().insert(context);
        Self { context, arrived, parent, request_id: request_id.to_string() }
    }

    /// What the log lines of the request name.
    pub fn scope(&self) -> Scope {
        Scope { request_id: Some(self.request_id.clone()), context: Some(self.context) }
    }

    pub fn end(self, shared: &Shared, response: &mut Response) {
        let context = self.decided(shared, response.status());
        if shared.ambient.tracer().wants(&context) {
            shared.ambient.tracer().record(self.span(shared, context, response.status()));
        }
        if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
            response.headers_mut().insert(TRACEPARENT, value);
        }
    }

    fn decided(&self, shared: &Shared, status: StatusCode) -> TraceContext {
        let context = self.context;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS, StatusCode::METHOD_NOT_ALLOWED];
        let is_stranger =
            self.arrived.route == UNMATCHED || PUBLIC_ROUTES.contains(&self.arrived.route) || refused.contains(&status);
        if UNTRACED.contains(&self.arrived.route) {
            return context.with_sampled(false);
        }
        context.with_sampled(context.is_sampled() && (!is_stranger || shared.ambient.tracer().samples(&context)))
    }

    fn span(self, shared: &Shared, context: TraceContext, status: StatusCode) -> Span {
        let Arrived { at, route, method } = self.arrived;
        let word = if method == OTHER_METHOD { names::spans::HTTP } else { method };
        let name = if route == UNMATCHED { word.to_owned() } else { format!("{word} {}", route) };
        let mut span = Span::new(name, Kind::Server, context, at)
            .parent(self.parent)
            .ended(shared.ambient.now())
            .text(names::HTTP_REQUEST_METHOD, if method == OTHER_METHOD { "_OTHER" } else { method })
            .integer(names::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()))
            .failed(status.is_server_error().then(|| status.as_u16().to_string()));
        if route != UNMATCHED {
            span = span.text(names::HTTP_ROUTE, route);
        }
        span = span.text(names::REQUEST_ID, self.request_id);
        span.parent_is_remote = true;
        span
    }
}
