//! What an agent finds around itself: its own processes, its own files, and no way to anybody else.

use std::net::TcpListener;

use agentos_types::{AgentName, agent::AgentState};
use serde_json::json;

use crate::harness::{FIRST_HOST_ID, World};

/// Standard output of a script that the agent runs.
async fn sh(world: &World, agent: &AgentName, script: &str) -> String {
    let output = world.output(agent, json!({"do": "shell", "script": script})).await;
    format!("{}{}", output["out"].as_str().unwrap(), output["err"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_no_process_but_its_own_and_can_signal_none() {
    let world = World::new().await;
    let (one, other) = (world.deploy("one", json!({})).await, world.deploy("other", json!({})).await);
    let pid = world.in_state(&other, AgentState::Ready).await.pid.unwrap();
    world.in_state(&one, AgentState::Ready).await;
    let seen = sh(&world, &one, "echo /proc/[0-9]* | wc -w").await;
    assert!(seen.trim().parse::<usize>().unwrap() <= 4, "init, worker, shell and echo: {seen}");
    let own = std::process::id();
    for target in [pid, own] {
        let tried = sh(&world, &one, &format!("kill -0 {target}; kill -9 {target}; echo done")).await;
        assert!(tried.contains("done") && tried.matches("o such process").count() == 2, "{tried}");
    }
    let everybody = world.submit(&one, json!({"do": "shell", "script": "kill -9 -1"})).await;
    world.finished(&everybody).await;
    assert!(crate::harness::is_alive(pid), "everybody whom it may signal is itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_neither_the_data_directory_nor_the_files_of_others() {
    let world = World::new().await;
    let (one, other) = (world.deploy("one", json!({})).await, world.deploy("other", json!({})).await);
    sh(&world, &other, "echo private > note").await;
    let root = world.directory.display().to_string();
    for path in [root.clone(), format!("{root}/agent-os.db"), format!("{root}/work/other/note"), "/etc/shadow".into()] {
        let tried = sh(&world, &one, &format!("cat {path}; ls {path}")).await;
        assert!(tried.contains("No such file") && !tried.contains("private"), "{tried}");
    }
    let found = sh(&world, &one, "ls /workspace; cat /proc/self/mountinfo").await;
    assert!(!found.contains("note") && !found.contains("work/other"), "{found}");
    assert_eq!(sh(&world, &other, "cat note").await, "private\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_lasts_and_the_package_is_read_only() {
    let world = World::new().await;
    let agent = world.deploy("keeps", json!({})).await;
    let first =
        sh(&world, &agent, "echo kept > note; id -u; ls /app; echo x > /app/worker.py; touch /usr/x; pwd").await;
    assert!(first.starts_with("1000\nworker.py\n/workspace\n"), "{first}");
    assert_eq!(first.matches("Read-only file system").count(), 2, "{first}");
    let outside =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(world.directory.join("work/keeps/note")).unwrap());
    let own = rustix::process::geteuid();
    let expected = if own.is_root() { FIRST_HOST_ID } else { own.as_raw() };
    assert_eq!(outside, expected, "the first agent has the first number");
    world.submit(&agent, json!({"do": "exit-once"})).await;
    world.until("a restart", async || (world.agent(&agent).await.restarts > 0).then_some(())).await;
    assert_eq!(sh(&world, &agent, "cat note").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_agents_are_the_same_user_and_none_changes_over_a_restart() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root gives each agent a user");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let user = |agent: &str| {
        let path = temporary.path().join("work").join(agent);
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap())
    };
    let world = World::open(temporary.path()).await;
    for name in ["a", "b", "c"] {
        let agent = world.deploy(name, json!({})).await;
        world.in_state(&agent, AgentState::Ready).await;
    }
    let before = ["a", "b", "c"].map(user);
    assert_eq!(before, [FIRST_HOST_ID, FIRST_HOST_ID + 1, FIRST_HOST_ID + 2]);
    world.command(&crate::harness::name("b"), agentos_supervisor::AgentCommand::Terminate).await.unwrap();
    world.stop().await;
    let world = World::open(temporary.path()).await;
    let late = world.deploy("d", json!({})).await;
    world.in_state(&late, AgentState::Ready).await;
    world.in_state(&crate::harness::name("c"), AgentState::Ready).await;
    assert_eq!(["a", "b", "c"].map(user), before);
    assert_eq!(user("d"), FIRST_HOST_ID + 3, "the number of a terminated agent is not given to another");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_leads_out() {
    let world = World::new().await;
    let agent = world.deploy("caged", json!({})).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tries = format!(
        "
import socket
found = []
for family, kind, address in [
    (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', {port})),
    (socket.AF_INET, socket.SOCK_STREAM, ('169.254.169.254', 80)),
    (socket.AF_INET, socket.SOCK_STREAM, ('8.8.8.8', 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ('::1', {port})),
]:
    try:
        with socket.socket(family, kind) as tried:
            tried.settimeout(2)
            tried.connect(address)
            found.append('connected to %s' % (address,))
    except OSError as error:
        pass
for family, kind in [(socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_NETLINK, socket.SOCK_RAW)]:
    try:
        socket.socket(family, kind).close()
        found.append('has a socket of %s' % (family,))
    except OSError as error:
        pass
done(found)
"
    );
    let found = world.output(&agent, json!({"do": "python", "script": tries})).await;
    assert_eq!(found, json!([]));
    assert!(listener.accept().is_err(), "nobody has knocked");
}

/// For development alone, and said so by the machine's table; but an agent runs.
#[tokio::test(flavor = "multi_thread")]
async fn without_walls_an_agent_works_in_the_directories_of_the_host() {
    let world = World::without_walls().await;
    let agent = world.deploy("bare", json!({})).await;
    let work = world.directory.join("work/bare").display().to_string();
    assert_eq!(sh(&world, &agent, "pwd; echo $HOME; echo kept > note").await, format!("{work}\n{work}\n"));
    let init = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    let program = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    let program: u32 = program.split_whitespace().next().unwrap().parse().unwrap();
    world.submit(&agent, json!({"do": "exit-once", "code": 5})).await;
    world.until("a restart", async || (world.agent(&agent).await.restarts > 0).then_some(())).await;
    world.gone(program).await;
    assert!(world.supervisor.ends().any(|(name, count)| name == "exit" && count == 1));
    assert_eq!(sh(&world, &agent, "cat note").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_agents_live_side_by_side_and_leave_nothing() {
    const AGENTS: usize = 100;
    let world = World::new().await;
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let change = json!({"health": {"start_timeout_ms": 120_000, "heartbeat_ms": 60_000}});
        agents.push(world.deploy(&format!("agent-{number}"), change).await);
    }
    let mut inside = Vec::new();
    for agent in &agents {
        inside.extend(world.in_state(agent, AgentState::Ready).await.pid);
    }
    assert_eq!(inside.iter().collect::<std::collections::HashSet<_>>().len(), AGENTS);
    for (number, agent) in agents.iter().enumerate().step_by(10) {
        assert_eq!(world.output(agent, json!({"say": number})).await["said"], json!(number));
    }
    let launcher = world.sandboxes.launcher_pid(agentos_protocol::sandbox::Profile::Agent).await.unwrap();
    world.stop().await;
    assert!(inside.iter().all(|pid| !crate::harness::is_alive(*pid)));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while crate::harness::is_alive(launcher) {
        assert!(tokio::time::Instant::now() < deadline, "the launcher ends with its last handle");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
