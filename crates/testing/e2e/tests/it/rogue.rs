//! Workers that break every rule: the task ends with a clear code, the watchdog acts, and nobody else is harmed.

use agentos_kit::{Package, TestOs, until};
use agentos_types::{
    AgentName, Code,
    agent::AgentState,
    task::{Task, TaskState},
};
use serde_json::{Value, json};

/// Short times and no retries, so that each misdeed ends in one failure.
const STRICT: &str =
    "[health]\nheartbeat_ms = 500\nstart_timeout_ms = 3000\nfailures_max = 1000\n[limits]\nconcurrent_tasks = 2\n";

async fn misbehave(os: &TestOs, input: Value) -> Task {
    let body = serde_json::from_value(json!({"agent": "rogue", "input": input, "attempts_max": 1})).unwrap();
    let id = os.client().submit_task(&body, None).await.unwrap().id;
    os.finished(&id).await
}

#[tokio::test]
async fn each_misdeed_ends_in_its_code_and_a_neighbour_goes_on() {
    let os = TestOs::start().await;
    os.deploy(&Package::rogue("rogue", STRICT)).await;
    let neighbour = os.deploy(&Package::echo("echo", "")).await;
    for (action, code) in [
        (json!({"action": "garbage"}), Code::FRAME_TOO_LARGE),
        (json!({"action": "oversized"}), Code::FRAME_TOO_LARGE),
        (json!({"action": "not-json"}), Code::FRAME_MALFORMED),
        (json!({"action": "unknown-type"}), Code::FRAME_MALFORMED),
        (json!({"action": "too-deep"}), Code::FRAME_MALFORMED),
        (json!({"action": "second-hello"}), Code::PROTOCOL_ORDER),
        (json!({"action": "hang"}), Code::WORKER_SILENT),
        (json!({"action": "spin"}), Code::WORKER_SILENT),
        (json!({"action": "exit", "status": 7}), Code::WORKER_EXITED),
        (json!({"action": "signal", "signal": 9}), Code::WORKER_EXITED),
    ] {
        let task = misbehave(&os, action.clone()).await;
        let failure = task.failure.unwrap_or_else(|| panic!("{action} did not fail: {:?}", task.state));
        let garbage = action["action"] == "garbage" && failure.code == Some(Code::FRAME_MALFORMED);
        assert!(failure.code == Some(code) || garbage, "{action}: {failure:?}");
        let echoed = os.run_task("echo", json!({"action": "echo", "after": action})).await;
        assert_eq!(echoed.state, TaskState::Completed, "the neighbour after {action}");
    }
    let same: AgentName = "echo".parse().unwrap();
    let after = os.client().get_agent(&same).await.unwrap();
    assert_eq!((after.pid, after.restarts), (neighbour.pid, 0), "the neighbour was never restarted");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

#[tokio::test]
async fn calls_that_make_no_sense_are_answered_with_a_code() {
    let os = TestOs::start().await;
    os.deploy(&Package::rogue("rogue", STRICT)).await;
    for (action, code) in [
        ("foreign-task", Code::TASK_UNKNOWN_TO_WORKER),
        ("unknown-call", Code::SYSCALL_UNKNOWN),
        ("bad-arguments", Code::SYSCALL_INVALID),
    ] {
        let task = misbehave(&os, json!({"action": action})).await;
        let text = format!("{:?} {:?}", task.output, task.failure);
        assert!(text.contains(&code.to_string()), "{action}: {text}");
    }
}

#[tokio::test]
async fn a_worker_that_never_becomes_ready_is_quarantined_with_the_reason() {
    for (mode, code) in [
        ("garbage", Code::FRAME_TOO_LARGE),
        ("early-ready", Code::PROTOCOL_ORDER),
        ("wrong-version", Code::PROTOCOL_VERSION),
        ("mute", Code::WORKER_SILENT),
        ("never-ready", Code::WORKER_SILENT),
        ("exit", Code::WORKER_EXITED),
    ] {
        let os = TestOs::start().await;
        let rest = format!(
            "[health]\nheartbeat_ms = 500\nstart_timeout_ms = 500\nfailures_max = 2\n[environment]\nROGUE = \"{mode}\"\n"
        );
        let package = Package::rogue("rogue", &rest);
        let directory = package.path().to_str().unwrap();
        os.cli_ok(&["sign", directory]).await;
        os.cli_ok(&["agent", "deploy", directory]).await;
        let name: AgentName = "rogue".parse().unwrap();
        let agent = os.agent_in(&name, &[AgentState::Quarantined]).await;
        let reason = agent.reason.unwrap_or_default();
        let malformed = mode == "garbage" && reason.contains(&Code::FRAME_MALFORMED.to_string());
        assert!(reason.contains(&code.to_string()) || malformed, "{mode}: {reason}");
    }
}

#[tokio::test]
async fn cancel_is_cooperative_first_and_forced_after_the_grace() {
    let os = TestOs::start_with("[tasks]\ncancel_grace_ms = 300\n").await;
    os.deploy(&Package::rogue("rogue", STRICT)).await;
    os.deploy(&Package::echo("echo", "")).await;
    for (agent, action) in [("echo", "sleep_until_canceled"), ("rogue", "stubborn")] {
        let id = os.submit(agent, json!({"action": action})).await;
        let client = os.client();
        until("the task is working", || async { client.get_task(&id).await.unwrap().state == TaskState::Working })
            .await;
        os.cli_ok(&["task", "cancel", id.as_str()]).await;
        assert_eq!(os.finished(&id).await.state, TaskState::Canceled, "{agent}");
    }
}

#[tokio::test]
async fn a_worker_inherits_nothing() {
    let mut os = TestOs::initialised().await;
    os.set_env("PLANTED_IN_SERVER", "must-not-arrive");
    os.up().await;
    os.deploy(&Package::rogue("rogue", STRICT)).await;
    let seen = misbehave(&os, json!({"action": "look"})).await.output.unwrap();
    let text = seen.to_string();
    assert!(!text.contains("must-not-arrive"), "{text}");
    assert!(!text.contains("AGENT_OS_HOME"), "{text}");
}

#[tokio::test]
async fn a_killed_server_leaves_no_worker_behind() {
    let mut os = TestOs::start().await;
    let agent = os.deploy(&Package::echo("echo", "")).await;
    let process = format!("/proc/{}", agent.pid.unwrap());
    assert!(std::path::Path::new(&process).exists());
    os.kill().await;
    until("the worker is gone", || async { !std::path::Path::new(&process).exists() }).await;
}
