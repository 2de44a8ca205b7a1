//! `kill -9` of the server, of the launchers and of the egress proxy while commands run, with children in the background: no
//! process outlives what must take it along, nothing is opened, and no command is done a second time unless its caller has
//! said that it may be.

use agentos_kit::{TestOs, eventually, groups_of, mounts_below, until};
use agentos_types::{
    Code, TaskId,
    agent::AgentState,
    task::{Task, TaskState},
};
use serde_json::{Value, json};

use super::{
    kill,
    traces::{Traces, loop_devices, marker},
};
use crate::{chaos::processes, commands::smith, egress};

const GRANTS: &str = r#"
[[grants]]
category = "shell"
actions = ["exec"]
resources = ["sh *"]
[[grants]]
category = "code"
actions = ["run"]
resources = ["bash"]
[limits]
processes = 256
concurrent_tasks = 4
calls_per_minute = 100000
[health]
failures_max = 1
"#;

/// Four commands, as many as an agent may have at once: of each call one that may be repeated and one that may not.
const COMMANDS: [(&str, &str, bool); 4] = [
    ("shell-once", "shell.exec", false),
    ("shell-again", "shell.exec", true),
    ("code-once", "code.run", false),
    ("code-again", "code.run", true),
];
/// The shell that was asked for, and its two children.
const MARKED: usize = 3;

/// Commands under way, and what is to be known of them afterwards.
struct Work {
    tasks: Vec<(&'static str, bool, TaskId)>,
    traces: Traces,
}

impl Work {
    async fn begin(os: &TestOs) -> Self {
        let marker = marker();
        let mut tasks = Vec::new();
        for (name, call, repeatable) in COMMANDS {
            let mut args = json!({"repeatable": repeatable, "timeout_ms": 600_000});
            let script = script(name, &marker);
            match call {
                "shell.exec" => args["pipeline"] = json!([["sh", "-c", script]]),
                _ => (args["language"], args["code"]) = (json!("bash"), json!(script)),
            }
            let body = json!({"agent": "smith", "input": {"syscall": call, "args": args}});
            let task = os.client().submit_task(&serde_json::from_value(body).unwrap(), None).await.unwrap();
            tasks.push((name, repeatable, task.id));
        }
        // The text of `code.run` is a file inside, so that its shell has no marker; its children have.
        let traces = Traces::appeared(&marker, 2 * MARKED + 2 * (MARKED - 1), COMMANDS.len()).await;
        Self { tasks, traces }
    }

    /// What may be repeated was, once; what may not waits for a person, who lets it be done again.
    async fn ended_by_the_rules(&self, os: &TestOs) {
        for (name, _, id) in self.tasks.iter().filter(|(_, repeatable, _)| *repeatable) {
            let task = os.finished(id).await;
            assert_eq!((task.state, task.attempt), (TaskState::Completed, 2), "{name}: {task:?}");
            assert_eq!(task.output.unwrap()["end"], json!({"reason": "exited", "status": 0}), "{name}");
            assert_eq!(begun(os, name).await, 2, "{name}");
        }
        for (name, _, id) in self.tasks.iter().filter(|(_, repeatable, _)| !*repeatable) {
            let task = in_state(os, id, TaskState::InputRequired).await;
            assert_eq!(task.failure.unwrap().code, Some(Code::STEP_IN_DOUBT), "{name}");
            assert_eq!(begun(os, name).await, 1, "{name} was done once");
        }
        for (name, _, id) in self.tasks.iter().filter(|(_, repeatable, _)| !*repeatable) {
            os.client().retry_task(id).await.unwrap();
            assert_eq!(os.finished(id).await.state, TaskState::Completed, "{name}");
            assert_eq!(begun(os, name).await, 2, "{name}");
        }
        self.traces.are_gone_for_good().await;
    }
}

/// Notes that it has begun; the second time that is all. The first time it leaves two children behind, one of them in a
/// session of its own, and waits for a file.
fn script(name: &str, marker: &str) -> String {
    let child = format!("sh -c 'while :; do sleep 1; done' {marker} >/dev/null 2>&1 &");
    format!(
        "echo begun >> {name}; [ \"$(wc -l < {name})\" -gt 1 ] && exit 0\n{child}\nsetsid {child}\n\
         until [ -e go ]; do sleep 0.05; done"
    )
}

async fn begun(os: &TestOs, name: &str) -> usize {
    let task = os.run_task("smith", json!({"syscall": "own", "args": name})).await;
    assert!(task.failure.is_none(), "{task:?}");
    task.output.as_ref().and_then(Value::as_str).unwrap().lines().count()
}

async fn in_state(os: &TestOs, id: &TaskId, state: TaskState) -> Task {
    let client = os.client();
    eventually(&format!("{id} in {state:?}"), || async {
        let task = client.get_task(id).await.map_err(|fault| fault.to_string())?;
        if task.state == state { Ok(task) } else { Err(format!("{task:?}")) }
    })
    .await
}

/// The kernel gives a device back when the last look at what was mounted on it has ended.
async fn nothing_stays(os: &TestOs, server: u32) {
    assert!(groups_of(server).is_empty(), "{:?}", groups_of(server));
    assert!(mounts_below(os.home()).is_empty(), "{:?}", mounts_below(os.home()));
    until("no loop device", || async { loop_devices(os.home()).is_empty() }).await;
}

async fn smith_is_back(os: &TestOs) {
    os.agent_in(&"smith".parse().unwrap(), &[AgentState::Ready, AgentState::Running]).await;
}

#[tokio::test]
async fn a_server_killed_under_commands_leaves_nothing_and_repeats_only_what_may_be() {
    let mut os = TestOs::initialised().await.with_real_workspaces();
    os.up().await;
    os.deploy(&smith(GRANTS)).await;
    let (mounted, loops) = (mounts_below(os.home()), loop_devices(os.home()).len());
    let work = Work::begin(&os).await;
    let killed = os.server_pid();
    os.kill().await;
    // Nobody is left who could tell them to end.
    work.traces.are_gone_for_good().await;
    os.up().await;
    smith_is_back(&os).await;
    work.ended_by_the_rules(&os).await;
    assert_eq!(mounts_below(os.home()), mounted, "each workspace is mounted once, as before");
    assert_eq!(loop_devices(os.home()).len(), loops, "and has its device");
    assert!(groups_of(killed).is_empty(), "{:?}", groups_of(killed));
    let last = os.server_pid();
    assert_eq!(os.down().await, 0);
    nothing_stays(&os, last).await;
    assert_eq!(os.cli(&["audit", "verify"]).await.code, 0);
}

#[tokio::test]
async fn launchers_killed_under_commands_take_them_along_and_are_no_fault_of_the_agent() {
    let mut os = TestOs::initialised().await.with_real_workspaces();
    os.up().await;
    os.deploy(&smith(GRANTS)).await;
    let (server, mounted) = (os.server_pid(), mounts_below(os.home()));
    let groups = groups_of(server);
    let work = Work::begin(&os).await;
    for launcher in processes::children(server) {
        kill(launcher.process.pid);
    }
    work.traces.are_gone().await;
    smith_is_back(&os).await;
    work.ended_by_the_rules(&os).await;
    let name = "smith".parse().unwrap();
    let agent = os.client().get_agent(&name).await.unwrap();
    assert_eq!((agent.restarts, agent.reason), (1, None), "one failure would have ended it");
    until("one sandbox for the agent", || async { processes::workers(server).len() == 1 }).await;
    assert_eq!((mounts_below(os.home()), groups_of(server).len()), (mounted, groups.len()));
    assert_eq!(os.down().await, 0);
    nothing_stays(&os, server).await;
}

#[tokio::test]
async fn a_proxy_killed_under_commands_opens_nothing_and_takes_none_of_them_along() {
    let mut scene = egress::Scene::open().await;
    scene.os.deploy(&smith(GRANTS)).await;
    let (server, worker) = (scene.os.server_pid(), scene.worker_pid().await);
    assert_eq!(scene.curl(&["https://api.test/before"]).await.0, 0);
    let work = Work::begin(&scene.os).await;
    // By the proxy's port, by a name of its own, by the address: all the time that proxies come and go.
    let address = scene.site.address();
    let knock = format!(
        "until [ -e stop ]; do\n\
         curl -sf -m 1 --proxy http://127.0.0.1:3128 http://evil.test/knock && exit 9\n\
         curl -sf -m 1 --resolve evil.test:80:{address} http://evil.test/knock && exit 9\n\
         curl -sf -m 1 -k https://evil.test/knock && exit 9\ndone; exit 0"
    );
    let knocking = scene.os.submit(egress::AGENT, json!({"command": ["/bin/sh", "-c", knock], "timeout_s": 120})).await;
    for _ in 0..3 {
        let proxy = scene.proxy_pid().await;
        kill(proxy);
        until("another proxy", || async { scene.proxy_pid().await != proxy }).await;
    }
    std::fs::write(scene.os.home().join("work").join(egress::AGENT).join("stop"), "").unwrap();
    let knocked = scene.os.finished(&knocking).await;
    assert_eq!(knocked.output.as_ref().unwrap()["code"], 0, "{knocked:?}");
    let requests = scene.site.requests();
    assert!(!requests.iter().any(|head| head.contains("/knock")), "{knocked:?}: {requests:?}");
    assert!(work.traces.all_live(), "the commands have nothing to do with it");
    assert_eq!(scene.curl(&["--retry", "3", "--retry-all-errors", "https://api.test/after"]).await.0, 0);
    assert_eq!(scene.worker_pid().await, worker);
    // All places of the agent are taken, so that the file comes from outside.
    std::fs::write(scene.os.home().join("work/smith/go"), "").unwrap();
    for (name, _, id) in &work.tasks {
        let task = scene.os.finished(id).await;
        assert_eq!((task.state, task.attempt), (TaskState::Completed, 1), "{name}: {task:?}");
        assert_eq!(begun(&scene.os, name).await, 1, "{name}");
    }
    work.traces.are_gone_for_good().await;
    assert_eq!(scene.os.server_pid(), server);
    assert_eq!(scene.os.down().await, 0);
}
