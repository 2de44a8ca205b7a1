//! Submission: what is taken, what is refused, what is the same request.

use agentos_tasks::{Ending, NewTask};
use agentos_types::{
    Actor, Code,
    limits::{JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX},
    notify::Notice,
    task::TaskState,
};
use serde_json::{Value, json};

use super::bench::*;

fn keyed(key: &str, input: Value) -> NewTask {
    NewTask { idempotency_key: Some(key.into()), ..NewTask::new(echo(), input) }
}

#[tokio::test]
async fn a_submission_is_durable_audited_announced_and_has_its_first_event() {
    let bench = bench().await;
    let mut notices = bench.store.subscribe();
    let task = bench.submit().await;
    assert_eq!((task.state, task.attempt, task.attempts_max), (TaskState::Submitted, 0, 3));
    assert_eq!(task.submitted_by, person().label());
    assert_eq!(bench.tasks.get(&task.id).await.unwrap(), task);
    let events = bench.tasks.events(&task.id, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].seq, events[0].kind.as_str()), (1, "state"));
    assert_eq!(events[0].data, json!({"state": "submitted"}));
    assert_eq!(bench.last("task.submit").task, Some(task.id.clone()));
    let expected = vec![Notice::TaskEvents(task.id), Notice::WorkFor(echo())];
    assert_eq!(drain(&mut notices), expected);
}

#[tokio::test]
async fn the_same_key_and_request_give_the_same_task_and_write_nothing() {
    let bench = bench().await;
    let first = bench.tasks.submit(&person(), keyed("k", json!({"a": 1, "b": 2}))).await.unwrap();
    assert!(!first.replayed);
    let claimed = bench.claim().await;
    bench.tasks.finish(&Actor::System, &claimed.lease, Ending::Completed(json!(1))).await.unwrap();
    let (rows, audited) = (bench.count("SELECT count(*) FROM task_event").await, bench.actions());
    let mut notices = bench.store.subscribe();
    let mut again = keyed("k", json!({"b": 2, "a": 1}));
    // Another trace is still the same request, and a full or closed agent does not matter any more.
    again.traceparent = Some(bench.ambient.traceparent());
    bench.sql("UPDATE agent SET state = 'terminated' WHERE name = $1", "echo").await;
    let second = bench.tasks.submit(&person(), again).await.unwrap();
    assert!(second.replayed);
    assert_eq!((second.task.id, second.task.state), (first.task.id, TaskState::Completed));
    assert_eq!(bench.count("SELECT count(*) FROM task").await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM task_event").await, rows);
    assert_eq!(bench.actions(), audited);
    assert!(drain(&mut notices).is_empty());
}

#[tokio::test]
async fn a_key_with_another_request_is_a_conflict_but_keys_of_others_are_their_own() {
    let bench = bench().await;
    bench.deploy("other").await;
    let first = bench.tasks.submit(&person(), keyed("k", json!(1))).await.unwrap().task;
    let changes: [fn(&mut NewTask); 5] = [
        |new| new.input = json!(2),
        |new| new.agent = agent("other"),
        |new| new.attempts_max = Some(9),
        |new| new.run_at = Some(START),
        |new| new.deadline_at = Some(START.after(LEASE)),
    ];
    for change in changes {
        let mut new = keyed("k", json!(1));
        change(&mut new);
        let fault = bench.tasks.submit(&person(), new).await.unwrap_err();
        assert_eq!(fault.code, Code::IDEMPOTENCY_CONFLICT);
    }
    let theirs = bench.tasks.submit(&Actor::System, keyed("k", json!(2))).await.unwrap();
    assert!(!theirs.replayed);
    assert_ne!(theirs.task.id, first.id);
}

#[tokio::test]
async fn concurrent_submissions_with_one_key_make_one_task() {
    let bench = bench().await;
    let submit = || async { bench.tasks.submit(&person(), keyed("k", json!(1))).await.unwrap() };
    let (a, b, c) = tokio::join!(submit(), submit(), submit());
    assert_eq!([&a, &b, &c].iter().filter(|done| !done.replayed).count(), 1);
    assert!(a.task.id == b.task.id && b.task.id == c.task.id);
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_and_leaves_nothing() {
    let bench = bench().await;
    bench.deploy("gone").await;
    bench.sql("UPDATE agent SET desired = 'terminated' WHERE name = $1", "gone").await;
    let base = || NewTask::new(echo(), json!({}));
    let deep = (0..JSON_DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
    let large = json!("x".repeat(PAYLOAD_BYTES_MAX));
    let refused = [
        (NewTask { agent: agent("nobody"), ..base() }, Code::AGENT_NOT_FOUND),
        (NewTask { agent: agent("gone"), ..base() }, Code::AGENT_STATE),
        (NewTask { input: large, ..base() }, Code::PAYLOAD_TOO_LARGE),
        (NewTask { input: deep, ..base() }, Code::BODY_INVALID),
        (NewTask { idempotency_key: Some(String::new()), ..base() }, Code::BODY_INVALID),
        (NewTask { idempotency_key: Some("k".repeat(256)), ..base() }, Code::BODY_INVALID),
        (NewTask { attempts_max: Some(0), ..base() }, Code::BODY_INVALID),
        (NewTask { attempts_max: Some(101), ..base() }, Code::BODY_INVALID),
        (NewTask { deadline_at: Some(START), ..base() }, Code::BODY_INVALID),
        (
            NewTask { run_at: Some(START.after(LEASE)), deadline_at: Some(START.after(LEASE)), ..base() },
            Code::BODY_INVALID,
        ),
    ];
    for (new, code) in refused {
        assert_eq!(bench.tasks.submit(&person(), new).await.unwrap_err().code, code);
    }
    assert_eq!(bench.count("SELECT count(*) FROM task").await, 0);
    assert!(bench.actions().is_empty());
}

#[tokio::test]
async fn a_full_queue_refuses_and_opens_again_when_work_is_taken() {
    let bench = bench_with(agentos_tasks::TasksOptions { queue_max: 3, ..options("node-a") }).await;
    bench.deploy("other").await;
    for _ in 0..3 {
        bench.submit().await;
    }
    for _ in 0..2 {
        let fault = bench.tasks.submit(&person(), NewTask::new(echo(), json!(4))).await.unwrap_err();
        assert_eq!(fault.code, Code::QUEUE_FULL);
        assert!(fault.retry_after.is_some());
    }
    bench.tasks.submit(&person(), NewTask::new(agent("other"), json!(1))).await.unwrap();
    bench.claim().await;
    bench.submit().await;
}

#[tokio::test]
async fn a_task_continues_the_trace_of_its_request() {
    let bench = bench().await;
    let parent = bench.ambient.traceparent();
    let new = NewTask { traceparent: Some(parent.clone()), ..NewTask::new(echo(), json!(1)) };
    let task = bench.tasks.submit(&person(), new).await.unwrap().task;
    let claimed = bench.claim().await;
    assert!(task.traceparent[..35] == parent[..35] && task.traceparent != parent);
    assert!(claimed.lease.traceparent[..35] == parent[..35] && claimed.lease.traceparent != task.traceparent);
}
