//! Which header fields go on to the other side, and which belong to one connection alone.

use agentos_protocol::egress::Refusal;

use super::{
    super::stop::Stop,
    head::{Field, RequestHead, ResponseHead, has_token, is_token, is_value, tokens},
};

/// About one connection, not about the message (RFC 9110, section 7.6.1), or written anew by us.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Names that a program must not have removed by calling them hop-by-hop: the other side would read another message.
const NEVER_NAMED: &[&str] =
    &["authorization", "content-length", "content-type", "cookie", "expect", "host", "transfer-encoding"];
/// Offers of other ways to the same host (RFC 7838); there is only this one.
const ALTERNATIVES: &str = "alt-svc";

/// What no request may hold, whatever the server would say.
pub(super) fn check(head: &RequestHead) -> Result<(), Stop> {
    // TRACE gives back what it was sent, credentials that the program does not know among it.
    if head.method == "TRACE" || head.method == "TRACK" {
        return Err(Refusal::NotUnderstood.into());
    }
    let hides =
        tokens(&head.fields, "connection").any(|token| NEVER_NAMED.iter().any(|name| name.eq_ignore_ascii_case(token)));
    let expects = head.fields.iter().filter(|field| field.is("expect")).count();
    let is_odd = expects > 1 || (expects == 1 && !has_token(&head.fields, "expect", "100-continue"));
    if hides || is_odd { Err(Refusal::Smuggling.into()) } else { Ok(()) }
}

fn goes_on(field: &Field, fields: &[Field]) -> bool {
    let is_hop = HOP_BY_HOP.iter().any(|name| field.is(name));
    !is_hop && !has_token(fields, "connection", &field.name)
}

/// Fields of a request for the target. What the server gave replaces what the program wrote.
pub(super) fn of_request(head: &RequestHead, given: &[(String, String)], into: &mut Vec<u8>) {
    for field in &head.fields {
        let is_replaced = given.iter().any(|(name, _)| field.is(name));
        if goes_on(field, &head.fields) && !is_replaced {
            write(&field.name, &field.value, into);
        }
    }
    for (name, value) in given {
        write(name, value.as_bytes(), into);
    }
}

pub(super) fn of_response(head: &ResponseHead, into: &mut Vec<u8>) {
    for field in &head.fields {
        if goes_on(field, &head.fields) && !field.is(ALTERNATIVES) {
            write(&field.name, &field.value, into);
        }
    }
}

/// Whether what the server gave can stand in a head without becoming something else.
pub(super) fn are_headers(given: &[(String, String)]) -> bool {
    given.iter().all(|(name, value)| {
        !name.is_empty()
            && name.bytes().all(is_token)
            && value.bytes().all(is_value)
            && !HOP_BY_HOP.iter().any(|hop| hop.eq_ignore_ascii_case(name))
    })
}

pub(super) fn write(name: &str, value: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}
