//! Bodies that are too large, too deep, ambiguous, of another type or of another shape.

use agentos_types::{Code, Scope, limits::JSON_DEPTH_MAX};
use serde_json::json;

use crate::{
    harness::{PATIENCE, expect_problem, options, raw, stage, until_closed},
    kernel::token_of,
};

async fn check(stage: &crate::harness::Stage, body: impl Into<reqwest::Body>, code: Code, part: &str) {
    let request = stage.admin("POST", "/api/v1/tasks").header("content-type", "application/json").body(body);
    let problem = expect_problem(request, code).await;
    assert!(problem.detail.contains(part), "{} lacks {part}", problem.detail);
    assert!(stage.kernel.with(|state| state.submitted.is_empty()), "the kernel was asked");
}

#[tokio::test]
async fn what_is_not_the_documented_json_is_refused() {
    let stage = stage().await;
    check(&stage, "", Code::BODY_INVALID, "EOF").await;
    check(&stage, "{", Code::BODY_INVALID, "EOF").await;
    check(&stage, "[]", Code::BODY_INVALID, "not an object").await;
    check(&stage, r#"["echo",{},null,null,null,null]"#, Code::BODY_INVALID, "not an object").await;
    check(&stage, r#"{"agent":"echo"} x"#, Code::BODY_INVALID, "trailing").await;
    check(&stage, r#"{"agent":"echo","agent":"echo"}"#, Code::BODY_INVALID, "twice").await;
    check(&stage, r#"{"agent":"echo","input":{"a":[{"b":1,"b":2}]}}"#, Code::BODY_INVALID, "twice").await;
    check(&stage, r#"{"agent":"echo","surprise":1}"#, Code::BODY_INVALID, "unknown field").await;
    check(&stage, r#"{"agent":"../echo"}"#, Code::BODY_INVALID, "AOS-1011").await;
    check(&stage, r#"{"agent":"echo","traceparent":"x"}"#, Code::BODY_INVALID, "traceparent").await;
    check(&stage, b"{\"agent\":\"\xff\"}".to_vec(), Code::BODY_INVALID, "unicode").await;
    let nested = |levels: usize| format!(r#"{{"agent":"echo","input":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    check(&stage, nested(JSON_DEPTH_MAX), Code::BODY_INVALID, "deeper").await;
    check(&stage, nested(20_000), Code::BODY_INVALID, "deeper").await;
    let deepest = stage.admin("POST", "/api/v1/tasks").header("content-type", "application/json");
    assert_eq!(deepest.body(nested(JSON_DEPTH_MAX - 1)).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn bodies_have_a_size() {
    let stage = stage().await;
    let limit = options().body_bytes_max;
    let body = |bytes: usize| {
        let frame = r#"{"agent":"echo","input":""}"#.len();
        json!({ "agent": "echo", "input": "x".repeat(bytes - frame) }).to_string()
    };
    for bytes in [limit + 1, 4 * limit] {
        check(&stage, body(bytes), Code::BODY_TOO_LARGE, &limit.to_string()).await;
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(body(bytes))]);
        check(&stage, reqwest::Body::wrap_stream(chunks), Code::BODY_TOO_LARGE, &limit.to_string()).await;
    }
    let fitting = stage.admin("POST", "/api/v1/tasks").header("content-type", "application/json").body(body(limit));
    assert_eq!(fitting.send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let stage = stage().await;
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 16 * 1024]));
    let request = stage.admin("POST", "/api/v1/tasks").header("content-type", "application/json");
    let sending = request.body(reqwest::Body::wrap_stream(endless)).send();
    let outcome = tokio::time::timeout(PATIENCE, sending).await.expect("the server ended it");
    // The client may still be writing when the connection closes, and then sees that first.
    assert!(outcome.is_err() || outcome.is_ok_and(|response| response.status() == 413));
}

#[tokio::test]
async fn media_types() {
    let stage = stage().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin1",
    ] {
        let request = stage.admin("POST", "/api/v1/tasks").header("content-type", kind).body(r#"{"agent":"echo"}"#);
        expect_problem(request, Code::UNSUPPORTED_MEDIA_TYPE).await;
    }
    expect_problem(stage.admin("POST", "/api/v1/tasks").body(r#"{"agent":"echo"}"#), Code::UNSUPPORTED_MEDIA_TYPE)
        .await;
    let zipped =
        stage.admin("POST", "/api/v1/tasks").json(&json!({"agent": "echo"})).header("content-encoding", "gzip");
    expect_problem(zipped, Code::UNSUPPORTED_MEDIA_TYPE).await;
}

#[tokio::test]
async fn an_optional_body_may_be_absent_but_not_wrong() {
    let stage = stage().await;
    let id = stage.kernel.add_task(1);
    let path = format!("/api/v1/tasks/{id}/redrive");
    let input = async |request: reqwest::RequestBuilder| {
        let task: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        task["input"].clone()
    };
    assert_eq!(input(stage.admin("POST", &path)).await, json!(1));
    assert_eq!(input(stage.admin("POST", &path).json(&json!({}))).await, json!(1));
    assert_eq!(input(stage.admin("POST", &path).json(&json!({"input": "other"}))).await, json!("other"));
    expect_problem(stage.admin("POST", &path).json(&json!({"inptu": 1})), Code::BODY_INVALID).await;
    expect_problem(stage.admin("POST", &path).body("{}"), Code::UNSUPPORTED_MEDIA_TYPE).await;
}

#[tokio::test]
async fn a_malformed_secret_is_not_quoted_back() {
    let stage = stage().await;
    for body in [json!("planted-value"), json!({"value": ["planted-value"]}), json!({"planted-value": 1})] {
        for (method, path) in [("PUT", "/api/v1/secrets/key"), ("POST", "/api/v1/secrets/key/rotate")] {
            let problem = expect_problem(stage.admin(method, path).json(&body), Code::BODY_INVALID).await;
            assert!(!serde_json::to_string(&problem).unwrap().contains("planted"), "{problem:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let mut options = options();
    options.request_timeout = std::time::Duration::from_millis(200);
    let stage = crate::harness::stage_with(options).await;
    let token = token_of(Scope::Admin);
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let answer = raw(&stage, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("AOS-1714"), "{answer}");
    let mut stream = stage.connect().await;
    assert_eq!(until_closed(&mut stream).await, "", "a connection without a request is closed");
}
