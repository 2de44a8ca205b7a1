//! Why a worker ended: each reason is provoked for real and told in the agent's state, the log, the audit record and the
//! counters.

use agentos_limits::quota::QuotaDriver;
use agentos_protocol::sandbox::Profile;
use agentos_supervisor::AgentCommand;
use agentos_types::{AgentName, Code, agent::Agent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::World;

async fn failed(world: &World) -> Agent {
    let agent = crate::harness::name("ends");
    let waits = async || Some(world.agent(&agent).await).filter(|agent| agent.reason.is_some());
    world.until("a reason", waits).await
}

/// The worker does it at its only task; then it stays in quarantine, so that its reason can be read at leisure.
async fn check_in(world: &World, limits: Value, deed: &str, ended: &str, message: &str) {
    let agent = world.deploy("ends", json!({"limits": limits, "health": {"failures_max": 1}})).await;
    world.submit(&agent, json!({"do": "python", "script": deed})).await;
    check_told(world, ended, message).await;
}

async fn check_told(world: &World, ended: &str, message: &str) {
    let reason = failed(world).await.reason.unwrap();
    assert!(reason.contains(message), "{reason}: {:?}", world.agent(&crate::harness::name("ends")).await.usage);
    let audit = world.audit.lock().unwrap().clone();
    let told: Vec<_> = audit.iter().filter_map(|event| event.facts.get("ended")?.as_str()).collect();
    assert_eq!(told.first(), Some(&ended), "{reason}");
    assert!(world.supervisor.ends().any(|(name, count)| name == ended && count > 0));
    let agent = crate::harness::name("ends");
    let logged = async || world.logs(&agent).await.iter().any(|line| line.contains(message)).then_some(());
    world.until("a line of the log", logged).await;
}

async fn check(limits: Value, deed: &str, ended: &str, message: &str) {
    check_in(&World::new().await, limits, deed, ended, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_exit_or_a_signal() {
    check(json!({}), "import os; os._exit(7)", "exit", "AOS-1507: the worker exited with status 7").await;
    check(json!({}), "import os; os.abort()", "signal", "the worker was ended by signal 6 (SIGABRT)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_memory() {
    let message = "AOS-1509: the worker was ended at its limit of memory (limits.memory_bytes is 67108864)";
    check(json!({"memory_bytes": 64 << 20}), "b'x' * (512 << 20)", "memory", message).await;
}

/// Where a kill ends the agent as a whole, its next attempt does the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_for_memory_again_and_again_stands_behind_everybody_else() {
    let bomb = "
import os
for _ in range(3):
    child = os.fork()
    if child == 0:
        held = b'x' * (512 << 20)
        os._exit(0)
    os.waitpid(child, 0)
";
    let world = World::new().await;
    let calm = world.deploy("calm", json!({})).await;
    world.output(&calm, json!({"say": 1})).await;
    let agent = world.deploy("bomb", json!({"limits": {"memory_bytes": 64 << 20}})).await;
    world.output(&agent, json!({"say": 1})).await;
    assert_eq!(place_of(&world, &agent).await.as_deref(), Some("0"));
    world.submit(&agent, json!({"do": "python", "script": bomb})).await;
    let is_behind = async || place_of(&world, &agent).await.filter(|place| place == "1");
    world.until("a place behind the others", is_behind).await;
    let told = async || world.logs(&agent).await.iter().any(|line| line.contains("again and again")).then_some(());
    world.until("a line of the log", told).await;
    world.command(&agent, AgentCommand::Restart).await.unwrap();
    world.until("its next life", async || (world.agent(&agent).await.restarts > 0).then_some(())).await;
    world.until("the same place in its next life", is_behind).await;
    assert_eq!(place_of(&world, &calm).await.as_deref(), Some("0"), "nobody else");
}

/// `cpu.idle` of the group of the agent's present life.
async fn place_of(world: &World, agent: &AgentName) -> Option<String> {
    let pid = world.agent(agent).await.pid?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of_cpu = |line: &&str| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|name| name == "cpu"));
    let (root, line) = match groups.lines().find(of_cpu) {
        Some(line) => ("/sys/fs/cgroup/cpu", line),
        None => ("/sys/fs/cgroup", groups.lines().find(|line| line.starts_with("0::"))?),
    };
    let place = std::fs::read_to_string(format!("{root}{}/cpu.idle", line.splitn(3, ':').nth(2)?)).ok()?;
    Some(place.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_processes() {
    let bomb = "
import os, time
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(1000)
except OSError:
    os._exit(1)
";
    let message = "AOS-1509: the worker ended after it was refused processes above its limit (limits.processes is 16)";
    check(json!({"processes": 16}), bomb, "processes", message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_cpu_time() {
    let message = "AOS-1509: the worker was ended at its limit of CPU time (limits.cpu_seconds is 1)";
    check(json!({"cpu_seconds": 1}), "while True: pass", "cpu-time", message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_one_file() {
    // Python ignores the signal, other programs do not.
    let writes = "
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
file = open('big', 'wb')
while True:
    file.write(b'x' * 65536)
";
    check(json!({"file_bytes": 1 << 20}), writes, "file-size", "(limits.file_bytes is 1048576)").await;
}

/// The kernel refuses what does not fit, and the program gives up.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_workspace_is_full() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: a workspace on a disk image needs root");
        return;
    }
    let fills = "
import os
try:
    for number in range(100):
        with open(str(number), 'wb') as file:
            for _ in range(16):
                file.write(b'x' * 65536)
except OSError:
    os._exit(1)
";
    let world = World::with_workspaces(QuotaDriver::Image).await;
    let message = "AOS-1509: the worker ended when its workspace was full (limits.workspace_bytes is 16777216)";
    check_in(&world, json!({"workspace_bytes": 16 << 20}), fills, "disk", message).await;
    world.stop().await;
}

/// Where only measuring is possible, the measurement ends it.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_workspace_is_measured_above_its_bound() {
    let fills = "
import time
with open('big', 'wb') as file:
    file.write(b'x' * (4 << 20))
time.sleep(1000)
";
    let message = "AOS-1540: the workspace holds";
    check(json!({"workspace_bytes": 1 << 20}), fills, "disk", message).await;
}

/// A file without a name takes as much of the disk as one with a name.
#[tokio::test(flavor = "multi_thread")]
async fn when_what_it_has_deleted_and_holds_is_above_the_bound() {
    let holds = "
import os, threading, time
file = open('big', 'wb')
os.unlink('big')
# By a process that another thread than the first one has started.
def start():
    if os.fork() == 0:
        file.write(b'x' * (4 << 20))
        file.flush()
        time.sleep(1000)
threading.Thread(target=start).start()
file.close()
time.sleep(1000)
";
    check(json!({"workspace_bytes": 1 << 20}), holds, "disk", "AOS-1540: the workspace holds").await;
}

#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "multi_thread")]
async fn by_the_system_call_filter() {
    // getpid by the gate of 32-bit programs, which is another table of system calls.
    let foreign = "
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))
ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
";
    check(json!({}), foreign, "seccomp", "AOS-1510: the worker was ended by signal 31 (SIGSYS)").await;
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_somebody_outside() {
    let world = World::new().await;
    let agent = world.deploy("ends", json!({"health": {"failures_max": 1}})).await;
    kill(world.in_state(&agent, agentos_types::agent::AgentState::Ready).await.pid.unwrap());
    check_told(&world, "killed", "AOS-1507: the worker was killed").await;
}

/// It is not to blame: no failure counts against it, and it is back at once.
#[tokio::test(flavor = "multi_thread")]
async fn with_its_launcher() {
    let world = World::new().await;
    let agent = world.deploy("ends", json!({"health": {"failures_max": 1}})).await;
    let first = world.in_state(&agent, agentos_types::agent::AgentState::Ready).await;
    let inside = world.inside(first.pid.unwrap());
    kill(world.sandboxes.launcher_pid(Profile::Agent).await.unwrap());
    let back = async || {
        let now = world.agent(&agent).await;
        (now.restarts == 1 && now.state == agentos_types::agent::AgentState::Ready).then_some(now)
    };
    let now = world.until("a restart", back).await;
    assert_ne!(now.instance, first.instance);
    for pid in inside {
        world.gone(pid).await;
    }
    let audit = world.audit.lock().unwrap().clone();
    let restart = audit.iter().find(|event| event.facts.contains_key("ended")).unwrap();
    assert_eq!((&restart.facts["event"], &restart.facts["ended"]), (&json!("launcher-lost"), &json!("launcher-lost")));
    let reason = restart.facts["reason"].as_str().unwrap();
    assert!(reason.starts_with(&Code::LAUNCHER_LOST.to_string()) && reason.contains("launcher"), "{reason}");
    assert_eq!(world.output(&agent, json!({"say": "here"})).await["said"], "here");
}
