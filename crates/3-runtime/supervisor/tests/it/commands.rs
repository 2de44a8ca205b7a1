//! What operators tell agents, and what a stop and a start of the server mean for them.

use agentos_supervisor::AgentCommand;
use agentos_types::{Code, agent::AgentState, task::TaskState};
use serde_json::json;

use agentos_limits::quota::QuotaDriver;

use crate::harness::{NODE, World, is_alive, mounts_below};

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

/// Terminated, it still has its grace; what is deployed over it begins only when nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_over_an_agent_in_its_grace_waits_for_its_end() {
    let world = World::new().await;
    let agent = world.deploy("twice", json!({"environment": {"MODE": "clinging"}})).await;
    let first = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    let inside = world.inside(first);
    world.command(&agent, AgentCommand::Terminate).await.unwrap();
    world.deploy("twice", json!({"version": "1.1.0"})).await;
    let second = world.until("a second life", async || {
        let now = world.agent(&agent).await;
        now.pid.filter(|pid| *pid != first)
    });
    assert_ne!(second.await, first);
    assert!(inside.iter().all(|pid| !is_alive(*pid)), "two lives at once");
    assert_eq!(world.output(&agent, json!({"say": "new"})).await["said"], "new");
    assert_eq!(world.transitions("twice")[..3], ["starting", "ready", "terminated"]);
    // An order to the one that waits is carried out by it.
    world.command(&agent, AgentCommand::Terminate).await.unwrap();
    world.deploy("twice", json!({"version": "1.2.0"})).await;
    assert_eq!(world.command(&agent, AgentCommand::Pause).await.unwrap().state, AgentState::Paused);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_agent_keeps_its_files_and_no_mount() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: a workspace on a disk image needs root");
        return;
    }
    let world = World::with_workspaces(QuotaDriver::Image).await;
    let (agent, other) = (world.deploy("ends", json!({})).await, world.deploy("stays", json!({})).await);
    world.output(&agent, json!({"do": "shell", "script": "echo kept > note"})).await;
    world.in_state(&other, AgentState::Ready).await;
    assert_eq!(mounts_below(&world.directory), 2);
    world.command(&agent, AgentCommand::Terminate).await.unwrap();
    world.until("one mount", async || (mounts_below(&world.directory) == 1).then_some(())).await;
    // Also one that has no process when it is terminated.
    world.command(&other, AgentCommand::Pause).await.unwrap();
    world.command(&other, AgentCommand::Terminate).await.unwrap();
    world.until("no mount", async || (mounts_below(&world.directory) == 0).then_some(())).await;
    world.deploy("ends", json!({"version": "1.1.0"})).await;
    let found = world.output(&agent, json!({"do": "shell", "script": "cat note"})).await;
    assert_eq!(found["out"], "kept\n");
    world.stop().await;
}
