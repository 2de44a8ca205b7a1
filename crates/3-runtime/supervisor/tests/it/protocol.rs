//! Every way to break the protocol ends in a coded error for the task and a fresh worker for the next one.

use agentos_tasks::NewTask;
use agentos_types::{Actor, Code, task::TaskState};
use serde_json::{Value, json};

use crate::harness::World;

/// A breach during work: the attempt fails with the code, then the agent works again.
async fn check_work(deed: &str, code: Code, part: &str) {
    let world = World::new().await;
    let agent = world.deploy("breaks", json!({})).await;
    let new = NewTask { attempts_max: Some(1), ..NewTask::new(agent.clone(), json!({"do": deed})) };
    let id = world.tasks.submit(&Actor::System, new).await.unwrap().task.id;
    let task = world.finished(&id).await;
    let failure = task.failure.clone().unwrap();
    assert_eq!((task.state, failure.code), (TaskState::Failed, Some(code)), "{deed}: {task:?}");
    assert!(failure.message.contains(part), "{deed}: '{}' lacks '{part}'", failure.message);
    assert_eq!(world.output(&agent, json!({"say": "again"})).await["said"], "again", "{deed}");
}

/// A breach before any work: the task that waits is told.
async fn check_start(change: Value, code: Code, part: &str) {
    let world = World::new().await;
    let agent = world.deploy("breaks", change.clone()).await;
    let id = world.submit(&agent, json!({"say": "hello"})).await;
    let failure = world.failed_once(&id).await.failure.unwrap();
    assert_eq!(failure.code, Some(code), "{change}: {failure:?}");
    assert!(failure.message.contains(part), "{change}: '{}' lacks '{part}'", failure.message);
    let shown = world.until("a reason", async || world.agent(&agent).await.reason).await;
    assert!(shown.contains(part) || shown.contains("failures in a row"), "{shown}");
}

fn mode(mode: &str) -> Value {
    json!({"environment": {"MODE": mode}})
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frame() {
    check_work("garbage", Code::FRAME_MALFORMED, "not valid").await;
    check_work("deep", Code::FRAME_MALFORMED, "nested deeper than 64").await;
    check_work("partial", Code::FRAME_MALFORMED, "in the middle of a frame").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_above_the_limit() {
    check_work("print-to-socket", Code::FRAME_TOO_LARGE, "above the limit of 4194304 bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_order() {
    check_work("hello-again", Code::PROTOCOL_ORDER, "'hello' is not allowed here").await;
    check_work("foreign-done", Code::PROTOCOL_ORDER, "does not hold").await;
    check_work("unasked-pong", Code::PROTOCOL_ORDER, "'pong'").await;
    check_work("unasked-cancel", Code::PROTOCOL_ORDER, "nobody asked to cancel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_bound() {
    check_work("too-many-calls", Code::PROTOCOL_ORDER, "more than 64 calls").await;
    check_work("same-call-twice", Code::PROTOCOL_ORDER, "call 1 is open already").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_fail() {
    check_start(mode("version"), Code::PROTOCOL_VERSION, "protocol 99").await;
    check_start(mode("ready-first"), Code::PROTOCOL_ORDER, "'ready' is not allowed before 'hello'").await;
    check_start(mode("garbage"), Code::FRAME_TOO_LARGE, "above the limit").await;
    let silent = json!({"environment": {"MODE": "silent"}, "health": {"start_timeout_ms": 300}});
    check_start(silent, Code::WORKER_SILENT, "did not say hello within 300 ms").await;
    // Long enough for an interpreter to start on a busy machine and say hello.
    let unready = json!({"environment": {"MODE": "unready"}, "health": {"start_timeout_ms": 3000}});
    check_start(unready, Code::WORKER_SILENT, "did not say ready within 3000 ms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_the_launcher_cannot_start() {
    check_start(json!({"command": ["/does/not/exist"]}), Code::LAUNCH_FAILED, "execute: /does/not/exist").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_told_before_it_is_killed() {
    let world = World::new().await;
    let agent = world.deploy("told", json!({})).await;
    let id = world.submit(&agent, json!({"do": "foreign-done"})).await;
    world.finished(&id).await;
    let logs = world.logs(&agent).await;
    assert!(logs.iter().any(|line| line.contains("AOS-1504")), "{logs:#?}");
}
