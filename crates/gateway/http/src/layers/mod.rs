//! What every request passes, written once: [`pass`] is the list. Around what a route does, from the outside:
//!
//! 1. `request_id`: gives the request its id and every response `x-request-id`
//! 2. `headers`:    security headers on every response, errors included
//! 3. `trace`:      the request's place in a trace, its span, and what its log lines name
//! 4. `metrics`:    counts and times by route template, never by path
//! 5. `errors`:     catches panics, writes every failure as a problem document
//!
//! Then, per line of the route table, the `guard` decides: shutdown, rate limit, token, scope. A path or method that is not in
//! the table ends in `guard::unknown_route` or `guard::unknown_method`. Body limits, media type and JSON strictness belong to
//! the body extractor (`extract::json`), because only a handler knows whether it wants one.
//!
//! One layer and not five: each would be boxed and cloned for each request.

pub(crate) mod buckets;
pub(crate) mod errors;
pub(crate) mod guard;
mod headers;
pub(crate) mod lockouts;
pub(crate) mod metrics;
mod request_id;
mod trace;

use std::sync::Arc;

use agentos_base::trace::scoped;
use agentos_types::Timestamp;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};

use self::metrics::{UNMATCHED, method_label};
use crate::{routes, shared::Shared};

/// When a request came and which line of the table it is for, in words that no caller can choose.
#[derive(Clone, Copy)]
struct Arrived {
    at: Timestamp,
    route: &'static str,
    method: &'static str,
}

impl Arrived {
    fn of(shared: &Shared, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or(UNMATCHED, |path| routes::template(path.as_str()));
        Self { at: shared.ambient.now(), route, method: method_label(request.method()) }
    }
}

pub(crate) async fn pass(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let request_id = request_id::assign(&shared, &mut request);
    let arrived = Arrived::of(&shared, &request);
    let seen = trace::Seen::begin(&shared, &mut request, arrived, &request_id);
    let mut response = scoped(seen.scope(), errors::problems(request, &request_id, next)).await;
    metrics::count(&shared, arrived, response.status());
    seen.end(&shared, &mut response);
    headers::secure(response.headers_mut());
    request_id::tell(&request_id, response.headers_mut());
    response
}
