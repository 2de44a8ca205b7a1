//! Errors as Anthropic's SDKs read them.

use crate::{Object, fields::Build};

/// The type that the status means. SDKs choose their exception by the status and show the type.
pub fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 | 408 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The same in a body and in an `error` event. What SDKs do not know stands under `agent_os`.
pub fn body(kind: &str, message: &str, notes: Option<&Object>) -> Build {
    let error = Build::kind(kind).with("message", message).object();
    Build::kind("error").with("error", &error).maybe("agent_os", notes)
}
