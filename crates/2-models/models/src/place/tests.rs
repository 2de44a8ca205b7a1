use serde_json::json;

use super::*;

#[test]
fn a_models_name_is_one_segment_of_the_path() {
    assert_eq!(segment("gemini-2.5-pro").unwrap(), "gemini-2.5-pro");
    assert_eq!(segment("../a b?c#d").unwrap(), "..%2Fa%20b%3Fc%23d");
    assert_eq!(
        segment("us.anthropic.claude-haiku-4-5-20251001-v1:0").unwrap(),
        "us.anthropic.claude-haiku-4-5-20251001-v1%3A0"
    );
    for climbs in [".", ".."] {
        assert_eq!(segment(climbs).unwrap_err().code, Code::MODEL_REQUEST_INVALID);
    }
}

#[test]
fn the_list_of_models_of_each_kind_is_at_its_own_place() {
    let azure =
        |version: &str| json!({"kind": "azure", "base_url": "https://r.openai.azure.com/", "api_version": version});
    let bedrock = |base: &str| json!({"kind": "bedrock", "base_url": base});
    for (said, expected) in [
        (json!({"kind": "openai"}), "https://api.openai.com/v1/models"),
        (json!({"kind": "anthropic"}), "https://api.anthropic.com/v1/models"),
        (json!({"kind": "gemini"}), "https://generativelanguage.googleapis.com/v1beta/models"),
        (json!({"kind": "ollama"}), "http://127.0.0.1:11434/v1/models"),
        (
            json!({"kind": "azure", "base_url": "https://r.openai.azure.com/openai/v1/"}),
            "https://r.openai.azure.com/openai/v1/models",
        ),
        (azure("2024-10-21"), "https://r.openai.azure.com/openai/models?api-version=2024-10-21"),
        (azure("preview"), "https://r.openai.azure.com/openai/v1/models"),
        (
            bedrock("https://bedrock-runtime.us-east-1.amazonaws.com"),
            "https://bedrock.us-east-1.amazonaws.com/foundation-models",
        ),
        (
            bedrock("https://bedrock-runtime-fips.us-east-1.amazonaws.com/openai/v1"),
            "https://bedrock-fips.us-east-1.amazonaws.com/foundation-models",
        ),
        (bedrock("https://models.example/bedrock-runtime"), "https://models.example/bedrock-runtime/foundation-models"),
    ] {
        let said: Provider = serde_json::from_value(said).unwrap();
        assert_eq!(models_url(&said), expected);
    }
}

#[test]
fn an_access_key_signs_and_any_other_is_refused_without_being_told() {
    let url = CheckedUrl::parse("https://bedrock.eu-central-1.amazonaws.com/foundation-models").unwrap();
    let request = ToSign { method: "GET", url: &url, body: b"", at: Timestamp(1_440_938_160_000_000) };
    let key = |text: &str| key_headers(Kind::Bedrock, Some("eu-central-1"), &SecretString::from(text), request);
    // The same as in the tests of the signature, where its origin stands.
    let found = key("AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY:token").unwrap();
    assert_eq!(
        found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["authorization", "x-amz-date", "x-amz-security-token"]
    );
    let found = key("AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n").unwrap();
    assert!(found[0].1.ends_with("Signature=96fa9cbe1dadced594b91610f298e0037df4f7b8284c3e834d0b73dd47764107"));
    let fault = key("bedrock-api-key-abc").unwrap_err();
    assert_eq!(fault.code, Code::SECRET_KEY_UNUSABLE);
    assert!(!format!("{fault:?}").contains("abc"));
    let bearer = key_headers(Kind::Bedrock, None, &SecretString::from("k"), request).unwrap();
    assert_eq!(bearer, [("authorization", "Bearer k".to_owned())]);
}
