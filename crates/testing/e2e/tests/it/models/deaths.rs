//! `kill -9` of launchers and of the egress proxy under calls from inside of sandboxes: what was asked is settled, agents come
//! back, and calls of models do not depend on the proxy.

use agentos_kit::{Act, ModelServer, Package, eventually, until};
use agentos_types::{agent::AgentState, task::TaskState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    inside::CALL,
    scene::{Provider, Scene},
};
use crate::chaos::processes;

const MANIFEST: &str = "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\"]\n\
                        [[grants]]\ncategory = \"net\"\nactions = [\"connect\"]\nresources = [\"tcp://api.test:443\"]\n\
                        [health]\nfailures_max = 1000\n";
const AGENTS: [&str; 2] = ["one", "two"];

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

async fn scene(server: &ModelServer) -> Scene {
    let scene = Scene::open(&[Provider::openai("alpha", server)], &[("fast", &["alpha/small"])]).await;
    for agent in AGENTS {
        scene.os.deploy(&Package::runner(agent, MANIFEST)).await;
        scene.os.cli_ok(&["budget", "set", &format!("agent:{agent}"), "--per", "total", "--usd", "1"]).await;
    }
    scene
}

fn call() -> Value {
    json!({"command": ["/usr/bin/python3", "-c", CALL, "fast"], "timeout_s": 120})
}

async fn outcomes(scene: &Scene, count: usize) -> Vec<Value> {
    eventually(&format!("{count} outcomes"), || async {
        let outcomes = scene.records_of("outcome").await;
        if outcomes.len() == count { Ok(outcomes) } else { Err(outcomes) }
    })
    .await
}

/// Nothing is held for calls that are over.
async fn are_settled(scene: &Scene) {
    for agent in AGENTS {
        eventually(&format!("all of {agent} is settled"), || async {
            let standing = scene.standing(&format!("agent:{agent}")).await;
            let is_settled = standing["reserved"] == 0 && standing["used"].as_i64() > Some(0);
            if is_settled { Ok(()) } else { Err(standing) }
        })
        .await;
    }
}

#[tokio::test]
async fn launchers_killed_under_calls_stop_the_provider_and_agents_come_back_to_ask_again() {
    let server = ModelServer::start().await;
    let scene = scene(&server).await;
    AGENTS.iter().for_each(|_| server.next(Act::Hold { after: 0 }));
    let mut tasks = Vec::new();
    for agent in AGENTS {
        tasks.push(scene.os.submit(agent, call()).await);
    }
    server.has_generations(AGENTS.len()).await;
    let pid = scene.os.server_pid();
    for launcher in processes::children(pid) {
        kill(launcher.process.pid);
    }
    for number in 0..AGENTS.len() {
        server.is_abandoned(number).await;
    }
    for task in &tasks {
        let task = scene.os.finished(task).await;
        assert_eq!((task.state, task.attempt), (TaskState::Completed, 2), "{task:?}");
        assert!(task.output.unwrap()["out"].as_str().unwrap().starts_with("200 "));
    }
    for agent in AGENTS {
        scene.os.agent_in(&agent.parse().unwrap(), &[AgentState::Ready, AgentState::Running]).await;
    }
    let ends: Vec<Value> =
        outcomes(&scene, 2 * AGENTS.len()).await.iter().map(|outcome| outcome["facts"]["end"].clone()).collect();
    let of = |end: &str| ends.iter().filter(|found| *found == end).count();
    assert_eq!((of("done"), of("abandoned") + of("client-gone")), (AGENTS.len(), AGENTS.len()), "{ends:?}");
    are_settled(&scene).await;
    assert_eq!(scene.os.server_pid(), pid);
    assert_eq!(scene.os.cli_json(&["audit", "verify"]).await["valid"], true);
}

async fn proxy_pid(scene: &Scene) -> u32 {
    eventually("a proxy", || async {
        let health = scene.os.client().health().await.map_err(|fault| fault.to_string())?;
        let row = health.checks.into_iter().find(|check| check.name == "egress proxy answers").ok_or("no such row")?;
        row.message.strip_prefix("process ").and_then(|pid| pid.parse().ok()).ok_or(row.message)
    })
    .await
}

#[tokio::test]
async fn a_proxy_killed_under_calls_is_no_matter_of_theirs() {
    let server = ModelServer::start().await;
    let scene = scene(&server).await;
    server.next(Act::Hold { after: 0 });
    let task = scene.os.submit("one", call()).await;
    server.has_generations(1).await;
    for _ in 0..2 {
        let proxy = proxy_pid(&scene).await;
        kill(proxy);
        until("another proxy", || async { proxy_pid(&scene).await != proxy }).await;
        let other = scene.os.run_task("two", call()).await;
        assert!(other.output.unwrap()["out"].as_str().unwrap().starts_with("200 "), "asked while proxies come and go");
    }
    assert!(!server.asked()[0].is_abandoned, "it is still under way");
    server.release();
    let task = scene.os.finished(&task).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 1), "{task:?}");
    assert!(task.output.unwrap()["out"].as_str().unwrap().starts_with("200 "));
    assert_eq!(server.generations().len(), 3);
    are_settled(&scene).await;
}
