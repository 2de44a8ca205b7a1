//! What every request passes, written once as one list; [`wrap`] is that list. Outermost first:
//!
//! 1. `request_id`: gives the request its id and every response `x-request-id`
//! 2. `headers`:    security headers on every response, errors included
//! 3. `trace`:      the request's place in a trace, its span, and what its log lines name
//! 4. `metrics`:    counts and times by route template, never by path
//! 5. `errors`:     catches panics, writes every failure as a problem document
//!
//! Then axum routes, and per line of the route table the `guard` decides: shutdown, rate limit, token, scope. A path or
//! method that is not in the table ends in `guard::unknown_route` or `guard::unknown_method`. Body limits, media type
//! and JSON strictness belong to the body extractor (`extract::json`), because only a handler knows whether it wants one.

pub(crate) mod buckets;
pub(crate) mod errors;
pub(crate) mod guard;
mod headers;
pub(crate) mod lockouts;
pub(crate) mod metrics;
mod request_id;
mod trace;

use std::sync::Arc;

use axum::{Router, middleware};

use crate::shared::Shared;

/// axum runs the layer that was added last first, so the list reads from the bottom up.
pub(crate) fn wrap(router: Router<Arc<Shared>>, shared: &Arc<Shared>) -> Router {
    let with = |shared: &Arc<Shared>| Arc::clone(shared);
    router
        .layer(middleware::from_fn(errors::problems))
        .layer(middleware::from_fn_with_state(with(shared), metrics::observe))
        .layer(middleware::from_fn_with_state(with(shared), trace::follow))
        .layer(middleware::from_fn(headers::secure))
        .layer(middleware::from_fn_with_state(with(shared), request_id::assign))
        .with_state(with(shared))
}
