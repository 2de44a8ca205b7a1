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
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use crate::shared::Shared;

pub(crate) async fn pass(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let request_id = request_id::assign(&shared, &mut request);
    let seen = trace::Seen::begin(&shared, &mut request, &request_id);
    let timed = metrics::Timed::begin(&shared, &request);
    let mut response = scoped(seen.scope(), errors::problems(request, &request_id, next)).await;
    timed.end(&shared, response.status());
    seen.end(&shared, &mut response);
    headers::secure(response.headers_mut());
    request_id::tell(&request_id, response.headers_mut());
    response
}
