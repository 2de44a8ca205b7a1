//! Agents behind their walls under a real server: whatever is killed leaves nothing behind, opens nothing, and the agents come
//! back.

mod deaths;
mod rootless;
mod stopped;
mod traces;

use agentos_kit::{Package, TestOs, groups_of, mounts_below, until};
use agentos_types::{
    AgentName,
    agent::{Agent, AgentState},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::chaos::processes::{self, Process};

const PATIENT: &str = "[health]\nfailures_max = 1000\n";

/// Everything of one server that must not outlive it.
struct Belongings {
    server: u32,
    processes: Vec<Process>,
}

impl Belongings {
    fn of(server: u32) -> Self {
        let launchers = processes::children(server);
        let inits = processes::sandboxes(server);
        let programs = inits.iter().flat_map(|init| processes::children(init.process.pid));
        let all = launchers.iter().copied().chain(inits.iter().copied()).chain(programs);
        Self { server, processes: all.map(|seen| seen.process).collect() }
    }

    async fn are_gone(&self) {
        until("the end of all processes", || async { !self.processes.iter().any(|process| process.lives()) }).await;
    }
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

async fn three_agents(os: &TestOs) -> Vec<Agent> {
    let mut agents = Vec::new();
    for name in ["one", "two", "three"] {
        agents.push(os.deploy(&Package::echo(name, PATIENT)).await);
    }
    agents
}

async fn all_work(os: &TestOs, agents: &[Agent]) {
    for agent in agents {
        os.agent_in(&agent.name, &[AgentState::Ready, AgentState::Running]).await;
        let task = os.run_task(agent.name.as_str(), json!({"say": agent.name})).await;
        assert!(task.state.is_terminal() && task.failure.is_none(), "{task:?}");
    }
}

#[tokio::test]
async fn a_killed_server_leaves_no_orphan_and_its_agents_come_back() {
    let mut os = TestOs::initialised().await.with_real_workspaces();
    os.up().await;
    let agents = three_agents(&os).await;
    all_work(&os, &agents).await;
    let before = Belongings::of(os.server_pid());
    assert!(before.processes.len() > 2 * agents.len(), "launcher, inits and programs: {:?}", before.processes);
    let mounted = mounts_below(os.home());
    os.kill().await;
    before.are_gone().await;
    os.up().await;
    all_work(&os, &agents).await;
    assert_eq!(mounts_below(os.home()), mounted, "each workspace is mounted once, as before");
    let groups = groups_of(before.server);
    assert!(groups.is_empty(), "the next start takes away what was left: {groups:?}");
    let after = Belongings::of(os.server_pid());
    assert_eq!(os.down().await, 0);
    after.are_gone().await;
    assert!(groups_of(after.server).is_empty(), "{:?}", groups_of(after.server));
    assert!(mounts_below(os.home()).is_empty(), "{:?}", mounts_below(os.home()));
}

#[tokio::test]
async fn a_launcher_killed_at_rest_or_while_agents_start_takes_nothing_from_them_for_good() {
    let mut os = TestOs::start().await;
    let agents = three_agents(&os).await;
    all_work(&os, &agents).await;
    let server = os.server_pid();
    let first = Belongings::of(server);
    for launcher in processes::children(server) {
        kill(launcher.process.pid);
    }
    first.are_gone().await;
    all_work(&os, &agents).await;
    // In the middle of starts: every agent is told to begin anew, and its launcher dies under it.
    for _ in 0..5 {
        let client = os.client();
        let restarts =
            agents.iter().map(|agent| client.command_agent(&agent.name, agentos_api::kernel::AgentCommand::Restart));
        let (_, ()) = tokio::join!(futures_util::future::join_all(restarts), async {
            processes::children(server).iter().for_each(|launcher| kill(launcher.process.pid));
        });
    }
    all_work(&os, &agents).await;
    until("one sandbox for each agent", || async { processes::workers(server).len() == agents.len() }).await;
    assert_eq!(os.client().list_agents().await.unwrap().len(), agents.len());
    let all = Belongings::of(server);
    assert_eq!(os.down().await, 0);
    all.are_gone().await;
    assert!(groups_of(all.server).is_empty(), "{:?}", groups_of(all.server));
}

#[tokio::test]
async fn what_an_agent_uses_is_told_everywhere() {
    let os = TestOs::start().await;
    let agent = os.deploy(&Package::echo("counted", "[limits]\nprocesses = 32\n")).await;
    os.run_task("counted", json!({"say": 1})).await;
    let name: AgentName = "counted".parse().unwrap();
    let usage = os.client().get_agent(&name).await.unwrap().usage;
    assert!(usage.memory_bytes > 1 << 20 && usage.cpu_ms > 0, "{usage:?}");
    assert!(usage.processes >= 2 && usage.processes_peak >= usage.processes, "init and program: {usage:?}");
    let shown = os.cli_ok(&["agent", "show", agent.name.as_str()]).await;
    for row in ["of 32, at most", "memory kills", "workspace", "egress"] {
        assert!(shown.contains(row), "'{row}' is missing in {shown}");
    }
    let page = os.client().metrics().await.unwrap();
    for series in [
        "agentos_agent_processes{agent=\"counted\"}",
        "agentos_agent_oom_kills_total{agent=\"counted\"} 0",
        "agentos_agent_workspace_bytes{agent=\"counted\"}",
        "agentos_agent_ends_total{reason=\"memory\"} 0",
    ] {
        assert!(page.contains(series), "{series} is missing in {page}");
    }
}
