//! From the head and the body of a request to what the kernel is asked. Nothing of the body is read here.

use agentos_api::models::{ModelOperation, ModelRequest};
use agentos_types::{Code, Fault, RequestId, Result};
use axum::http::HeaderMap;
use bytes::Bytes;

/// Headers that change what a provider does. All others are ours, or the client's credential.
const FORWARDED: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// As for tasks.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

pub(crate) fn request(
    operation: ModelOperation,
    headers: &HeaderMap,
    body: Bytes,
    request_id: RequestId,
    traceparent: Option<String>,
) -> Result<ModelRequest> {
    let idempotency_key = idempotency_key(headers)?;
    Ok(ModelRequest { operation, body, headers: forwarded(headers)?, request_id, idempotency_key, traceparent })
}

/// A header that comes more than once is one list, as HTTP has it.
fn forwarded(headers: &HeaderMap) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in FORWARDED {
        let mut texts = Vec::new();
        for value in headers.get_all(name) {
            texts.push(value.to_str().map_err(|_| invalid(format!("the header {name} is not plain text")))?);
        }
        if !texts.is_empty() {
            found.push((name.to_owned(), texts.join(",")));
        }
    }
    Ok(found)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    match given.next() {
        None => checked_key(value.to_str().unwrap_or_default()).map(Some),
        Some(_) => checked_key("").map(Some),
    }
}

pub(crate) fn checked_key(key: &str) -> Result<String> {
    let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match fits {
        true => Ok(key.to_owned()),
        false => Err(invalid(format!(
            "the idempotency key must be one of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
        ))),
    }
}
fn invalid(message: String) -> Fault {
    Fault::new(Code::BODY_INVALID, message)
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;

    fn asked(headers: &[(&'static str, &str)]) -> Result<ModelRequest> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        request(ModelOperation::Chat, &map, Bytes::new(), RequestId::generate(Timestamp(1), 1), None)
    }

    #[test]
    fn no_credential_and_no_header_of_ours_reaches_the_kernel() {
        let request = asked(&[
            ("authorization", "Bearer a"),
            ("x-api-key", "a"),
            ("cookie", "a"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "one"),
            ("anthropic-beta", "two"),
            ("openai-organization", "org"),
        ]);
        let expected = [("anthropic-beta", "one,two"), ("anthropic-version", "2023-06-01")];
        assert_eq!(request.unwrap().headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_idempotency_key_is_one_plain_word() {
        let check = |values: &[&str], expected: Option<Option<&str>>| {
            let headers: Vec<_> = values.iter().map(|value| (IDEMPOTENCY_KEY, *value)).collect();
            let found = asked(&headers).map(|request| request.idempotency_key);
            assert_eq!(found.ok(), expected.map(|key| key.map(str::to_owned)), "{values:?}");
        };
        check(&[], Some(None));
        check(&["a-1"], Some(Some("a-1")));
        check(&[""], None);
        check(&["a b"], None);
        check(&["a", "a"], None);
        check(&[&"k".repeat(201)], None);
    }
}
