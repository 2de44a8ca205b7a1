//! What clients rely on: problems, headers, idempotency, cursors, pages, metrics.

use agentos_types::{Code, Scope};
use serde_json::{Value, json};

use crate::{
    harness::{expect_problem, problem, stage},
    kernel::{DETAIL, FAILING, PANICKING},
    samples,
};

#[tokio::test]
async fn every_response_carries_an_id_and_the_security_headers() {
    let stage = stage().await;
    for request in [stage.bare("GET", "/live"), stage.bare("GET", "/nowhere"), stage.bare("GET", "/health")] {
        let response = request.send().await.unwrap();
        let headers = response.headers();
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        assert!(!headers.contains_key("server"));
    }
    let given = samples::request_id();
    let echoed = stage.bare("GET", "/live").header("x-request-id", given.as_str()).send().await.unwrap();
    assert_eq!(echoed.headers()["x-request-id"], given.as_str());
    let forged = stage.bare("GET", "/live").header("x-request-id", "req_' OR 1=1").send().await.unwrap();
    assert_ne!(forged.headers()["x-request-id"], "req_' OR 1=1");
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_too() {
    let stage = stage().await;
    expect_problem(stage.bare("GET", "/nowhere"), Code::ROUTE_NOT_FOUND).await;
    expect_problem(stage.bare("GET", "/errors/AOS-9999"), Code::ROUTE_NOT_FOUND).await;
    let response = stage.bare("PATCH", "/api/v1/tasks").send().await.unwrap();
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(problem(response).await.code, Code::METHOD_NOT_ALLOWED);
    expect_problem(stage.admin("GET", "/api/v1/tasks/no-id"), Code::INVALID_ID).await;
    expect_problem(stage.admin("GET", "/api/v1/tasks/%ff"), Code::INVALID_ID).await;
    expect_problem(stage.admin("GET", &format!("/api/v1/tasks/{}", samples::task_id(9))), Code::TASK_NOT_FOUND).await;
}

#[tokio::test]
async fn a_fault_shows_its_message_and_never_its_detail() {
    let stage = stage().await;
    let response = stage.admin("GET", &format!("/api/v1/agents/{FAILING}")).send().await.unwrap();
    let text = format!("{:?} {}", response.headers().clone(), response.text().await.unwrap());
    assert!(text.contains("AOS-1000") && !text.contains(DETAIL), "{text}");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_survives() {
    let stage = stage().await;
    for _ in 0..2 {
        let path = format!("/api/v1/agents/{PANICKING}");
        let problem = expect_problem(stage.admin("GET", &path), Code::INTERNAL).await;
        assert!(!problem.detail.contains("planted"));
    }
    assert_eq!(stage.admin("GET", "/api/v1/agents/echo").send().await.unwrap().status(), 200);
    let token = crate::kernel::token_of(Scope::Read);
    let get = |name: &str, connection: &str| {
        format!(
            "GET /api/v1/agents/{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: {connection}\r\n\r\n"
        )
    };
    let both = get(PANICKING, "keep-alive") + &get("echo", "close");
    let answers = crate::harness::raw(&stage, both.as_bytes()).await;
    assert!(answers.contains("HTTP/1.1 500") && answers.contains("HTTP/1.1 200"), "{answers}");
}

#[tokio::test]
async fn a_submit_can_be_repeated_safely() {
    let stage = stage().await;
    let submit = |key: &str, input: Value| {
        let body = json!({"agent": "echo", "input": input});
        stage.with_token(Scope::Tasks, "POST", "/api/v1/tasks").header("idempotency-key", key).json(&body)
    };
    let first = submit("k1", json!(1)).send().await.unwrap();
    assert_eq!(first.status(), 202);
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    let task: Value = first.json().await.unwrap();
    assert_eq!(location, format!("/api/v1/tasks/{}", task["id"].as_str().unwrap()));
    assert_eq!(stage.admin("GET", &location).send().await.unwrap().status(), 200);

    let second = submit("k1", json!(1)).send().await.unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["idempotency-replayed"]), (200, &"true".parse().unwrap()));
    assert_eq!(second.json::<Value>().await.unwrap()["id"], task["id"]);
    expect_problem(submit("k1", json!(2)), Code::IDEMPOTENCY_CONFLICT).await;
    for bad in ["", "a b", "é", &"x".repeat(201)] {
        expect_problem(submit(bad, json!(1)), Code::BODY_INVALID).await;
    }
    assert_eq!(submit(&"x".repeat(200), json!(1)).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn a_task_is_a_child_of_its_request_and_the_request_of_the_header_when_that_is_valid() {
    let stage = stage().await;
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let body = "00-11111111111111111111111111111111-2222222222222222-00";
    for (in_headers, in_body, trace) in [
        (vec![header], None, Some(header)),
        (vec![header], Some(body), Some(header)),
        (vec!["00-nonsense"], None, None),
        (vec!["00-00000000000000000000000000000000-b7ad6b7169203331-01"], None, None),
        (vec![header, header], None, None),
        (vec![], None, None),
    ] {
        let mut json = json!({"agent": "echo"});
        if let Some(text) = in_body {
            json["traceparent"] = text.into();
        }
        let mut request = stage.admin("POST", "/api/v1/tasks").json(&json);
        for value in &in_headers {
            request = request.header("traceparent", *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 202);
        let own = response.headers()["traceparent"].to_str().unwrap().to_owned();
        assert_eq!(trace.is_some_and(|trace| own[..35] == trace[..35]), trace.is_some(), "{in_headers:?}: {own}");
        assert!(own.ends_with(if trace.is_some() { "-00" } else { "-01" }), "the flag goes along: {own}");
        assert!(!in_headers.contains(&own.as_str()), "a span of its own");
        let submitted = stage.kernel.with(|state| state.submitted.pop()).unwrap();
        assert_eq!(submitted.traceparent.as_deref(), Some(in_body.unwrap_or(&own)));
    }
}

#[tokio::test]
async fn listings_are_walked_by_opaque_cursors() {
    let stage = stage().await;
    for number in 0..7 {
        stage.kernel.add_task(number);
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/tasks?limit=3".to_owned());
    loop {
        let page: Value = stage.admin("GET", &path).send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|task| task["input"].as_u64().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert!(!cursor.contains("task_"), "{cursor} shows its inside");
        path = format!("/api/v1/tasks?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0]);
    let other: Value = stage.admin("GET", "/api/v1/notifications").send().await.unwrap().json().await.unwrap();
    let foreign = other["next_cursor"].as_str().unwrap();
    let raw_id = samples::task_id(1);
    for query in [
        "cursor=x",
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=",
        "state=done",
        "agent=A",
        "surprise=1",
        &format!("cursor={foreign}"),
        &format!("cursor={raw_id}"),
    ] {
        expect_problem(stage.admin("GET", &format!("/api/v1/tasks?{query}")), Code::CURSOR_INVALID).await;
    }
    let echoed = stage.admin("GET", &format!("/api/v1/notifications?cursor={foreign}")).send().await.unwrap();
    assert_eq!(echoed.json::<Value>().await.unwrap()["next_cursor"], foreign);
}

#[tokio::test]
async fn audit_queries_refuse_unknown_filters() {
    let stage = stage().await;
    stage.kernel.add_audit_records(3);
    let page: Value =
        stage.admin("GET", "/api/v1/audit?limit=2&decision=denied&since=5").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    for query in ["limit=0", "limit=501", "decision=maybe", "surprise=1", "task=x", "cursor=x"] {
        expect_problem(stage.admin("GET", &format!("/api/v1/audit?{query}")), Code::AUDIT_QUERY_INVALID).await;
    }
    expect_problem(stage.admin("GET", "/api/v1/audit/export?from_seq=-1"), Code::AUDIT_QUERY_INVALID).await;
    let export = stage.admin("GET", "/api/v1/audit/export?from_seq=2").send().await.unwrap();
    assert_eq!(export.headers()["content-type"], "application/x-ndjson");
    assert_eq!(export.text().await.unwrap(), "{\"seq\":2}\n");
}

#[tokio::test]
async fn what_is_done_to_the_audit_log_is_asked_for_strictly() {
    let stage = stage().await;
    let bare: Value = stage.admin("POST", "/api/v1/audit/prune").send().await.unwrap().json().await.unwrap();
    assert_eq!(bare["dry_run"], false);
    let prune = |body: Value| stage.admin("POST", "/api/v1/audit/prune").json(&body);
    let dry: Value = prune(json!({"dry_run": true, "keep_from": 7})).send().await.unwrap().json().await.unwrap();
    assert_eq!((&dry["dry_run"], &dry["first_kept"]), (&json!(true), &json!(7)));
    expect_problem(prune(json!({"keep_from": -1})), Code::AUDIT_QUERY_INVALID).await;
    // How old a day must be is the operator's setting, not the caller's.
    expect_problem(prune(json!({"before": 1})), Code::BODY_INVALID).await;
    let hold = stage.admin("POST", "/api/v1/audit/holds").json(&json!({"name": "case-7", "reason": "why"}));
    let placed = hold.send().await.unwrap();
    assert_eq!(
        (placed.status().as_u16(), &placed.headers()["location"]),
        (201, &"/api/v1/audit/holds/case-7".parse().unwrap())
    );
    assert_eq!(stage.admin("DELETE", "/api/v1/audit/holds/case-7").send().await.unwrap().status(), 204);
    for name in ["..%2ftokens", "%ff", "A"] {
        expect_problem(stage.admin("DELETE", &format!("/api/v1/audit/holds/{name}")), Code::INVALID_ID).await;
    }
    for range in ["from_seq=3&until_seq=3", "until_seq=0"] {
        expect_problem(stage.admin("GET", &format!("/api/v1/audit/export?{range}")), Code::AUDIT_QUERY_INVALID).await;
    }
}

#[tokio::test]
async fn status_pages() {
    let stage = stage().await;
    assert_eq!(stage.bare("GET", "/ready").send().await.unwrap().text().await.unwrap(), r#"{"status":"ok"}"#);
    stage.kernel.with(|state| state.is_ready = false);
    let response = stage.bare("GET", "/ready").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.unwrap(), r#"{"status":"unavailable"}"#);
    assert_eq!(stage.bare("GET", "/live").send().await.unwrap().status(), 200);

    let text = stage.bare("GET", "/errors/AOS-1201").send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("AOS-1201: Task not found") && text.contains("Remedy: "), "{text}");
    let as_json = stage.bare("GET", "/errors/AOS-1201").header("accept", "application/json");
    assert_eq!(as_json.send().await.unwrap().json::<Value>().await.unwrap()["title"], "Task not found");
    let document: Value = stage.admin("GET", "/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    assert_eq!(document["info"]["version"], "test");
}

#[tokio::test]
async fn metrics_are_joined_and_their_labels_are_bounded() {
    let stage = stage().await;
    for number in 0..20 {
        stage.bare("GET", &format!("/nowhere/{number}")).send().await.unwrap();
        let path = format!("/api/v1/tasks/{}", samples::task_id(number));
        stage.admin("GET", &path).header("x-test", "1").send().await.unwrap();
        stage.bare(&format!("METHOD{number}"), "/live").send().await.unwrap();
    }
    let page = stage.metrics().await;
    assert!(page.contains("kernel_things_total 3\n"), "{page}");
    for (route, method, status) in
        [("unmatched", "GET", "4xx"), ("/api/v1/tasks/{id}", "GET", "4xx"), ("/live", "other", "4xx")]
    {
        let line =
            format!("agentos_gateway_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} 20");
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    assert!(!page.contains("METHOD1") && !page.contains("task_") && !page.contains("# EOF"), "{page}");
}
