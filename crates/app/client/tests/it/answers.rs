//! Every kind of answer becomes the right fault.

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_client::Client;
use agentos_types::{AgentName, Code, Fault};

use crate::server::{answer, chunks, serve};

async fn check(status: u16, content_type: &'static str, body: &str, code: Code, message: &str, hint: &str) {
    let body = body.to_owned();
    let (client, _) = serve(move |_, _| answer(status, content_type, body.clone())).await;
    let fault = client.get_agent(&"monitor".parse::<AgentName>().unwrap()).await.unwrap_err();
    assert_eq!(fault.code, code, "{fault}");
    assert!(fault.message.contains(message), "{fault} lacks {message}");
    assert!(fault.hint.clone().unwrap_or_default().contains(hint), "{fault:?} lacks {hint}");
}

#[tokio::test]
async fn refusals_and_nonsense() {
    let fault = Fault::new(Code::AGENT_NOT_FOUND, "no agent 'monitor'").hint("list them");
    let problem = serde_json::to_string(&Problem::new(&fault, None)).unwrap();
    check(404, PROBLEM_JSON, &problem, Code::AGENT_NOT_FOUND, "no agent 'monitor'", "list them").await;
    check(404, "application/problem+json; charset=utf-8", &problem, Code::AGENT_NOT_FOUND, "no agent", "").await;
    let newer = r#"{"type":"/errors/AOS-9999","title":"New","status":409,"detail":"moon phase","code":"AOS-9999"}"#;
    check(409, PROBLEM_JSON, newer, Code::INTERNAL, "AOS-9999: moon phase", "newer").await;
    check(502, "text/html", "<h1>Bad gateway</h1>", Code::CONNECT_FAILED, "status 502", "proxy").await;
    check(418, "text/html", "teapot", Code::RESPONSE_MALFORMED, "status 418", "AgentOS server").await;
    check(500, PROBLEM_JSON, "{", Code::RESPONSE_MALFORMED, "status 500", "").await;
    check(302, "text/plain", "elsewhere", Code::RESPONSE_MALFORMED, "status 302", "").await;
    check(200, "application/json", r#"{"name": 1}"#, Code::RESPONSE_MALFORMED, "another shape", "version").await;
}

#[tokio::test]
async fn waiting_times_survive_the_way() {
    let fault = Fault::new(Code::GATEWAY_RATE_LIMITED, "slow down").retry_after(std::time::Duration::from_millis(1500));
    let problem = serde_json::to_string(&Problem::new(&fault, None)).unwrap();
    let (client, _) = serve(move |_, _| answer(429, PROBLEM_JSON, problem.clone())).await;
    assert_eq!(client.list_agents().await.unwrap_err(), fault);
}

#[tokio::test]
async fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, None, None).unwrap();
    for fault in [client.health().await.unwrap_err(), client.ready().await.unwrap_err()] {
        assert_eq!(fault.code, Code::NOT_RUNNING);
        assert!(fault.message.contains(&url), "{fault}");
        assert_eq!(fault.hint.as_deref(), Some("start it with: agent-os up --detach"));
    }
    let fault = client.watch_task(&crate::streams::task_id(), 0).next().await.unwrap_err();
    assert_eq!(fault.code, Code::NOT_RUNNING, "a first connection that fails is reported at once");
}

#[tokio::test]
async fn readiness() {
    let (client, _) = serve(|number, _| {
        let (status, body) =
            if number == 0 { (503, r#"{"status":"unavailable"}"#) } else { (200, r#"{"status":"ok"}"#) };
        answer(status, "application/json", body)
    })
    .await;
    assert_eq!(client.ready().await, Ok(false));
    assert_eq!(client.ready().await, Ok(true));
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let (client, _) = serve(|_, _| {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
        answer(200, "application/json", axum::body::Body::from_stream(endless))
    })
    .await;
    assert_eq!(client.list_agents().await.unwrap_err().code, Code::RESPONSE_TOO_LARGE);
}

#[tokio::test]
async fn a_cut_download_is_an_error_not_an_end() {
    let (client, _) = serve(|_, _| {
        let cut = vec![Ok("{\"segment\":1}\n".to_owned()), Err(std::io::Error::other("gone"))];
        answer(200, "application/x-ndjson", chunks(cut))
    })
    .await;
    let mut download = client.export_audit(0).await.unwrap();
    let mut outcome = download.chunk().await;
    while let Ok(Some(_)) = outcome {
        outcome = download.chunk().await;
    }
    assert_eq!(outcome.unwrap_err().code, Code::CONNECT_FAILED);
}
