//! A trace across `kill -9` of the server.

use std::collections::BTreeMap;

use agentos_kit::{Collector, Page, SeenSpan, TestOs};
use agentos_types::{
    TaskId,
    task::{Step, Task},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{PLANTED, agent, exporting, http, net};

const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const HANDLER: &str = r#"def handle(task):
    if task.input.get("action") == "echo":
        return task.input
    task.call("note", "kv.put", key="seen", value=task.input["private"])
    task.call("page", "net.fetch", url=task.input["page"], headers={"authorization": "Bearer ${secret:api-key}"})
    try:
        task.call("elsewhere", "net.fetch", url="http://elsewhere.example/")
    except CallError:
        pass
    return task.call("slow", "net.fetch", url=task.input["slow"])["status"]
"#;
const GRANTS: &str = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n\
                      [[grants]]\ncategory = \"secret\"\nactions = [\"use\"]\nresources = [\"api-key@127.0.0.1\"]\n";

#[tokio::test]
async fn a_trace_goes_from_the_client_to_the_tool_and_back_across_a_kill_of_the_server() {
    let (collector, page) = (Collector::start().await, Page::serve(&format!("echo: {PLANTED}")).await);
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow_port = slow.local_addr().unwrap().port();
    let headers = format!("otlp_headers = \"authorization=Bearer%20{PLANTED}-2\"\n");
    let rest = format!(
        "propagate_to = [\"127.0.0.1:{}\"]\n[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\", \"127.0.0.1:{slow_port}\"]\n",
        page.port(),
        page.port()
    );
    let mut os = exporting(&collector, &headers, &rest).await;
    os.cli_with_input(&["secret", "set", "api-key"], &format!("{PLANTED}\n")).await;
    os.deploy(&agent("traveller", HANDLER, &format!("{}{GRANTS}", net(&[page.port(), slow_port])))).await;

    let slow_url = format!("http://127.0.0.1:{slow_port}/wait?token={PLANTED}");
    let input =
        json!({"action": "go", "page": page.url("/private/path"), "slow": slow_url, "private": "payload-words"});
    let (id, answered) = submit(&os, &json!({"agent": "traveller", "input": input})).await;
    let first_call = accept(&slow).await;
    // Everything that was done before the crash has left the machine; what is under way has not ended.
    for key in ["note", "page", "elsewhere"] {
        collector.span(key, |span| span.attribute("gen_ai.tool.call.id") == key).await;
    }
    os.kill().await;
    drop(first_call);
    os.up().await;
    let mut second_call = accept(&slow).await;
    second_call.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.unwrap();
    let task = os.finished(&id).await;
    assert_eq!(task.output, Some(json!(200)), "{:?}", task.failure);
    let is_last =
        |span: &SeenSpan| span.name == "invoke_agent traveller" && span.attribute("agentos.task.fence") == "2";
    collector.span("the second attempt", is_last).await;
    let steps = os.client().task_steps(&id).await.unwrap();
    assert_eq!(os.down().await, 0);

    check_tree(&collector, &task, &steps, &answered);
    check_headers(&page, &collector);
    for text in [PLANTED, "payload-words", "private/path", "token="] {
        assert!(!collector.holds(text), "'{text}' left the machine");
    }
    assert!(!os.log().contains(PLANTED), "{}", os.log());
}

/// Ids, parents and links, against the client's header and the rows of the journal.
fn check_tree(collector: &Collector, task: &Task, steps: &[Step], answered: &str) {
    let all: Vec<SeenSpan> = collector.spans().into_iter().filter(|span| span.trace_id == TRACE).collect();
    // A span that was told again after the crash has the same id; receivers keep one of them.
    let by_id: BTreeMap<String, SeenSpan> = all.iter().map(|span| (span.span_id.clone(), span.clone())).collect();
    let spans: Vec<&SeenSpan> = by_id.values().collect();
    let named = |name: &str| -> Vec<&SeenSpan> { spans.iter().copied().filter(|span| span.name == name).collect() };
    let one = |name: &str| -> &SeenSpan {
        let found = named(name);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        found[0]
    };

    let request = one("POST /api/v1/tasks");
    assert_eq!((request.parent.as_str(), request.kind), ("b7ad6b7169203331", 2));
    assert_eq!(request.attribute("http.response.status_code"), "202");
    assert_eq!(answered, format!("00-{TRACE}-{}-01", request.span_id), "the response names the request's span");
    let submission = one("submit_task traveller");
    assert_eq!(submission.parent, request.span_id);
    assert_eq!(task.traceparent, format!("00-{TRACE}-{}-01", submission.span_id), "the row names it");

    let mut attempts = named("invoke_agent traveller");
    attempts.sort_by_key(|span| span.attribute("agentos.task.fence").to_owned());
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert!(attempts.iter().all(|span| span.parent == submission.span_id));
    let (first, second) = (attempts[0], attempts[1]);
    assert_eq!((first.error.as_deref(), first.attribute("agentos.interrupted")), (Some("interrupted"), "true"));
    assert_eq!((second.error.as_deref(), second.attribute("agentos.task.state")), (None, "completed"));
    assert_eq!(second.links, std::slice::from_ref(&first.span_id), "the resumed attempt is linked to the one before");
    assert!(first.started_ns <= first.ended_ns && first.ended_ns <= second.ended_ns);

    for step in steps {
        let id = step.traceparent.split('-').nth(2).unwrap();
        let span = &by_id[id];
        assert_eq!(span.name, format!("execute_tool {}", step.syscall));
        assert_eq!(span.attribute("gen_ai.tool.call.id"), step.key);
        assert_eq!(span.started_ns, u64::try_from(step.started_at.as_micros()).unwrap() * 1_000, "{}", step.key);
        let parent = if step.key == "slow" { second } else { first };
        assert_eq!(span.parent, parent.span_id, "{}", step.key);
    }
    let calls = |key: &str| -> Vec<&SeenSpan> {
        spans.iter().copied().filter(|span| span.attribute("gen_ai.tool.call.id") == key).collect()
    };
    let replays =
        |key: &str| calls(key).into_iter().filter(|span| span.attribute("agentos.step.replayed") == "true").count();
    assert_eq!((calls("note").len(), replays("note")), (2, 1), "done once, then answered by the journal");
    assert_eq!((calls("page").len(), replays("page")), (2, 1));
    let slow = calls("slow");
    assert_eq!(slow.len(), 2, "{slow:#?}");
    let cut = slow.iter().find(|span| span.parent == first.span_id).unwrap();
    assert_eq!(cut.attribute("agentos.step.status"), "interrupted");
    let refused = calls("elsewhere");
    assert_eq!(refused.len(), 2);
    assert!(
        refused
            .iter()
            .all(|span| span.attribute("agentos.decision") == "denied" && span.error.as_deref() == Some("AOS-1401"))
    );

    let asked = named("GET");
    assert!(asked.iter().all(|span| by_id.contains_key(&span.parent) && span.kind == 3), "{asked:#?}");
    let page_call = calls("page").into_iter().find(|span| span.attribute("agentos.step.replayed").is_empty()).unwrap();
    let get = asked.iter().find(|span| span.parent == page_call.span_id).unwrap();
    assert_eq!((get.attribute("server.address"), get.attribute("http.response.status_code")), ("127.0.0.1", "200"));
    let commits = named("commit");
    let commits_of = |what: &str| commits.iter().filter(|span| span.attribute("agentos.commit.of") == what).count();
    for what in ["submit", "claim", "intent", "outcome", "finish"] {
        assert!(commits_of(what) > 0, "no commit of {what}: {commits:#?}");
    }
    for span in &spans {
        let is_known = span.parent == "b7ad6b7169203331" || by_id.contains_key(&span.parent);
        assert!(is_known, "{} has a parent that never came", span.name);
    }
}

/// The listed target gets the header, in the trace; the other one learns nothing. The collector gets its credential.
fn check_headers(page: &Page, collector: &Collector) {
    let request = page.requests().remove(0).to_lowercase();
    let header = request.lines().find_map(|line| line.strip_prefix("traceparent: ")).expect("the listed target");
    assert_eq!(&header[..35], &format!("00-{TRACE}"));
    let sent =
        collector.spans().into_iter().find(|span| header.contains(&span.span_id)).expect("the span that was sent");
    assert_eq!(sent.name, "GET");
    let heads = collector.heads();
    assert!(heads.iter().all(|head| head.starts_with("POST /v1/traces ")), "{heads:?}");
    assert!(heads.iter().all(|head| head.to_lowercase().contains(&format!("authorization: bearer {PLANTED}-2"))));
    assert_eq!(collector.resource()["service.name"], "agent-os");
}

/// Posts a task with the client's trace context. Returns its id, and the context that the response names.
async fn submit(os: &TestOs, body: &serde_json::Value) -> (TaskId, String) {
    let client = http();
    let request = client.post(format!("{}/api/v1/tasks", os.url())).bearer_auth(os.token());
    let response = request.header("traceparent", CLIENT).json(body).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let answered = response.headers()["traceparent"].to_str().unwrap().to_owned();
    let task: Task = response.json().await.unwrap();
    (task.id, answered)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = vec![0; 8 * 1024];
    let count = stream.read(&mut head).await.unwrap();
    let text = String::from_utf8_lossy(&head[..count]).to_lowercase();
    assert!(!text.contains("traceparent"), "a third party learns no id: {text}");
    stream
}
