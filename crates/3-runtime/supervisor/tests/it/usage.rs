//! What an agent uses is counted, also where nothing but we count it.

use std::time::Duration;

use agentos_supervisor::Command;
use agentos_types::agent::AgentState;
use serde_json::json;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn commands_count_for_their_agent_where_no_group_counts_them() {
    let world = World::without_groups().await;
    let agent = world.deploy("counted", json!({})).await;
    world.in_state(&agent, AgentState::Ready).await;
    let before = world.agent(&agent).await.usage.cpu_ms;
    let counts = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let command = Command {
        agent: agent.clone(),
        words: ["/bin/sh", "-c", counts].map(str::to_owned).into(),
        file: None,
        stdin: Vec::new(),
        timeout: Duration::from_secs(60),
        output_bytes: 1_024,
    };
    let used = world.commands.run(command).await.unwrap().cpu.as_millis();
    assert!(used > 0, "it has counted to something");
    let after = world.agent(&agent).await.usage.cpu_ms;
    assert!(u128::from(after) >= u128::from(before) + used, "{after} ms after {before} ms and a command of {used} ms");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_emptied_is_told_as_empty() {
    let world = World::new().await;
    let agent = world.deploy("tidies", json!({})).await;
    let bytes = async || world.agent(&agent).await.usage.workspace_bytes;
    world.output(&agent, json!({"do": "shell", "script": "head -c 1048576 /dev/zero > big; sync big"})).await;
    world.until("a full one", async || (bytes().await >= 1 << 20).then_some(())).await;
    world.output(&agent, json!({"do": "shell", "script": "rm big"})).await;
    world.until("an empty one", async || (bytes().await == 0).then_some(())).await;
    world.stop().await;
}
