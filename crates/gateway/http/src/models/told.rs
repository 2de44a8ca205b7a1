//! In which protocol a request is answered, and how our own faults read there.

use agentos_types::{Fault, RequestId};
use agentos_wire::{Object, Protocol, WireError, write_error};
use axum::http::{HeaderMap, Uri};

/// Sent by every client of Anthropic's API, and by no other.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// The protocol of whatever lies below `/v1`, whether we have it or not: a client that asks for a route that does not exist
/// reads the refusal in the same way. `None` is the API of AgentOS itself.
pub(crate) fn protocol_of(uri: &Uri, headers: &HeaderMap) -> Option<Protocol> {
    let rest = uri.path().strip_prefix("/v1/")?;
    Some(match rest.split('/').next() {
        Some("messages") => Protocol::Messages,
        Some("responses") => Protocol::Responses,
        Some("models") if headers.contains_key(ANTHROPIC_VERSION) => Protocol::Messages,
        _ => Protocol::Chat,
    })
}

/// The body of a fault in the protocol. Its log detail stays behind.
pub(crate) fn body(protocol: Protocol, fault: &Fault, request_id: Option<&RequestId>) -> Vec<u8> {
    let mut facts = Object::default();
    let hint = fault.hint.as_deref().map(|hint| ("hint", hint));
    let request_id = request_id.map(|id| ("request_id", id.as_str()));
    let told = fault.facts.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in hint.into_iter().chain(request_id).chain(told) {
        // A text can always be written as JSON.
        let _ = facts.put_as(name, value);
    }
    let error = WireError {
        status: fault.code.entry().http_status,
        kind: None,
        code: fault.code.to_string(),
        message: fault.message.clone(),
        retry_after: fault.retry_after,
        facts,
    };
    write_error(protocol, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_decides_and_where_two_share_one_the_header() {
        let check = |path: &str, is_anthropic: bool, expected: Option<Protocol>| {
            let mut headers = HeaderMap::new();
            if is_anthropic {
                headers.insert(ANTHROPIC_VERSION, "2023-06-01".parse().unwrap());
            }
            assert_eq!(protocol_of(&path.parse().unwrap(), &headers), expected, "{path}");
        };
        check("/v1/chat/completions", false, Some(Protocol::Chat));
        check("/v1/responses", false, Some(Protocol::Responses));
        check("/v1/messages/count_tokens?beta=true", true, Some(Protocol::Messages));
        check("/v1/messages", false, Some(Protocol::Messages));
        check("/v1/models", false, Some(Protocol::Chat));
        check("/v1/models", true, Some(Protocol::Messages));
        check("/v1/no/such/route", false, Some(Protocol::Chat));
        check("/api/v1/tasks", true, None);
        check("/v1", false, None);
    }
}
