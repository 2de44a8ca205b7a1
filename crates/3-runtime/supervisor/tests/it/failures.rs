//! Crashes and hangs: the worker comes back, its tasks go on, nobody else notices.

use agentos_supervisor::AgentCommand;
use agentos_types::{Code, agent::AgentState, task::TaskState};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::harness::{World, environment};

/// A task whose first attempt ends in a failure is done by the second, in another process.
async fn check(input: Value, manifest: Value) -> Duration {
    let world = World::new().await;
    let agent = world.deploy("falls", manifest).await;
    let first = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    let start = Instant::now();
    let output = world.output(&agent, input).await;
    assert_eq!(output["attempt"], 2);
    world.gone(first).await;
    let after = world.agent(&agent).await;
    assert_eq!(after.restarts, 1);
    assert_ne!(after.pid, Some(first), "another process");
    assert!(world.transitions("falls").contains(&"backing-off".to_owned()));
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_exits_is_restarted_at_once() {
    check(json!({"do": "exit-once"}), json!({})).await;
    check(json!({"do": "exit-once", "code": 0}), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_restarted_at_once() {
    check(json!({"do": "kill-once"}), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_killed_when_its_heartbeat_is_late() {
    let took = check(json!({"do": "hang-once"}), json!({"health": {"heartbeat_ms": 1000}})).await;
    assert!(took >= Duration::from_millis(1000), "not before its time: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_is_told_in_code_and_words() {
    let world = World::new().await;
    let agent = world.deploy("falls", json!({})).await;
    let id = world.submit(&agent, json!({"do": "exit", "code": 7})).await;
    let task = world.finished(&id).await;
    let failure = task.failure.unwrap();
    assert_eq!((task.state, task.attempt, failure.code), (TaskState::Failed, 3, Some(Code::WORKER_EXITED)));
    assert_eq!(failure.message, "the worker exited with status 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_right_before_the_exit_counts() {
    let world = World::new().await;
    let agent = world.deploy("hasty", json!({})).await;
    assert_eq!(world.output(&agent, json!({"do": "done-and-exit"})).await, "last words");
}

#[tokio::test(flavor = "multi_thread")]
async fn grandchildren_die_with_their_worker() {
    let world = World::new().await;
    let agent = world.deploy("parent", json!({})).await;
    let init = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    world.output(&agent, json!({"do": "child"})).await;
    let escaped = world.output(&agent, json!({"do": "daemon"})).await;
    assert_eq!(escaped, "escaped");
    let inside = world.inside(init);
    assert!(inside.len() >= 4, "init, worker, child and daemon: {inside:?}");
    world.submit(&agent, json!({"do": "kill-once"})).await;
    for pid in inside {
        world.gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_lead_into_quarantine_and_a_restart_leads_out() {
    let world = World::new().await;
    let change = json!({"health": {"failures_max": 3}, "environment": {"MODE": "exit"}});
    let agent = world.deploy("breaks", change).await;
    let quarantined = world.in_state(&agent, AgentState::Quarantined).await;
    let reason = quarantined.reason.unwrap();
    assert!(reason.starts_with("AOS-1508: 3 failures in a row (health.failures_max)"), "{reason}");
    assert!(reason.contains("exited with status 3"), "{reason}");
    assert_eq!(quarantined.pid, None);
    let starts = || world.transitions("breaks").iter().filter(|state| *state == "starting").count();
    assert_eq!(starts(), 3);
    let refused = world.command(&agent, AgentCommand::Resume).await.unwrap_err();
    assert_eq!(refused.code, Code::AGENT_STATE);
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    world.in_state(&agent, AgentState::Quarantined).await;
    assert_eq!(starts(), 6, "the count begins anew");
    // A new version that works leads out as well.
    world.deploy("breaks", json!({"version": "1.0.1"})).await;
    assert_eq!(world.output(&agent, json!({"say": "well"})).await["said"], "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_others_do_not_notice_a_rogue() {
    let world = World::new().await;
    let good = world.deploy("good", json!({})).await;
    let rogue = world.deploy("rogue", json!({"health": {"failures_max": 1000, "heartbeat_ms": 300}})).await;
    let deeds = ["exit", "kill", "garbage", "print-to-socket", "hello-again", "too-many-calls", "flood", "hang"];
    let before = world.in_state(&good, AgentState::Ready).await;
    for (n, deed) in deeds.iter().enumerate() {
        world.submit(&rogue, json!({"do": deed})).await;
        assert_eq!(world.output(&good, json!({"say": n})).await["attempt"], 1);
    }
    world.until("rogue restarts", async || (world.agent(&rogue).await.restarts >= 3).then_some(())).await;
    let after = world.agent(&good).await;
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_finished_before_its_task_is_given_back() {
    let world = World::new().await;
    let agent = world.deploy("dies", json!({})).await;
    let id = world.submit(&agent, json!({"do": "call-and-die-once"})).await;
    // The worker is dead and another one is ready, the call is not over yet.
    world.until("a restart", async || (world.agent(&agent).await.restarts == 1).then_some(())).await;
    world.in_state(&agent, AgentState::Ready).await;
    assert_eq!(world.tasks.get(&id).await.unwrap().state, TaskState::Working);
    assert!(world.monitor.finished.lock().unwrap().is_empty());
    world.monitor.bell.notify_one();
    let task = world.finished(&id).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 2));
    assert_eq!(*world.monitor.finished.lock().unwrap(), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_told_to_the_task_that_waits() {
    let world = World::new().await;
    let agent = world.deploy("never", environment(&[("MODE", "exit")])).await;
    let task = world.finished(&world.submit(&agent, json!({})).await).await;
    let failure = task.failure.unwrap();
    assert_eq!((task.state, failure.code), (TaskState::Failed, Some(Code::WORKER_EXITED)));
    assert_eq!(failure.message, "the worker exited with status 3");
}
