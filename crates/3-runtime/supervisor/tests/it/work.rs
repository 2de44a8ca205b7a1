//! What a worker may do, and what it finds in its process.

use agentos_types::{
    agent::AgentState,
    task::{ErrorClass, TaskState},
};
use serde_json::{Value, json};

use crate::harness::{World, environment, name};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_to_its_worker_and_comes_back() {
    let world = World::new().await;
    let agent = world.deploy("echo", json!({})).await;
    let output = world.output(&agent, json!({"say": "hello"})).await;
    assert_eq!((&output["said"], &output["attempt"]), (&json!("hello"), &json!(1)));
    assert!(crate::harness::is_alive(world.agent(&agent).await.pid.unwrap()));
    assert_eq!(world.transitions("echo")[..3], ["starting", "ready", "running"]);
    // After a pause without work the agent is idle again, which is written and audited.
    world.in_state(&agent, AgentState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_run_through_one_process() {
    let world = World::new().await;
    let agent = world.deploy("echo", json!({})).await;
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(world.submit(&agent, json!({"say": n})).await);
    }
    let mut lives = std::collections::HashSet::new();
    for (n, id) in ids.iter().enumerate() {
        let output = world.finished(id).await.output.unwrap();
        assert_eq!(output["said"], json!(n));
        lives.insert(output["life"].to_string());
    }
    assert_eq!(lives.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_reach_the_monitor_under_the_agents_own_name() {
    let world = World::new().await;
    let agent = world.deploy("caller", json!({})).await;
    let output = world.output(&agent, json!({"do": "call", "args": {"key": "x"}})).await;
    assert_eq!(output, json!({"ok": {"caller": "caller", "args": {"key": "x"}}}));
    assert_eq!(world.monitor.seen.lock().unwrap()[0].0, "kv.get");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_a_task_of_somebody_else_never_reaches_the_monitor() {
    let world = World::new().await;
    let agent = world.deploy("thief", json!({})).await;
    let output = world.output(&agent, json!({"do": "foreign-call"})).await;
    assert_eq!(output, json!({"error": "AOS-1406"}));
    assert!(world.monitor.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_the_agent_reports_is_the_tasks() {
    let world = World::new().await;
    let agent = world.deploy("fails", json!({})).await;
    let task = world.finished(&world.submit(&agent, json!({"do": "fail"})).await).await;
    let failure = task.failure.unwrap();
    assert_eq!((task.state, failure.class), (TaskState::Failed, ErrorClass::Permanent));
    assert_eq!(failure.message, "cannot do that");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_keeps_its_order_and_comes_before_the_end() {
    let world = World::new().await;
    let agent = world.deploy("parts", json!({})).await;
    let id = world.submit(&agent, json!({"do": "progress", "parts": 100})).await;
    world.finished(&id).await;
    let events = world.tasks.events(&id, 0, 500).await.unwrap();
    let parts: Vec<_> =
        events.iter().filter(|event| event.kind == "progress").map(|event| event.data["part"].clone()).collect();
    assert_eq!(parts, (0..100).map(Value::from).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap().kind, "state");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_servers_is_in_a_worker() {
    let world = World::new().await;
    let agent = world.deploy("looks", environment(&[("MODE", "good"), ("OWN", "yes")])).await;
    let output = world.output(&agent, json!({"do": "environ"})).await;
    let environ = output["environ"].as_object().unwrap();
    let expected = [
        ("HOME", "/workspace"),
        ("LANG", "C.UTF-8"),
        ("MODE", "good"),
        ("OWN", "yes"),
        ("TMPDIR", "/tmp"),
        ("USER", "agent"),
    ];
    for (name, value) in expected {
        assert_eq!(environ[name], value, "{name}");
    }
    let own = std::env::vars().filter(|(_, value)| value.len() > 8);
    let leaked: Vec<_> = own.filter(|(name, value)| environ.get(name) == Some(&json!(value))).collect();
    assert!(leaked.iter().all(|(name, _)| name == "PATH"), "{leaked:?}");
    assert_eq!(output["cwd"], "/workspace");
    // Four descriptors, and the one with which the worker looked.
    assert_eq!(output["fds"], json!(["0", "1", "2", "3", "4"]));
    let work = std::fs::metadata(world.directory.join("work/looks")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&work.permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_prints_is_kept_redacted_and_bounded() {
    let world = World::new().await;
    let agent = world.deploy("prints", json!({})).await;
    world.output(&agent, json!({"do": "print", "say": "it is planted-secret-value"})).await;
    world
        .until("printed lines", async || {
            let logs = world.logs(&agent).await;
            let both = ["stdout: it is [redacted]", "stderr: to stderr"];
            both.iter().all(|line| logs.iter().any(|found| found == line)).then_some(())
        })
        .await;
    // A flood neither blocks the worker nor is kept.
    assert_eq!(world.output(&agent, json!({"do": "flood"})).await, "flooded");
    let lines = world.supervisor.logs(&agent, usize::MAX).await.unwrap();
    assert!(lines.len() <= 1_000 && lines.iter().all(|line| line.text.len() < 9_000));
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_uses_is_counted_and_stays_counted() {
    let world = World::new().await;
    let agent = world.deploy("burns", json!({})).await;
    world.output(&agent, json!({"do": "burn"})).await;
    let alive = world.agent(&agent).await.usage;
    assert!(alive.cpu_ms >= 250 && alive.memory_bytes > 1 << 20 && alive.memory_peak_bytes >= alive.memory_bytes);
    world.submit(&agent, json!({"do": "exit-once"})).await;
    world.until("a restart", async || (world.agent(&agent).await.restarts > 0).then_some(())).await;
    assert!(world.agent(&agent).await.usage.cpu_ms >= alive.cpu_ms);
    let row = world.store.read(|conn| agentos_supervisor::agents::get(conn, &name("burns"))).await.unwrap();
    assert!(row.usage.cpu_ms >= alive.cpu_ms, "the row keeps it for the next server: {:?}", row.usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_somebody_else_holds_is_let_go() {
    let world = World::new().await;
    let agent = world.deploy("loses", json!({})).await;
    let id = world.submit(&agent, json!({"do": "wait"})).await;
    let before = world.in_state(&agent, AgentState::Running).await;
    take_over(&world).await;
    // The next renewal notices, the worker is told and answers; its late answer changes nothing.
    let after = world.in_state(&agent, AgentState::Ready).await;
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
    assert_eq!(world.tasks.get(&id).await.unwrap().state, TaskState::Working);
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_let_go_of_a_lost_task_is_ended() {
    let world = World::new().await;
    let agent = world.deploy("keeps", json!({})).await;
    let id = world.submit(&agent, json!({"do": "stubborn"})).await;
    let before = world.in_state(&agent, AgentState::Running).await;
    take_over(&world).await;
    world.gone(before.pid.unwrap()).await;
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
    assert_eq!(world.tasks.get(&id).await.unwrap().state, TaskState::Working);
}

/// Another node has taken over what is being worked on: the fence has moved on.
async fn take_over(world: &World) {
    let sql = "UPDATE task SET fence = fence + 1, lease_node = 'other' WHERE state = 'working'";
    assert_eq!(world.store.write(|tx| tx.execute(sql, &[])).await, Ok(1));
}
