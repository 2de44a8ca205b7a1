//! Streams: resumed without gap or duplicate, ended by the final state, by revocation, never by lag.

use std::time::Duration;

use agentos_types::{Code, Scope, TaskId};
use reqwest::Response;
use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, Stage, expect_problem, options, stage, stage_with},
    kernel::token_of,
};

/// One parsed event: id, event, data.
type Sent = (i64, String, Value);

struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(stage: &Stage, path: &str, last_event_id: Option<i64>) -> Self {
        let mut request = stage.admin("GET", path).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event, or `None` at the end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let sent = field("id: ").map(|id| {
                    (
                        id.parse().unwrap(),
                        field("event: ").unwrap(),
                        serde_json::from_str(&field("data: ").unwrap()).unwrap(),
                    )
                });
                self.text = rest.to_owned();
                match sent {
                    Some(sent) => return Some(sent),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("the stream went silent");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }
}

fn events_of(id: &TaskId) -> String {
    format!("/api/v1/tasks/{id}/events")
}

#[tokio::test]
async fn a_stream_goes_on_until_the_final_state() {
    let stage = stage().await;
    let id = stage.kernel.add_task(1);
    stage.kernel.add_event(&id, "state", json!({"state": "working"}));
    let mut stream = Stream::open(&stage, &events_of(&id), None).await;
    let (seq, kind, data) = stream.next().await.unwrap();
    assert_eq!((seq, kind.as_str(), &data["data"]["state"]), (1, "state", &json!("working")));
    stage.kernel.add_event(&id, "progress", json!({"text": "half\n\nway"}));
    assert_eq!(stream.next().await.unwrap().2["data"]["text"], "half\n\nway");
    stage.kernel.add_event(&id, "state", json!({"state": "completed"}));
    assert_eq!(stream.next().await.unwrap().0, 3);
    assert!(stream.next().await.is_none(), "the stream ends after the final state");

    let resumed =
        stage.admin("GET", &events_of(&id)).header("accept", "text/event-stream").header("last-event-id", "3");
    assert_eq!(resumed.send().await.unwrap().status(), 204, "a browser stops reconnecting");
    let mut replayed = Stream::open(&stage, &events_of(&id), Some(1)).await;
    assert_eq!(replayed.next().await.unwrap().0, 2);
}

#[tokio::test]
async fn a_redriven_task_is_followed_beyond_its_first_end() {
    let stage = stage().await;
    let id = stage.kernel.add_task(1);
    for state in ["failed", "submitted", "completed"] {
        stage.kernel.add_event(&id, "state", json!({ "state": state }));
    }
    let mut stream = Stream::open(&stage, &events_of(&id), None).await;
    for seq in 1..=3 {
        assert_eq!(stream.next().await.unwrap().0, seq);
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn reconnecting_at_any_point_loses_and_repeats_nothing() {
    const EVENTS: i64 = 500;
    let stage = stage().await;
    let id = stage.kernel.add_task(1);
    let (kernel, task) = (stage.kernel.clone(), id.clone());
    // More announcements than the channel holds, so that the stream's receiver lags.
    let writer = tokio::spawn(async move {
        for number in 1..EVENTS {
            kernel.add_event(&task, "progress", json!({ "number": number }));
            if number % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        kernel.add_event(&task, "state", json!({"state": "completed"}));
    });
    let mut seen = Vec::new();
    'connections: for take in (1..).map(|round: usize| 1 + round * 13 % 97) {
        let mut stream = Stream::open(&stage, &events_of(&id), seen.last().copied()).await;
        for _ in 0..take {
            match stream.next().await {
                Some((seq, ..)) => seen.push(seq),
                None => break 'connections,
            }
        }
        if seen.last() == Some(&EVENTS) {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_as_json_and_bad_positions() {
    let stage = stage().await;
    let id = stage.kernel.add_task(1);
    for number in 0..5 {
        stage.kernel.add_event(&id, "progress", json!({ "number": number }));
    }
    let path = events_of(&id);
    let page: Value =
        stage.admin("GET", &format!("{path}?after_seq=2&limit=2")).send().await.unwrap().json().await.unwrap();
    let seqs: Vec<_> = page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, [3, 4]);
    let mut stream = Stream::open(&stage, &format!("{path}?after_seq=1"), Some(4)).await;
    assert_eq!(stream.next().await.unwrap().0, 5, "Last-Event-ID goes before the query");
    expect_problem(stage.admin("GET", &format!("{path}?after_seq=-1")), Code::CURSOR_INVALID).await;
    for bad in ["x", "-1", "99999999999999999999"] {
        let request = stage.admin("GET", &path).header("accept", "text/event-stream").header("last-event-id", bad);
        expect_problem(request, Code::CURSOR_INVALID).await;
    }
    let unknown = stage.admin("GET", &events_of(&crate::samples::task_id(99))).header("accept", "text/event-stream");
    expect_problem(unknown, Code::TASK_NOT_FOUND).await;
}

#[tokio::test]
async fn the_audit_tail_starts_now_or_where_it_was_left() {
    let stage = stage().await;
    let mut of_empty_log = Stream::open(&stage, "/api/v1/audit/stream", None).await;
    stage.kernel.add_audit_records(250);
    assert_eq!(of_empty_log.next().await.unwrap().0, 0, "the first record of all is not skipped");
    let mut tail = Stream::open(&stage, "/api/v1/audit/stream", None).await;
    stage.kernel.add_audit_records(2);
    assert_eq!(tail.next().await.unwrap().0, 250);
    assert_eq!(tail.next().await.unwrap().0, 251);
    let whole = Stream::open(&stage, "/api/v1/audit/stream?after_seq=-1", None).await;
    let resumed = Stream::open(&stage, "/api/v1/audit/stream?after_seq=-1", Some(10)).await;
    for (mut stream, first) in [(whole, 0), (resumed, 11)] {
        for seq in first..=251 {
            assert_eq!(stream.next().await.unwrap().0, seq);
        }
    }
    expect_problem(stage.admin("GET", "/api/v1/audit/stream?after_seq=-2"), Code::AUDIT_QUERY_INVALID).await;
}

#[tokio::test]
async fn a_revoked_token_loses_its_streams() {
    let stage =
        stage_with(agentos_gateway::GatewayOptions { request_timeout: Duration::from_millis(300), ..options() }).await;
    let id = stage.kernel.add_task(1);
    stage.kernel.add_event(&id, "progress", json!({}));
    let mut events = Stream::open(&stage, &events_of(&id), None).await;
    let mut audit = Stream::open(&stage, "/api/v1/audit/stream", Some(0)).await;
    assert!(events.next().await.is_some());
    stage.kernel.with(|state| state.revoked.push(token_of(Scope::Admin)));
    assert!(events.next().await.is_none());
    assert!(audit.next().await.is_none());
}
