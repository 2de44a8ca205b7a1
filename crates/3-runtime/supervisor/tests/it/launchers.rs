//! Launchers that end or never start: no agent and no task is blamed for it, and who brings it about is found out.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use agentos_protocol::sandbox::{Profile, SANDBOX_VERSION};
use agentos_supervisor::{AgentCommand, Command, STARTS_AT_ONCE};
use agentos_types::{AgentName, Code, agent::AgentState};
use rustix::{
    fs::{FileType, Mode},
    process::{Pid, Signal, kill_process},
};
use serde_json::json;

use crate::harness::{World, launcher};

/// Becomes the launcher once the file at `count` has come down to 0. Until then each start of it does `instead`.
fn reluctant(directory: &Path, starts: u32, instead: &str) -> PathBuf {
    let (program, count, real) = (directory.join("launcher"), directory.join("count"), launcher());
    fs::write(&count, starts.to_string()).unwrap();
    let text = format!(
        "#!/usr/bin/python3
import fcntl, json, os, signal, socket, sys
with open('{}', 'r+') as count:
    fcntl.flock(count, fcntl.LOCK_EX)
    left = int(count.read())
    count.seek(0)
    count.write(str(max(left - 1, 0)))
    count.truncate()
if left == 0:
    os.execv('{}', sys.argv)
{instead}
",
        count.display(),
        real.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn events(world: &World, agent: &str, event: &str) -> usize {
    let audit = world.audit.lock().unwrap();
    let of_agent = audit.iter().filter(|row| row.action == "agent.state" && row.resource == agent);
    of_agent.filter(|row| row.facts["event"] == event).count()
}

/// After `starts` launchers that were of no use, the agent is well and its task is at its first attempt.
async fn check_blameless(starts: u32, instead: &str, code: Code) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::with_launcher(reluctant(directory.path(), starts, instead)).await;
    let deployment = world.package("innocent", json!({"health": {"failures_max": 1}}));
    let agent = deployment.manifest.name.clone();
    let deploy = world.supervisor.deploy(&agentos_types::Actor::System, deployment);
    deploy.await.unwrap();
    let output = world.output(&agent, json!({"say": "here"})).await;
    assert_eq!(output["attempt"], 1, "a task that waited has lost nothing");
    assert_eq!(events(&world, "innocent", "launcher-lost"), usize::try_from(starts).unwrap());
    assert!(!world.transitions("innocent").contains(&"quarantined".to_owned()));
    let audit = world.audit.lock().unwrap().clone();
    let lost = audit.iter().find(|row| row.facts.get("event") == Some(&json!("launcher-lost"))).unwrap();
    assert!(lost.facts["reason"].as_str().unwrap().starts_with(&code.to_string()), "{lost:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_die_while_an_agent_starts_cost_neither_agent_nor_task_anything() {
    let dies = format!(
        "
channel = socket.socket(fileno=os.dup(0))
profile = sys.argv[sys.argv.index('--profile') + 1]
channel.send(json.dumps({{'type': 'ready', 'version': {SANDBOX_VERSION}, 'profile': profile, 'layers': []}}).encode())
channel.recv(1 << 20)
os.kill(os.getpid(), signal.SIGKILL)"
    );
    check_blameless(3, &dies, Code::LAUNCHER_LOST).await;
}

/// More often than what would find out an agent that ends launchers.
#[tokio::test(flavor = "multi_thread")]
async fn that_never_start_are_waited_for() {
    check_blameless(6, "sys.exit(1)", Code::LAUNCHER_NOT_READY).await;
}

/// One that does not get ready keeps every start waiting, so that those whose turn has not come can be seen.
#[tokio::test(flavor = "multi_thread")]
async fn that_take_their_time_have_only_some_agents_waiting_and_the_others_obey_meanwhile() {
    const WAITING: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let waits = format!("open('{}').read()\nos.execv('{}', sys.argv)", gate.display(), launcher().display());
    let world = World::with_launcher(reluctant(directory.path(), 1, &waits)).await;
    let mut agents = Vec::new();
    for number in 0..STARTS_AT_ONCE + WAITING {
        agents.push(world.deploy(&format!("agent-{number}"), json!({})).await);
    }
    let begun = |agent: &AgentName| world.directory.join("work").join(agent.as_str()).exists();
    let count = || agents.iter().filter(|agent| begun(agent)).count();
    world.until("starts", async || (count() == STARTS_AT_ONCE).then_some(())).await;
    let (begun, waiting): (Vec<_>, Vec<_>) = agents.iter().partition(|agent| begun(agent));
    let [paused, ended, others @ ..] = waiting.as_slice() else { panic!("all of them have begun") };
    assert_eq!(world.command(paused, AgentCommand::Pause).await.unwrap().state, AgentState::Paused);
    assert_eq!(world.command(ended, AgentCommand::Terminate).await.unwrap().state, AgentState::Terminated);
    assert_eq!(count(), STARTS_AT_ONCE, "nobody's turn has come");
    tokio::task::spawn_blocking(move || fs::write(gate, "")).await.unwrap().unwrap();
    for agent in begun.iter().chain(others) {
        world.in_state(agent, AgentState::Ready).await;
    }
    assert_eq!(count(), agents.len() - 2, "who was paused or ended did not start");
    world.command(paused, AgentCommand::Resume).await.unwrap();
    world.in_state(paused, AgentState::Ready).await;
    world.stop().await;
}

/// The process that has made this sandbox.
fn launcher_of(init: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{init}/status")).ok()?;
    let parent: u32 = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    // Without its launcher it has another parent until it is buried.
    let program = fs::read_link(format!("/proc/{parent}/exe")).ok()?;
    (program == launcher()).then_some(parent)
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn that_one_agent_ends_again_and_again_find_it_out_and_the_others_go_on() {
    let world = World::new().await;
    let guilty = world.deploy("guilty", json!({"health": {"failures_max": 100}})).await;
    let others: Vec<AgentName> = [world.deploy("one", json!({})).await, world.deploy("two", json!({})).await].into();
    for other in &others {
        world.in_state(other, AgentState::Ready).await;
    }
    let mut ended = Vec::new();
    let found_out = world.until("a quarantine", async || {
        let now = world.agent(&guilty).await;
        match (now.state, now.pid.and_then(launcher_of)) {
            (AgentState::Quarantined, _) => return Some(now),
            (AgentState::Ready, Some(launcher)) => kill(launcher),
            _ => {}
        }
        None
    });
    let reason = found_out.await.reason.unwrap();
    assert!(reason.starts_with(&Code::LAUNCHER_ENDANGERED.to_string()), "{reason}");
    assert_eq!(events(&world, "guilty", "launcher-lost"), 5, "bounded");
    for other in &others {
        assert_eq!(world.output(other, json!({"say": "on"})).await["said"], "on");
        ended.push(events(&world, other.as_str(), "launcher-lost"));
    }
    assert!(ended.iter().all(|count| (1..5).contains(count)), "each has lost the common one: {ended:?}");
    world.command(&guilty, AgentCommand::Restart).await.unwrap();
    world.in_state(&guilty, AgentState::Ready).await;
    world.stop().await;
}

/// The commands of an agent may be made by another launcher than itself.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_command_count_for_the_agent_whose_it_was() {
    let world = World::new().await;
    let agent = world.deploy("debugs", json!({"sandbox": {"profile": "dev"}})).await;
    let first = world.in_state(&agent, AgentState::Ready).await;
    let command = Command {
        agent: agent.clone(),
        words: ["/bin/sh", "-c", "touch /workspace/runs; sleep 1000"].map(str::to_owned).into(),
        file: None,
        stdin: Vec::new(),
        timeout: Duration::from_secs(60),
        output_bytes: 1_024,
    };
    let ends = async {
        let runs = world.directory.join("work/debugs/runs");
        world.until("the command", async || runs.exists().then_some(())).await;
        kill(world.sandboxes.launcher_pid(Profile::Agent).await.unwrap());
    };
    let (report, ()) = tokio::join!(world.commands.run(command), ends);
    assert_eq!(report.unwrap_err().code, Code::LAUNCHER_LOST);
    let lost = async || (events(&world, "debugs", "launcher-lost") == 1).then_some(());
    world.until("a loss", lost).await;
    assert_ne!(world.in_state(&agent, AgentState::Ready).await.instance, first.instance);
    world.stop().await;
}
