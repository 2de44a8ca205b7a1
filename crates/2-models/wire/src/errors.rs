//! Our own errors, and those of providers that we tell in another protocol, as the official SDKs of the client's protocol
//! read them. An error of a provider of the same protocol goes to the client as it came, and not through here.

use std::time::Duration;

use crate::{Class, Object, Protocol, fields::Build, messages};

/// An error for a client.
#[derive(Clone, Debug)]
pub struct WireError {
    pub status: u16,
    /// What kind of failure it is, if a provider was involved; else the status decides.
    pub kind: Option<Class>,
    /// Of our list, such as `AOS-1042`.
    pub code: String,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// What remains, what was needed, when it resets. Written under `agent_os`.
    pub facts: Object,
}

impl WireError {
    /// A provider's stream says what no answer says, and only its writer notices.
    pub(crate) fn malformed(message: &str) -> Self {
        Self {
            status: 502,
            kind: Some(Class::Malformed),
            code: Class::Malformed.as_str().to_owned(),
            message: message.to_owned(),
            retry_after: None,
            facts: Object::default(),
        }
    }
}

/// The body of an answer with this status.
pub fn write_error(protocol: Protocol, error: &WireError) -> Vec<u8> {
    match protocol {
        Protocol::Chat | Protocol::Responses => Build::new().with("error", &openai(error)).bytes(),
        Protocol::Messages => {
            messages::error_body(messages::error_kind(error.status), &error.message, Some(&notes(error))).bytes()
        }
        Protocol::Gemini => {
            let details = Build::new()
                .with("code", &error.status)
                .with("message", &error.message)
                .with("status", google(error.status))
                .with("details", &[Build::new().with("agent_os", &notes(error)).object()]);
            Build::new().with("error", &details.object()).bytes()
        }
    }
}

/// What stands under `agent_os`.
pub(crate) fn notes(error: &WireError) -> Object {
    let names: Vec<&str> = error.facts.names().collect();
    Build::new()
        .with("code", &error.code)
        .maybe("class", error.kind.map(Class::as_str))
        .maybe("retry_after_ms", error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
        .extra(&error.facts, &names)
        .object()
}

/// The `error` of Chat and Responses.
pub(crate) fn openai(error: &WireError) -> Object {
    Build::new()
        .with("message", &error.message)
        .with("type", kind(error))
        .with("param", &())
        .with("code", word(error).unwrap_or(&error.code))
        .with("agent_os", &notes(error))
        .object()
}

/// SDKs choose their exception by the status; programs look at the type.
fn kind(error: &WireError) -> &'static str {
    match (error.kind, error.status) {
        (Some(Class::QuotaExhausted), _) | (None, 402) => "insufficient_quota",
        (_, 401) => "authentication_error",
        (_, 403) => "permission_error",
        (_, 429) => "rate_limit_error",
        (_, 400..=499) => "invalid_request_error",
        _ => "server_error",
    }
}

/// The words that programs look for. Where OpenAI has none, our code stands.
pub(crate) fn word(error: &WireError) -> Option<&'static str> {
    match error.kind? {
        Class::RateLimited => Some("rate_limit_exceeded"),
        Class::QuotaExhausted => Some("insufficient_quota"),
        Class::ContextOverflow => Some("context_length_exceeded"),
        Class::ContentFilter => Some("content_filter"),
        Class::Overloaded | Class::Server | Class::Connect | Class::Malformed | Class::StreamBroken => {
            Some("server_error")
        }
        Class::Timeout | Class::Auth | Class::BadRequest | Class::NotCapable => None,
    }
}

fn google(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 | 408 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
