use super::*;

/// 2015-08-30T12:36:00Z, with the key that all of AWS's examples have.
const AT: Timestamp = Timestamp(1_440_938_160_000_000);
const KEY: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGd";
const BODY: &str =
    r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
const INVOKE: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke";

fn check(unsigned: &Unsigned<'_>, key: &str, (region, service): (&str, &str), signed: &str, signature: &str) {
    let found = sign(unsigned, Credentials::parse(key).unwrap(), Scope { region, service }, AT).unwrap();
    assert_eq!(found.date, "20150830T123600Z");
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{region}/{service}/aws4_request, SignedHeaders={signed}, Signature={signature}"
    );
    assert_eq!(found.authorization, expected);
}

/// `get-vanilla`, `post-vanilla` and `get-vanilla-query-order-key-case` of AWS's published test suite.
#[test]
fn the_vectors_of_the_published_suite_hold() {
    let suite = |method, query, signature: &str| {
        let headers = [("host", "example.amazonaws.com")];
        let unsigned = Unsigned { method, path: "/", query, headers: &headers, body: b"" };
        check(&unsigned, KEY, ("us-east-1", "service"), "host;x-amz-date", signature);
    };
    suite("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    suite("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    let query = "Param2=value2&Param1=value1";
    suite("GET", query, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

/// Computed by botocore 1.43.11 (`SigV4Auth`), whose names of models have a colon and so an encoded path.
#[test]
fn requests_to_bedrock_are_signed_as_its_own_client_signs_them() {
    let headers = [("host", "bedrock-runtime.us-east-1.amazonaws.com"), ("content-type", "application/json")];
    let invoke = Unsigned { method: "POST", path: INVOKE, query: "", headers: &headers, body: BODY.as_bytes() };
    let scope = ("us-east-1", "bedrock");
    let signature = "29cd0fe07dedc1d4b931585c7e10e39f0afb7eedb096d8d5f4ebe1e8c001183e";
    check(&invoke, KEY, scope, "content-type;host;x-amz-date", signature);
    let signature = "cf189970fc02fadab605ed26d9d76526ec11eec41fa35d96c25bca1e920f2425";
    let with_token = format!("{KEY}:{TOKEN}");
    check(&invoke, &with_token, scope, "content-type;host;x-amz-date;x-amz-security-token", signature);
    let headers = [("host", "bedrock.eu-central-1.amazonaws.com")];
    let list = Unsigned { method: "GET", path: "/foundation-models", query: "", headers: &headers, body: b"" };
    let signature = "96fa9cbe1dadced594b91610f298e0037df4f7b8284c3e834d0b73dd47764107";
    check(&list, KEY, ("eu-central-1", "bedrock"), "host;x-amz-date", signature);
}

#[test]
fn a_key_has_two_or_three_parts_and_no_blanks() {
    let parts =
        |text| Credentials::parse(text).map(|key| (key.access_key_id, key.secret_access_key, key.session_token));
    assert_eq!(parts(" a:b\n"), Some(("a", "b", None)));
    assert_eq!(parts("a:b/+=:c=="), Some(("a", "b/+=", Some("c=="))));
    for bad in ["", "a", "a:", ":b", "a:b:", "a:b:c:d", "a b:c", "a:b\u{e9}", "bedrock-api-key-abc"] {
        assert_eq!(parts(bad), None, "{bad}");
    }
}

#[test]
fn blanks_order_and_case_do_not_change_what_is_signed() {
    let key = Credentials::parse(KEY).unwrap();
    let scope = Scope { region: "r", service: "s" };
    let signed = |headers: &[(&str, &str)]| {
        let unsigned = Unsigned { method: "GET", path: "", query: "a&b=2", headers, body: b"" };
        sign(&unsigned, key, scope, AT).unwrap().authorization
    };
    assert_eq!(signed(&[("host", "h"), ("x", " a  b ")]), signed(&[("x", "a b"), ("host", "h")]));
    assert_ne!(signed(&[("host", "h")]), signed(&[("host", "i")]));
}
