//! What operators tell agents, and what a stop and a start of the server mean for them.

use agentos_supervisor::AgentCommand;
use agentos_types::{Code, agent::AgentState, task::TaskState};
use serde_json::json;

use crate::harness::{NODE, World, is_alive};

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_keeps_the_process_and_takes_no_work() {
    let world = World::new().await;
    let agent = world.deploy("rests", json!({})).await;
    let before = world.in_state(&agent, AgentState::Ready).await.pid;
    let paused = world.command(&agent, AgentCommand::Pause).await.unwrap();
    assert_eq!((paused.state, paused.pid), (AgentState::Paused, before));
    let id = world.submit(&agent, json!({"say": 1})).await;
    // Another agent's whole task passes by; this one's still waits.
    let other = world.deploy("other", json!({})).await;
    world.output(&other, json!({})).await;
    assert_eq!(world.tasks.get(&id).await.unwrap().state, TaskState::Submitted);
    assert_eq!(world.command(&agent, AgentCommand::Pause).await.unwrap_err().code, Code::AGENT_STATE);
    world.command(&agent, AgentCommand::Resume).await.unwrap();
    assert_eq!(world.finished(&id).await.state, TaskState::Completed);
    assert_eq!(world.agent(&agent).await.pid, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_a_pause_comes_back_with_the_resume() {
    let world = World::new().await;
    let agent = world.deploy("rests", json!({})).await;
    let pid = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    world.command(&agent, AgentCommand::Pause).await.unwrap();
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    world.until("no process", async || world.agent(&agent).await.pid.is_none().then_some(())).await;
    world.until("a reason", async || world.agent(&agent).await.reason.map(drop)).await;
    assert_eq!(world.agent(&agent).await.state, AgentState::Paused);
    world.command(&agent, AgentCommand::Resume).await.unwrap();
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_makes_a_new_process_and_gives_the_tasks_to_it() {
    let world = World::new().await;
    let agent = world.deploy("again", json!({})).await;
    let before = world.in_state(&agent, AgentState::Ready).await;
    let id = world.submit(&agent, json!({"do": "wait-once"})).await;
    world.in_state(&agent, AgentState::Running).await;
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    let task = world.finished(&id).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 2));
    let after = world.agent(&agent).await;
    assert!(after.pid != before.pid && after.instance != before.instance);
    assert_eq!(after.restarts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_clings_is_killed_after_the_grace() {
    let world = World::new().await;
    let agent = world.deploy("clings", json!({"environment": {"MODE": "clinging"}})).await;
    let pid = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    world.command(&agent, AgentCommand::Terminate).await.unwrap();
    world.gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_is_final_until_it_is_deployed_anew() {
    let world = World::new().await;
    let agent = world.deploy("ends", json!({})).await;
    let pid = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    assert_eq!(world.command(&agent, AgentCommand::Terminate).await.unwrap().state, AgentState::Terminated);
    world.gone(pid).await;
    world.until("no process", async || world.agent(&agent).await.pid.is_none().then_some(())).await;
    for command in [AgentCommand::Pause, AgentCommand::Resume, AgentCommand::Restart, AgentCommand::Terminate] {
        assert_eq!(world.command(&agent, command).await.unwrap_err().code, Code::AGENT_STATE);
    }
    world.deploy("ends", json!({})).await;
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_the_running_one() {
    let world = World::new().await;
    let agent = world.deploy("grows", json!({})).await;
    let before = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    world.deploy("grows", json!({"version": "1.1.0", "environment": {"NEW": "1"}})).await;
    world.gone(before).await;
    assert_eq!(world.output(&agent, json!({"do": "environ"})).await["environ"]["NEW"], "1");
    assert_eq!(world.agent(&agent).await.version, "1.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_goes_on_where_this_one_stopped() {
    let world = World::new().await;
    let runs = world.deploy("runs", json!({})).await;
    let paused = world.deploy("paused", json!({})).await;
    let pids =
        [world.in_state(&runs, AgentState::Ready).await.pid, world.in_state(&paused, AgentState::Ready).await.pid];
    world.command(&paused, AgentCommand::Pause).await.unwrap();
    let id = world.submit(&runs, json!({"do": "wait"})).await;
    world.in_state(&runs, AgentState::Running).await;
    let temporary = world.stop().await.unwrap();
    assert!(pids.iter().all(|pid| !is_alive(pid.unwrap())));

    let world = World::open(temporary.path()).await;
    let again = world.in_state(&runs, AgentState::Ready).await;
    assert_ne!(again.pid, pids[0]);
    let still = world.agent(&paused).await;
    assert_eq!((still.state, still.pid), (AgentState::Paused, None));
    // The lease was left for the server, which gives it back at its very end.
    assert_eq!(world.tasks.get(&id).await.unwrap().state, TaskState::Working);
    assert_eq!(world.tasks.options().node, NODE);
    world.command(&paused, AgentCommand::Resume).await.unwrap();
    assert_eq!(world.output(&paused, json!({"say": 1})).await["said"], 1);
    world.stop().await;
}
