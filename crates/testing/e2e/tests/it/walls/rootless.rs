//! A whole server of an ordinary user: no root, no groups of its own, no mounts of the machine. What holds there holds, and what
//! does not is said.

use std::{fs, path::Path};

use agentos_kit::{PLAIN_USER, Package, TestOs, eventually, until};
use agentos_types::{
    AgentName, Code,
    agent::{Agent, AgentState},
    task::TaskState,
};
use serde_json::{Value, json};

use super::{Belongings, PATIENT};
use crate::{chaos::processes, commands::smith, egress};

const SMITH: &str = "[[grants]]\ncategory = \"shell\"\nactions = [\"exec\"]\nresources = [\"sh *\"]\n\
                     [limits]\nprocesses = 64\nconcurrent_tasks = 2\n[health]\nfailures_max = 1000\n";

async fn agent(os: &TestOs, name: &str) -> Agent {
    os.client().get_agent(&name.parse().unwrap()).await.unwrap()
}

/// Who a process is, and which namespaces it is in, as the kernel says.
fn user(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn line<'l>(lines: &'l Value, name: &str) -> &'l Value {
    lines.as_array().unwrap().iter().find(|line| line["name"] == name).unwrap_or(&Value::Null)
}

/// The words of doctor, held against what the kernel shows of an agent.
async fn doctor_is_truthful(os: &TestOs) {
    let doctor = os.cli_json(&["doctor"]).await;
    let machine = &doctor["machine"];
    let health = os.client().health().await.unwrap();
    assert_eq!(json!(health.isolation), machine["level"]);
    let worker = agent(os, "smith").await.pid.unwrap();
    for (row, file) in [
        ("user namespaces", "user"),
        ("mount namespaces", "mnt"),
        ("process namespaces", "pid"),
        ("network namespaces", "net"),
    ] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{file}")).unwrap();
        let is_apart = of(&worker.to_string()) != of(&os.server_pid().to_string());
        assert_eq!(line(&machine["rows"], row)["standing"] == "present", is_apart, "{row}: {machine}");
    }
    // Nobody but root has users to give, loop devices or quotas; groups may have been handed to this user.
    assert_eq!(user(worker), user(os.server_pid()));
    assert_ne!(line(&machine["rows"], "user for each agent")["standing"], "present", "{machine}");
    let quota = line(&doctor["controls"], "disk quota");
    assert_eq!(quota["enforcement"], "degraded", "{quota}");
    let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let has_group = groups(worker) != groups(os.server_pid());
    let memory = line(&machine["rows"], "memory limit");
    assert_eq!(memory["standing"] == "present", has_group, "{memory}");
    assert_eq!(machine["level"], "reduced", "the workspace is only watched: {machine}");
}

#[tokio::test]
async fn a_server_of_an_ordinary_user_does_its_whole_work_and_comes_back_after_a_kill() {
    let mut scene = egress::Scene::open_as(TestOs::become_plain).await;
    scene.os.deploy(&smith(SMITH)).await;
    assert_eq!(user(scene.os.server_pid()), PLAIN_USER);
    doctor_is_truthful(&scene.os).await;
    for round in 1..=2 {
        let script = format!("id -u; cat rounds 2>/dev/null; echo {round} >> rounds; ls /root 2>&1 | head -c 3");
        let input = json!({"syscall": "shell.exec", "args": {"pipeline": [["sh", "-c", script]]}});
        let done = scene.os.run_task("smith", input).await;
        let kept = if round == 1 { "" } else { "1\n" };
        let output = done.output.unwrap_or_else(|| panic!("{:?}", done.failure));
        assert_eq!(output["stdout"]["text"], format!("1000\n{kept}ls:"), "{output}");
        // A granted host through the proxy, with the credential put in on the way; another one not at all.
        let (code, out, err) = scene.curl(&["https://api.test/v1"]).await;
        assert_eq!((code, out.as_str()), (0, "GET /v1 at api.test"), "{err}");
        assert!(scene.site.requests().last().unwrap().to_lowercase().contains("x-api-key: key correct"));
        assert_ne!(scene.curl(&["https://evil.test/"]).await.0, 0);
        let surfer = agent(&scene.os, egress::AGENT).await;
        assert!(surfer.usage.memory_bytes > 1 << 20 && surfer.usage.processes > 0, "{:?}", surfer.usage);
        eventually("bytes of the way out", || async {
            let usage = agent(&scene.os, egress::AGENT).await.usage;
            if usage.egress_in_bytes > 100 { Ok(()) } else { Err(usage) }
        })
        .await;
        if round == 1 {
            let before = Belongings::of(scene.os.server_pid());
            assert!(before.processes.iter().all(|process| user(process.pid) == PLAIN_USER), "{:?}", before.processes);
            scene.os.kill().await;
            before.are_gone().await;
            scene.os.up().await;
            for name in ["smith", egress::AGENT] {
                scene.os.agent_in(&name.parse().unwrap(), &[AgentState::Ready, AgentState::Running]).await;
            }
        }
    }
    assert!(!scene.site.requests().iter().any(|head| head.contains("evil.test")));
    let last = Belongings::of(scene.os.server_pid());
    assert_eq!(scene.os.down().await, 0);
    last.are_gone().await;
    assert_eq!(scene.os.cli(&["audit", "verify"]).await.code, 0);
}

/// A workspace that is only watched, because nothing better is in reach: no root, no loop device, no quota.
#[tokio::test]
async fn the_watchdog_stops_who_writes_past_its_limit_and_nobody_else() {
    let mut os = TestOs::bare(&[]).with_real_workspaces();
    os.become_plain();
    os.cli_ok(&["init"]).await;
    os.up().await;
    let quota = os.cli_json(&["doctor"]).await;
    assert!(line(&quota["machine"]["rows"], "disk quota")["detail"].as_str().unwrap().contains("watchdog"), "{quota}");
    os.deploy(&Package::echo("neighbour", "")).await;
    let neighbour = agent(&os, "neighbour").await;
    os.deploy(&Package::runner("modest", PATIENT)).await;
    os.deploy(&Package::runner("glutton", "[limits]\nworkspace_bytes = 4194304\n[health]\nfailures_max = 1\n")).await;
    let fill = |bytes: u32| {
        let script = format!("head -c {bytes} /dev/zero > large; sync; echo written; sleep 600");
        json!({"command": ["/bin/sh", "-c", script], "timeout_s": 600})
    };
    // The same work within its limit lives on; it is let go at the end.
    let body = json!({"agent": "modest", "input": fill(8 << 20), "attempts_max": 1});
    let modest = os.client().submit_task(&serde_json::from_value(body).unwrap(), None).await.unwrap();
    let body = json!({"agent": "glutton", "input": fill(8 << 20), "attempts_max": 1});
    let stopped = os.client().submit_task(&serde_json::from_value(body).unwrap(), None).await.unwrap();
    let name: AgentName = "glutton".parse().unwrap();
    let glutton = os.agent_in(&name, &[AgentState::Quarantined]).await;
    let reason = glutton.reason.unwrap();
    for part in [Code::WORKSPACE_LIMIT.to_string().as_str(), "limits.workspace_bytes allows 4194304 bytes"] {
        assert!(reason.contains(part), "the reason lacks '{part}': {reason}");
    }
    let task = os.finished(&stopped.id).await;
    assert_eq!((task.state, task.failure.unwrap().code), (TaskState::Failed, Some(Code::WORKSPACE_LIMIT)));
    assert!(os.cli_ok(&["agent", "show", "glutton"]).await.contains(&Code::WORKSPACE_LIMIT.to_string()));
    let metrics = os.client().metrics().await.unwrap();
    assert!(metrics.contains("agentos_agent_ends_total{reason=\"disk\"} 1"), "{metrics}");
    until("nothing of it runs", || async { processes::workers(os.server_pid()).len() == 2 }).await;
    // What it wrote past its limit does not become more.
    let left = fs::metadata(os.home().join("work/glutton/large")).unwrap().len();
    assert!(left <= 8 << 20, "{left}");

    assert_eq!(os.run_task("neighbour", json!({"say": "here"})).await.output.unwrap()["say"], "here");
    let now = agent(&os, "neighbour").await;
    assert_eq!((now.pid, now.restarts), (neighbour.pid, 0));
    assert_eq!(os.client().get_task(&modest.id).await.unwrap().state, TaskState::Working, "it has room for as much");
    assert_eq!(agent(&os, "modest").await.restarts, 0);
    assert!(Path::new(&os.home().join("work/modest/large")).exists());
    os.client().cancel_task(&modest.id).await.unwrap();
    assert_eq!(os.down().await, 0);
}
