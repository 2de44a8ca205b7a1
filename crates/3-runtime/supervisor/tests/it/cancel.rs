//! Cancel: asked first, forced after the grace, and never at the cost of another task.

use agentos_types::{Actor, TaskId, agent::AgentState, task::TaskState};
use serde_json::json;

use crate::harness::World;

async fn working(world: &World, id: &TaskId) {
    world
        .until("a working task", async || {
            (world.tasks.get(id).await.unwrap().state == TaskState::Working).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_listens_keeps_its_process() {
    let world = World::new().await;
    let agent = world.deploy("listens", json!({})).await;
    let before = world.in_state(&agent, AgentState::Ready).await.pid;
    let id = world.submit(&agent, json!({"do": "wait"})).await;
    working(&world, &id).await;
    world.tasks.cancel(&Actor::System, &id).await.unwrap();
    assert_eq!(world.finished(&id).await.state, TaskState::Canceled);
    assert_eq!(world.output(&agent, json!({"say": 1})).await["said"], 1);
    assert_eq!(world.agent(&agent).await.pid, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_listen_is_ended_and_its_other_tasks_go_on() {
    let world = World::new().await;
    let agent = world.deploy("deaf", json!({})).await;
    let before = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    let stubborn = world.submit(&agent, json!({"do": "stubborn"})).await;
    let other = world.submit(&agent, json!({"do": "wait-once"})).await;
    working(&world, &stubborn).await;
    working(&world, &other).await;
    world.tasks.cancel(&Actor::System, &stubborn).await.unwrap();
    assert_eq!(world.finished(&stubborn).await.state, TaskState::Canceled);
    let other = world.finished(&other).await;
    assert_eq!((other.state, other.attempt), (TaskState::Completed, 2));
    world.gone(before).await;
    // The forced end is no failure of the agent: it never backed off.
    assert!(!world.transitions("deaf").contains(&"backing-off".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_right_after_the_submit_is_never_lost() {
    let world = World::new().await;
    let agent = world.deploy("races", json!({"limits": {"concurrent_tasks": 64}})).await;
    world.in_state(&agent, AgentState::Ready).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        let id = world.submit(&agent, json!({"do": "wait"})).await;
        world.tasks.cancel(&Actor::System, &id).await.unwrap();
        ids.push(id);
    }
    for id in ids {
        assert_eq!(world.finished(&id).await.state, TaskState::Canceled);
    }
}
