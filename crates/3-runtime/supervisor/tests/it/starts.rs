//! What must hold before a process is made.

use agentos_supervisor::AgentCommand;
use agentos_types::{Actor, Code, agent::AgentState};
use serde_json::json;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_refuses_the_next_start() {
    let world = World::new().await;
    let agent = world.deploy("changed", json!({})).await;
    world.in_state(&agent, AgentState::Ready).await;
    let file = world.directory.join("packages/changed/1.0.0/worker.py");
    let original = std::fs::read(&file).unwrap();
    std::fs::write(&file, "import os; os.system('true')").unwrap();
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    let failed = world.in_state(&agent, AgentState::Failed).await;
    assert!(failed.reason.unwrap().contains(&Code::PACKAGE_MISMATCH.to_string()));
    let audit = world.audit.lock().unwrap().clone();
    let last = audit.iter().rfind(|event| event.action == "agent.state").unwrap();
    assert_eq!((&last.facts["to"], &last.facts["event"]), (&json!("failed"), &json!("refused")));
    std::fs::write(&file, original).unwrap();
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    world.in_state(&agent, AgentState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_manifest_does_not_start() {
    let world = World::new().await;
    let agent = world.deploy("old", json!({"expires_at": 1})).await;
    let failed = world.in_state(&agent, AgentState::Failed).await;
    assert!(failed.reason.unwrap().contains(&Code::MANIFEST_EXPIRED.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_the_manifest_are_those_of_the_process() {
    let world = World::new().await;
    let limits = json!({"open_files": 64, "memory_bytes": 1_u64 << 30, "cpu_seconds": 77, "file_bytes": 1_u64 << 20});
    let agent = world.deploy("bound", json!({"limits": limits})).await;
    let look =
        json!({"do": "shell", "script": "cat /proc/self/limits /proc/self/status; tr '\\0' '\\n' < /proc/1/environ"});
    let seen = world.output(&agent, look).await["out"].as_str().unwrap().to_owned();
    let row =
        |name: &str| seen.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert!(row("Max open files").contains(&"64"), "{seen}");
    assert!(row("Max cpu time").contains(&"77"), "{seen}");
    assert!(row("Max file size").contains(&"1048576"), "{seen}");
    // One byte and not none: a handler of core dumps that is a pipe is started at 0 and not at 1.
    assert!(row("Max core file size").contains(&"1"), "{seen}");
    assert_eq!(row("NoNewPrivs:"), ["NoNewPrivs:", "1"]);
    assert_eq!(row("CapEff:"), ["CapEff:", "0000000000000000"]);
    assert_eq!(row("Seccomp:"), ["Seccomp:", "2"]);
    assert!(!seen.contains("CARGO"), "{seen}");
}

/// A disk that fails for a while is no tampering: the agent waits and comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_cannot_be_read_backs_off_and_starts_when_it_can() {
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let world = World::new().await;
    let change = json!({"files": {"mem": NOTHING}, "health": {"failures_max": 100}});
    let deployment = world.package("unread", change);
    let package = world.directory.join("packages/unread/1.0.0");
    std::fs::write(package.join("mem"), "").unwrap();
    let agent = world.supervisor.deploy(&Actor::System, deployment).await.unwrap().name;
    world.in_state(&agent, AgentState::Ready).await;
    // The kernel's own file of this name is a regular one whose first bytes are an input/output error.
    let kept = world.directory.join("packages/unread/kept");
    std::fs::rename(&package, &kept).unwrap();
    std::os::unix::fs::symlink("/proc/self", &package).unwrap();
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    let waiting = world.in_state(&agent, AgentState::BackingOff).await;
    assert!(waiting.reason.unwrap().contains(&Code::PACKAGE_UNREADABLE.to_string()));
    std::fs::remove_file(&package).unwrap();
    std::fs::rename(&kept, &package).unwrap();
    world.in_state(&agent, AgentState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_only_a_person_can_mend_refuses_the_start_and_says_so() {
    let world = World::new().await;
    let place = world.directory.join("work/blocked");
    std::fs::write(&place, "not a directory").unwrap();
    let agent = world.deploy("blocked", json!({"health": {"failures_max": 100}})).await;
    let failed = world.in_state(&agent, AgentState::Failed).await;
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with(&Code::WORKSPACE_UNAVAILABLE.to_string()) && reason.contains("(remedy: "), "{reason}");
    assert!(!world.transitions("blocked").contains(&"backing-off".to_owned()), "no try was worth it");
    std::fs::remove_file(&place).unwrap();
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    world.in_state(&agent, AgentState::Ready).await;
}
