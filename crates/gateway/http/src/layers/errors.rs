//! The one place where a failure becomes a response: faults, panics and whatever a library refused by itself all leave
//! as problem documents, or below `/v1` in the protocol of the client. The fault's detail goes to the log under the request id and never to the caller.

use std::{panic::AssertUnwindSafe, sync::Arc};

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_types::{Code, Fault, RequestId};
use agentos_wire::Protocol;
use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;

use crate::models::{answer::Told, told};

/// What handlers answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// A fault on its way out. It travels in the response's extensions until [`problems`] writes the document.
#[derive(Debug)]
pub(crate) struct Refusal(pub Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status_of(self.0.code).into_response();
        response.extensions_mut().insert(Arc::new(self.0));
        response
    }
}

/// Catches panics, so that the connection survives them, and turns every failure into its document.
pub(super) async fn problems(request: Request, request_id: &RequestId, next: Next) -> Response {
    let protocol = told::protocol_of(request.uri(), request.headers());
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => Refusal(Fault::internal(panic_text(panic.as_ref()))).into_response(),
    };
    let fault = response.extensions_mut().remove::<Arc<Fault>>();
    match fault.or_else(|| foreign_refusal(&response)) {
        Some(fault) => document(&fault, Some(request_id.clone()), protocol),
        None => response,
    }
}

/// The problem document of a fault, or what the client's protocol has for one, with the headers that belong to its code.
pub(crate) fn document(fault: &Fault, request_id: Option<RequestId>, protocol: Option<Protocol>) -> Response {
    log(fault, request_id.as_ref());
    let (kind, body) = match protocol {
        Some(protocol) => ("application/json", told::body(protocol, fault, request_id.as_ref())),
        None => (PROBLEM_JSON, serde_json::to_vec(&Problem::new(fault, request_id)).unwrap_or_default()),
    };
    let mut response = (status_of(fault.code), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(wait) = fault.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000).max(1) as u64));
    }
    if fault.code == Code::UNAUTHENTICATED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"agent-os\""));
    }
    response
}

fn log(fault: &Fault, request_id: Option<&RequestId>) {
    let request_id = request_id.map_or("-", RequestId::as_str);
    let detail = fault.detail.as_deref().unwrap_or("-");
    if fault.code.entry().http_status >= 500 {
        tracing::error!(request_id, code = %fault.code, detail, "request failed");
    } else {
        tracing::debug!(request_id, code = %fault.code, detail, "request refused");
    }
}

pub(crate) fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.entry().http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error response that a library made without a fault, such as a failed WebSocket handshake. JSON is left alone:
/// that is the status body of `/ready`.
fn foreign_refusal(response: &Response) -> Option<Arc<Fault>> {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let is_told = response.extensions().get::<Told>().is_some();
    if is_json || is_told || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let fault = match status {
        StatusCode::NOT_FOUND => Fault::new(Code::ROUTE_NOT_FOUND, "no such route"),
        StatusCode::METHOD_NOT_ALLOWED => Fault::new(Code::METHOD_NOT_ALLOWED, "method not allowed"),
        status if status.is_client_error() => Fault::new(Code::BODY_INVALID, "the request is malformed"),
        _ => Fault::internal(format!("a library answered {status}")),
    };
    Some(Arc::new(fault))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("no message"))
}
