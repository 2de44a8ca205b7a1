//! An agent that nobody touches. Its process, its tasks and their pace are what "others are unharmed" means.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use agentos_client::Client;
use agentos_kit::{Package, TestOs};
use agentos_types::{agent::Agent, task::TaskState};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

/// Between two tasks of the canary.
const PACE: Duration = Duration::from_millis(100);
/// On a machine that starts interpreters on all its cores at the same time. A canary that waits for another agent would
/// wait for its time limits, which add up to far more.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Canary {
    deployed: Agent,
    client: Client,
}

impl Canary {
    pub async fn deploy(os: &TestOs) -> Self {
        let deployed = os.deploy(&Package::echo("canary", "")).await;
        os.run_task("canary", json!({"action": "echo"})).await;
        Self { deployed, client: os.client() }
    }

    pub fn pid(&self) -> u32 {
        self.deployed.pid.unwrap()
    }

    /// One task after the other until it is over; how long each took, sorted.
    pub async fn sing(&self, os: &TestOs, is_over: &AtomicBool) -> Vec<Duration> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut latencies = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            let begun = Instant::now();
            let song = json!({"action": "echo", "verse": latencies.len()});
            let body = serde_json::from_value(json!({"agent": "canary", "input": song})).unwrap();
            let id = self.client.submit_task(&body, None).await.unwrap().id;
            let task = os.finished(&id).await;
            assert_eq!((task.state, task.attempt, task.output), (TaskState::Completed, 1, Some(song)));
            latencies.push(begun.elapsed());
        }
        latencies.sort();
        latencies
    }

    pub async fn is_unharmed(&self, latencies: &[Duration]) {
        let (median, last) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
        println!("{} tasks of the canary: median {median:.0?}, longest {last:.0?}", latencies.len());
        assert!(last < PATIENCE, "the canary waited {last:?}");
        let present = self.client.get_agent(&self.deployed.name).await.unwrap();
        let life = |agent: &Agent| (agent.pid, agent.instance.clone(), agent.restarts);
        assert_eq!(life(&present), life(&self.deployed), "the canary has lived one life");
    }
}
