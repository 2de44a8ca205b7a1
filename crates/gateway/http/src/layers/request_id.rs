//! Every request has an id: the caller's if it has our form, else a new one. It is in the response, in the problem
//! document, in the audit records that the request caused and in its log lines.

use agentos_types::RequestId;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
};

use crate::shared::Shared;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Also left in the request's extensions.
pub(super) fn assign(shared: &Shared, request: &mut Request) -> RequestId {
    let given = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()?.parse::<RequestId>().ok());
    let request_id = given.unwrap_or_else(|| shared.ambient.request_id());
    request.extensions_mut().insert(request_id.clone());
    request_id
}

pub(super) fn tell(request_id: &RequestId, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
}
