//! Every request has an id: the caller's if it has our form, else a new one. It is in the response, in the problem
//! document, in the audit records that the request caused and in its log lines.

use std::sync::Arc;

use agentos_types::RequestId;
use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::shared::Shared;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn assign(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()?.parse::<RequestId>().ok());
    let request_id = given.unwrap_or_else(|| shared.ambient.request_id());
    request.extensions_mut().insert(request_id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}
