//! A request of Messages as Bedrock's InvokeModel takes it: the model and the wish for a stream are in the path, the version of
//! the protocol and the names of its betas in the body. Everything else stays as it was written.

use agentos_wire::{Object, Refusal};
use bytes::Bytes;
use serde_json::Value;

const VERSION: &str = "bedrock-2023-05-31";
/// Betas of one request. Anthropic has had some thirty in all.
const BETAS_MAX: usize = 64;

/// `betas`: the client's header `anthropic-beta`, which AWS does not read.
pub(crate) fn invocation(body: &[u8], betas: Option<&str>) -> Result<Bytes, Refusal> {
    let mut object = Object::parse(body).map_err(|error| Refusal::malformed("body", error))?;
    object.take("model");
    object.take("stream");
    let unwritable = |error: serde_json::Error| Refusal::malformed("body", error);
    if object.get("anthropic_version").is_none() {
        object.put_as("anthropic_version", VERSION).map_err(unwritable)?;
    }
    let asked = betas.unwrap_or_default().split(',').map(str::trim).filter(|beta| !beta.is_empty());
    let mut all: Vec<Value> = object
        .take_as("anthropic_beta")
        .map_err(|error| Refusal::malformed("anthropic_beta", error))?
        .unwrap_or_default();
    for beta in asked.map(Value::from) {
        if !all.contains(&beta) {
            all.push(beta);
        }
    }
    if all.len() > BETAS_MAX {
        return Err(Refusal::malformed("anthropic_beta", format!("more than {BETAS_MAX} of them")));
    }
    if !all.is_empty() {
        object.put_as("anthropic_beta", &all).map_err(unwritable)?;
    }
    serde_json::to_vec(&object).map(Bytes::from).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, betas: Option<&str>, expected: &str) {
        let found = invocation(body.as_bytes(), betas).unwrap();
        assert_eq!(std::str::from_utf8(&found).unwrap(), expected);
    }

    #[test]
    fn only_what_bedrock_has_elsewhere_is_moved() {
        check(
            r#"{ "model":"m", "max_tokens": 5, "stream":true, "temperature":1.0, "x_new":{"b":1,"a":[2.50]} }"#,
            None,
            r#"{"max_tokens":5,"temperature":1.0,"x_new":{"b":1,"a":[2.50]},"anthropic_version":"bedrock-2023-05-31"}"#,
        );
        check(
            r#"{"model":"m","anthropic_version":"bedrock-2099","anthropic_beta":["a"]}"#,
            Some("b, a,,c"),
            r#"{"anthropic_version":"bedrock-2099","anthropic_beta":["a","b","c"]}"#,
        );
        assert!(invocation(br#"{"anthropic_beta":"a"}"#, None).is_err());
        assert!(invocation(b"[]", None).is_err());
        let many: Vec<String> = (0..=BETAS_MAX).map(|number| number.to_string()).collect();
        assert!(invocation(b"{}", Some(&many.join(","))).is_err());
    }
}
