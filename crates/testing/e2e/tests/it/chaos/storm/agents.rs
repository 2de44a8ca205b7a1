//! The agents of the storm, what is done to them, and how they come to rest.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use agentos_api::{
    body::{DeployAgent, SubmitTask},
    kernel::AgentCommand,
};
use agentos_client::Client;
use agentos_kit::{TestOs, eventually};
use agentos_types::{
    AgentName, Code, Result, TaskId,
    agent::{Agent, AgentState},
    task::{Task, TaskState},
};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::{ABREAST, Action, Blow, order, package};
use crate::chaos::processes;

/// A crash costs an attempt of everything that the worker held, and none of that is a task's fault here.
const ATTEMPTS_MAX: i64 = 100;
const FIRST_TASKS: usize = 2;
/// What an agent may answer that somebody else has just changed. Everything else is a defect.
const REFUSALS: &[Code] = &[Code::AGENT_STATE, Code::VERSION_ROLLBACK];

pub struct Chaotic {
    pub name: AgentName,
    version: AtomicU32,
    /// Tasks that the server has acknowledged.
    pub accepted: Mutex<Vec<TaskId>>,
}

pub struct Storm<'os> {
    os: &'os TestOs,
    pub client: Client,
    seed: u64,
    pub agents: Vec<Chaotic>,
}

impl<'os> Storm<'os> {
    /// All deployed and ready, each with its first tasks.
    pub async fn gather(os: &'os TestOs, seed: u64, count: usize) -> Self {
        let agents = (0..count).map(|number| Chaotic {
            name: format!("chaos-{number:03}").parse().unwrap(),
            version: AtomicU32::new(0),
            accepted: Mutex::default(),
        });
        let storm = Self { os, client: os.client(), seed, agents: agents.collect() };
        storm.deploy_all().await;
        storm
    }

    async fn deploy_all(&self) {
        let all = stream::iter(&self.agents);
        all.for_each_concurrent(ABREAST, |agent| async move {
            self.redeploy(agent).await.unwrap();
            self.os.agent_in(&agent.name, &[AgentState::Ready, AgentState::Running]).await;
            for number in 0..FIRST_TASKS {
                self.submit(agent, order("count", None), &format!("first-{number}")).await.unwrap();
            }
        })
        .await;
    }

    /// One action of the plan; `number` is its place there.
    pub async fn perform(&self, number: usize, agent: usize, action: Action) {
        let agent = &self.agents[agent];
        let key = format!("action-{number}");
        let outcome = match action {
            Action::Work => self.submit(agent, order("count", None), &key).await,
            Action::Misbehave(how) => self.submit(agent, order("count", Some(how)), &key).await,
            Action::Strike(blow) => self.strike(agent, blow).await,
            Action::Pause => self.command(agent, AgentCommand::Pause).await,
            Action::Resume => self.command(agent, AgentCommand::Resume).await,
            Action::Restart => self.command(agent, AgentCommand::Restart).await,
            Action::Terminate => self.command(agent, AgentCommand::Terminate).await,
            Action::Redeploy => self.redeploy(agent).await,
        };
        if let Err(fault) = outcome {
            assert!(REFUSALS.contains(&fault.code), "{action:?} of {}: {fault}", agent.name);
        }
    }

    /// Sometimes sent twice with the same key, as a client does that has lost the answer.
    async fn submit(&self, agent: &Chaotic, input: Value, key: &str) -> Result<()> {
        let key = format!("{}-{}-{key}", self.seed, agent.name);
        let body = SubmitTask {
            agent: agent.name.clone(),
            input,
            run_at: None,
            deadline_at: None,
            attempts_max: Some(ATTEMPTS_MAX),
            traceparent: None,
        };
        let task = self.client.submit_task(&body, Some(&key)).await?;
        if key.bytes().map(usize::from).sum::<usize>().is_multiple_of(4) {
            assert_eq!(self.client.submit_task(&body, Some(&key)).await?.id, task.id, "one key, one task");
        }
        agent.accepted.lock().unwrap().push(task.id);
        Ok(())
    }

    async fn strike(&self, agent: &Chaotic, blow: Blow) -> Result<()> {
        if let Some(pid) = self.client.get_agent(&agent.name).await?.pid {
            // It may be gone by now; then somebody else was faster.
            processes::strike(self.os.server_pid(), pid, blow.signal());
        }
        Ok(())
    }

    async fn command(&self, agent: &Chaotic, command: AgentCommand) -> Result<()> {
        self.client.command_agent(&agent.name, command).await.map(|_| ())
    }

    /// The next version. It brings a terminated agent back under its name.
    async fn redeploy(&self, agent: &Chaotic) -> Result<()> {
        let version = agent.version.fetch_add(1, Ordering::Relaxed);
        let package = package(agent.name.as_str(), version);
        let directory = package.path().to_str().unwrap();
        self.os.cli_ok(&["sign", directory]).await;
        let envelope = std::fs::read_to_string(package.path().join("agent.dsse.json")).unwrap();
        self.client.deploy_agent(&DeployAgent { envelope, package: directory.to_owned() }).await.map(|_| ())
    }

    /// Until every agent is at work again and has done all that was accepted for it.
    pub async fn settle(&self) {
        let all = stream::iter(&self.agents);
        all.for_each_concurrent(ABREAST, |agent| async move {
            let open = tokio::sync::Mutex::new(agent.accepted.lock().unwrap().clone());
            eventually(&format!("rest for {}", agent.name), || async {
                let present = self.help(agent).await;
                let mut open = open.lock().await;
                self.drop_finished(&mut open).await;
                match open.is_empty() && matches!(present.state, AgentState::Ready | AgentState::Running) {
                    true => Ok(()),
                    false => Err(format!("{:?} {:?}, open: {open:?}", present.state, present.reason)),
                }
            })
            .await;
        })
        .await;
    }

    /// What an operator would do for an agent that does not come back by itself.
    async fn help(&self, agent: &Chaotic) -> Agent {
        let present = self.client.get_agent(&agent.name).await.unwrap();
        let outcome = match present.state {
            AgentState::Paused => self.command(agent, AgentCommand::Resume).await,
            AgentState::Quarantined => {
                let reason = present.reason.as_deref().unwrap_or_default();
                assert!(reason.contains(&Code::AGENT_QUARANTINED.to_string()), "{}: {reason}", agent.name);
                self.command(agent, AgentCommand::Restart).await
            }
            AgentState::Terminated => {
                let refused = self.command(agent, AgentCommand::Restart).await.unwrap_err();
                assert_eq!(refused.code, Code::AGENT_STATE, "{}: only a deployment brings it back", agent.name);
                self.redeploy(agent).await
            }
            AgentState::Failed => panic!("{} failed: {:?}", agent.name, present.reason),
            _ => Ok(()),
        };
        outcome.unwrap();
        present
    }

    async fn drop_finished(&self, open: &mut Vec<TaskId>) {
        while let Some(id) = open.last() {
            let task = self.client.get_task(id).await.unwrap();
            if !task.state.is_terminal() {
                return;
            }
            assert_eq!(task.state, TaskState::Completed, "{id}: {:?}", task.failure);
            open.pop();
        }
    }

    /// One more task to its end. What struck the agent last may still lead it into quarantine, so help goes on.
    pub async fn ask(&self, agent: &Chaotic, action: &str) -> Task {
        self.submit(agent, order(action, None), action).await.unwrap();
        let id = agent.accepted.lock().unwrap().pop().unwrap();
        eventually(&format!("the end of {id}"), || async {
            let present = self.help(agent).await;
            let task = self.client.get_task(&id).await.unwrap();
            if present.state == AgentState::Quarantined {
                println!("{} was quarantined after it had come to rest: {:?}", agent.name, present.reason);
            }
            if task.state.is_terminal() {
                Ok(task)
            } else {
                Err(format!("{:?}, agent {:?}", task.state, present.state))
            }
        })
        .await
    }

    pub async fn terminate_all(&self) {
        for agent in &self.agents {
            self.command(agent, AgentCommand::Terminate).await.unwrap();
        }
    }
}
