//! Limits on what comes from outside, checked before anything is stored.

use agentos_types::{
    Code, Envelope, Fault, Result, json,
    limits::{JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX},
    task::Failure,
};
use serde_json::Value;

/// Bytes of a failure's text; more is noise in every listing.
const FAILURE_BYTES_MAX: usize = 4 * 1024;

/// Seals a payload that fits. `what` names it in the message: input, output, data.
pub(crate) fn seal(what: &'static str, value: &Value) -> Result<Envelope> {
    // Depth first: it bounds the recursion of the serialiser.
    let depth = json::depth(value);
    if depth > JSON_DEPTH_MAX {
        return Err(Fault::new(
            Code::BODY_INVALID,
            format!("the {what} is nested {depth} deep, the limit is {JSON_DEPTH_MAX}"),
        ));
    }
    let sealed = Envelope::seal(value)?;
    if sealed.bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Fault::new(
            Code::PAYLOAD_TOO_LARGE,
            format!("the {what} has {} bytes, the limit is {PAYLOAD_BYTES_MAX}", sealed.bytes.len()),
        )
        .hint("send a reference instead of the content"));
    }
    Ok(sealed)
}

/// Cuts the text of a failure at the limit, at a character's border.
pub(crate) fn clip(mut failure: Failure) -> Failure {
    if failure.message.len() > FAILURE_BYTES_MAX {
        let mut end = FAILURE_BYTES_MAX;
        while !failure.message.is_char_boundary(end) {
            end -= 1;
        }
        failure.message.truncate(end);
        failure.message.push('…');
    }
    failure
}

/// Stored text or bytes that do not parse are damage, not a caller's mistake.
pub(crate) fn corrupt(what: &str, found: &str) -> Fault {
    Fault::new(Code::STORE_CORRUPT, "a stored value cannot be read").detail(format!("{what} '{found}'"))
}
