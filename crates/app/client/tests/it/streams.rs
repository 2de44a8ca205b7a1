//! Streams over broken connections: nothing missed, nothing twice, and an end only when the task has ended.

use std::{io, time::Duration};

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_client::{Reconnect, TaskEvents};
use agentos_types::{Code, Fault, TaskId};
use axum::response::Response;
use serde_json::{Value, json};

use crate::server::{Asked, answer, chunks, json, serve};

const AT_ONCE: Reconnect =
    Reconnect { wait_min: Duration::from_millis(1), wait_max: Duration::from_millis(2), attempts_max: 5 };

pub fn task_id() -> TaskId {
    "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap()
}

fn task(state: &str) -> Value {
    json!({"id": task_id(), "agent": "monitor", "state": state, "input": {}, "attempt": 1, "attempts_max": 5,
        "submitted_by": "token:x", "submitted_at": 0, "updated_at": 0, "run_at": 0, "traceparent": "", "redrives": 0})
}

fn event(seq: i64) -> Value {
    json!({"task": task_id(), "seq": seq, "at": 0, "kind": "progress", "data": {"step": seq}})
}

fn state_event(seq: i64, state: &str) -> Value {
    json!({"task": task_id(), "seq": seq, "at": 0, "kind": "state", "data": {"state": state}})
}

fn frame(event: &Value) -> String {
    format!("id: {}\nevent: {}\ndata: {event}\n\n", event["seq"], event["kind"].as_str().unwrap_or("record"))
}

/// A stream with these events, which then breaks in the middle of `torn` or, without it, ends in good order.
fn stream(events: &[Value], torn: Option<&Value>) -> Response {
    let mut text: Vec<io::Result<String>> = vec![Ok(": hello\n\n".into())];
    text.extend(events.iter().map(|event| Ok(frame(event))));
    if let Some(torn) = torn {
        let frame = frame(torn);
        text.push(Ok(frame[..frame.len() - 3].to_owned()));
        text.push(Err(io::Error::other("connection lost")));
    }
    answer(200, "text/event-stream", chunks(text))
}

async fn all(mut events: TaskEvents) -> (Vec<i64>, Option<Fault>) {
    let mut seen = Vec::new();
    loop {
        match events.next().await {
            Ok(Some(event)) => seen.push(event.seq),
            Ok(None) => return (seen, None),
            Err(fault) => return (seen, Some(fault)),
        }
    }
}

fn last_event_ids(asked: &[Asked]) -> Vec<String> {
    asked.iter().filter_map(|asked| asked.header("last-event-id")).collect()
}

#[tokio::test]
async fn a_broken_stream_goes_on_without_gap_or_duplicate() {
    let (client, log) = serve(|_, asked| match asked.header("last-event-id").as_deref() {
        Some("0") => stream(&[event(1), event(2)], Some(&event(3))),
        // A server that starts one too early must not make the reader see an event twice.
        Some("2") => stream(&[event(2), event(3), event(4)], Some(&event(5))),
        Some("4") => stream(&[event(5), state_event(6, "completed")], None),
        None if asked.uri.path().ends_with("/events") => json(&json!({"items": []})),
        _ => json(&task("completed")),
    })
    .await;
    let (seen, fault) = all(client.watch_task(&task_id(), 0).reconnect(AT_ONCE)).await;
    assert_eq!((seen, fault), ((1..=6).collect(), None));
    assert_eq!(last_event_ids(&log.all()), ["0", "2", "4"]);
}

#[tokio::test]
async fn a_redriven_task_is_watched_to_its_real_end() {
    let (client, _) = serve(|number, asked| match (asked.header("last-event-id").as_deref(), number) {
        (Some("0"), _) => stream(&[state_event(1, "failed"), state_event(2, "submitted")], None),
        (Some("2"), _) => stream(&[state_event(3, "failed")], Some(&event(4))),
        // The server closed too early: the rest comes from the listing.
        (None, _) if asked.uri.query() == Some("after_seq=3&limit=500") => {
            json(&json!({"items": [state_event(4, "submitted"), state_event(5, "completed")]}))
        }
        (None, _) if asked.uri.path().ends_with("/events") => json(&json!({"items": []})),
        (None, number) if number < 3 => json(&task("working")),
        _ => json(&task("completed")),
    })
    .await;
    let (seen, fault) = all(client.watch_task(&task_id(), 0).reconnect(AT_ONCE)).await;
    assert_eq!((seen, fault), ((1..=5).collect(), None));
}

#[tokio::test]
async fn a_server_that_stays_away_is_reported() {
    let (client, log) =
        serve(
            |number, _| {
                if number == 0 { stream(&[event(1)], Some(&event(2))) } else { problem(Code::STORE_UNAVAILABLE) }
            },
        )
        .await;
    let (seen, fault) = all(client.watch_task(&task_id(), 0).reconnect(AT_ONCE)).await;
    assert_eq!((seen, fault.unwrap().code), (vec![1], Code::STORE_UNAVAILABLE));
    assert_eq!(log.all().len(), 1 + AT_ONCE.attempts_max as usize);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (client, log) =
        serve(
            |number, _| {
                if number == 0 { stream(&[event(1)], Some(&event(2))) } else { problem(Code::UNAUTHENTICATED) }
            },
        )
        .await;
    let (_, fault) = all(client.watch_task(&task_id(), 0).reconnect(AT_ONCE)).await;
    assert_eq!((fault.unwrap().code, log.all().len()), (Code::UNAUTHENTICATED, 2));
}

fn problem(code: Code) -> Response {
    let problem = Problem::new(&Fault::new(code, "refused"), None);
    answer(problem.status, PROBLEM_JSON, serde_json::to_string(&problem).unwrap())
}

fn record(seq: i64) -> Value {
    json!({"seq": seq, "id": "evt_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "at": 0, "actor": {"kind": "system"}, "action": "a.b",
        "resource": "r", "phase": "fact", "decision": "succeeded", "facts": {}, "leaf_hash": "00"})
}

#[tokio::test]
async fn the_audit_tail_survives_a_restart_of_the_server() {
    let (client, log) = serve(|_, asked| match asked.header("last-event-id").as_deref() {
        None => stream(&[record(8), record(9)], None),
        Some("9") => stream(&[record(10)], Some(&record(11))),
        _ => stream(&[record(11)], None),
    })
    .await;
    let mut tail = client.follow_audit(None).reconnect(AT_ONCE);
    for seq in 8..=11 {
        assert_eq!(tail.next().await.unwrap().seq, seq);
    }
    assert_eq!(last_event_ids(&log.all()), ["9", "10"]);
}
