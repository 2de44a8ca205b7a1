//! The door to models inside of real sandboxes: who has one, who is behind it, and that it ends with its sandbox.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_egress::control::{Captured, ModelHosts};
use agentos_supervisor::{ModelDoors, Visitor};
use agentos_types::{AgentName, Result, agent::AgentState};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, World};

/// Answers every connection with who is behind it, until it is told to stop.
#[derive(Debug, Default)]
pub struct FakeDoors {
    pub open: Mutex<Vec<CancellationToken>>,
}

impl ModelDoors for FakeDoors {
    fn open(&self, visitor: Visitor, listener: TcpListener, until: CancellationToken) -> Result<()> {
        self.open.lock().unwrap().push(until.clone());
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            while !until.is_cancelled() {
                match listener.accept() {
                    Ok((stream, _)) => answer(stream, &visitor),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(())
    }

    fn hosts(&self, _: Visitor, _: CancellationToken) -> Arc<dyn ModelHosts> {
        Arc::new(NoHosts)
    }
}

/// Nothing leads to the egress proxy here.
struct NoHosts;

impl ModelHosts for NoHosts {
    fn is_provider(&self, _: &str) -> bool {
        false
    }

    fn hosts(&self) -> Vec<String> {
        Vec::new()
    }

    fn serve(&self, captured: &Captured) -> Result<OwnedFd> {
        panic!("{captured:?}")
    }
}

fn answer(mut stream: TcpStream, visitor: &Visitor) {
    stream.set_nonblocking(false).unwrap();
    let mut head = [0; 4_096];
    let _ = stream.read(&mut head);
    let task = visitor.task().map_or("-".to_owned(), |task| task.to_string());
    let local: SocketAddr = stream.local_addr().unwrap();
    let body = format!("{} {task} {}", visitor.caller.agent, local.ip().to_canonical());
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
}

const ASK: &str = r#"python3 -c 'import os, urllib.request as u
print(u.urlopen(os.environ["ANTHROPIC_BASE_URL"] + "/x", timeout=10).read().decode())
print(u.urlopen("http://[::1]:18801/x", timeout=10).read().decode())' 2>&1"#;

fn granted() -> Value {
    json!({"grants": [{"category": "model", "actions": ["call"], "resources": ["fast"]}]})
}

async fn sh(world: &World, agent: &AgentName, script: &str) -> (String, String) {
    let task = world.submit(agent, json!({"do": "shell", "script": script})).await;
    let done = world.finished(&task).await;
    (done.output.unwrap_or_default()["out"].as_str().unwrap_or_default().to_owned(), task.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_an_agent_with_a_grant_are_known_by_the_door_and_by_their_task() {
    let world = World::new().await;
    let agent = world.deploy("thinks", granted()).await;
    let (seen, task) = sh(&world, &agent, ASK).await;
    assert_eq!(seen, format!("thinks {task} 127.0.0.1\nthinks {task} ::1\n"));
    let (keys, _) = sh(&world, &agent, "echo $OPENAI_BASE_URL $OPENAI_API_KEY $ANTHROPIC_API_KEY").await;
    assert_eq!(keys, "http://127.0.0.1:18801/v1 agent-os-placeholder agent-os-placeholder\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_grant_has_no_door() {
    let world = World::new().await;
    let agent = world.deploy("acts", json!({})).await;
    let (seen, _) = sh(&world, &agent, &format!("export ANTHROPIC_BASE_URL=http://127.0.0.1:18801; {ASK}")).await;
    assert!(seen.contains("refused") || seen.contains("Permission denied"), "{seen}");
    assert_eq!(sh(&world, &agent, "echo [$OPENAI_API_KEY]").await.0, "[]\n");
    assert!(world.doors.open.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_ends_with_its_sandbox() {
    let world = World::new().await;
    let agent = world.deploy("thinks", granted()).await;
    let pid = world.in_state(&agent, AgentState::Ready).await.pid.unwrap();
    let first = world.doors.open.lock().unwrap()[0].clone();
    assert!(!first.is_cancelled());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    tokio::time::timeout(PATIENCE, first.cancelled()).await.expect("the door is closed");
    let (seen, task) = sh(&world, &agent, ASK).await;
    assert!(seen.starts_with(&format!("thinks {task}")), "the next life has its own: {seen}");
}
