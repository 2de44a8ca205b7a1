//! One system call through the monitor, on the allow path, with the store in memory: what the one door costs by itself.

use std::{sync::Arc, time::Instant};

use agentos_authority::{Caller, GrantSet};
use agentos_base::redact::Redactor;
use agentos_dialer::{Dialer, DialerOptions};
use agentos_monitor::{CallRequest, Monitor, Rules};
use agentos_secrets::{Secrets, SecretsKey};
use agentos_tasks::{Lease, NewTask};
use agentos_tools::{BuiltinTools, Finished, Job, ModelAccess, ModelAsk, Outgoing, Workshop};
use agentos_types::{Category, Grant};
use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Kernel;
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::millis,
    progress::Progress,
    sample::Rounds,
};

const ROUNDS: usize = 5;
const CALLS_PER_ROUND: usize = 1_000;
/// Caches and statements are warm in a server that runs.
const WARM_UP: usize = 200;
const P50_MAX_MS: f64 = 0.4;
const P99_MAX_MS: f64 = 2.0;

/// No figure here runs a command or asks a model by a system call.
struct Closed;

#[async_trait::async_trait]
impl Workshop for Closed {
    async fn run(&self, _: Job) -> agentos_types::Result<Finished> {
        Err(agentos_types::Fault::internal("the benches run no command"))
    }
}

#[async_trait::async_trait]
impl ModelAccess for Closed {
    async fn ask(
        &self,
        _: ModelAsk,
        _: mpsc::Sender<String>,
    ) -> agentos_types::Result<agentos_protocol::syscall::ModelCallResult> {
        Err(agentos_types::Fault::internal("the benches ask no model by a system call"))
    }
}

/// An agent with one task, as the supervisor would hand its calls over.
pub(super) struct Agent {
    monitor: Monitor,
    caller: Caller,
    lease: Lease,
}

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let directory = place.in_memory()?;
    let kernel = Kernel::open(directory.path()).await?;
    let agent = agent(&kernel).await?;
    agent.call("put".into(), "kv.put", json!({"key": "k", "value": {"n": 1}})).await?;
    for number in 0..WARM_UP {
        agent.get(format!("warm-{number}")).await?;
    }
    let (mut calls, mut empty) = (Rounds::default(), Rounds::default());
    for round in 1..=ROUNDS {
        progress.say(&format!("system call, round {round} of {ROUNDS}"));
        empty.push(empty_writes(&kernel).await?);
        let mut taken = Vec::with_capacity(CALLS_PER_ROUND);
        for number in 0..CALLS_PER_ROUND {
            let began = Instant::now();
            let value = agent.get(format!("get-{round}-{number}")).await?;
            taken.push(millis(began));
            anyhow::ensure!(value["value"]["n"] == 1, "kv.get answered {value}");
        }
        calls.push(taken);
    }
    let figure = |name: &str| Figure::times(format!("system call kv.get, no fsync, {name}"), &calls, 0.99);
    Ok(vec![
        figure("typical")
            .judge("p50")
            .goal(Goal::at_most(P50_MAX_MS))
            .beside("empty write p50", empty.median())
            .note("grants, journal step, event, sealed audit record, one commit in memory"),
        figure("worst of 100").goal(Goal::at_most(P99_MAX_MS)).beside("empty write p99", empty.quantile(0.99)),
    ])
}

impl Agent {
    pub(super) async fn get(&self, step: String) -> Result<Value> {
        self.call(step, "kv.get", json!({"key": "k"})).await
    }

    pub(super) async fn call(&self, step: String, syscall: &str, args: Value) -> Result<Value> {
        let request = CallRequest { step, syscall: syscall.to_owned(), args };
        let answer = self.monitor.call(&self.caller, &self.lease, request).await;
        answer.map_err(|error| anyhow!("{syscall} was refused: {error:?}"))
    }
}

pub(super) async fn agent(kernel: &Kernel) -> Result<Agent> {
    let redactor = Redactor::default();
    let key = SecretsKey::new(kernel.ambient.random());
    let secrets = Secrets::open(kernel.store.clone(), kernel.ambient.clone(), key, redactor.clone()).await?;
    let tools = BuiltinTools {
        outgoing: Outgoing {
            dialer: Dialer::new(DialerOptions::default())?,
            ambient: kernel.ambient.clone(),
            propagate_to: Vec::new(),
        },
        secrets,
        tasks: kernel.tasks.clone(),
        ambient: kernel.ambient.clone(),
        workshop: Arc::new(Closed),
        models: Arc::new(Closed),
    };
    let (store, tasks, ambient) = (kernel.store.clone(), kernel.tasks.clone(), kernel.ambient.clone());
    let monitor = Monitor::new(store, tasks, ambient, Box::new(tools), redactor, Rules::default());
    let grant =
        Grant { category: Category::Kv, actions: vec!["read".into(), "write".into()], resources: vec!["*".into()] };
    let caller = Caller {
        agent: kernel.agent.clone(),
        instance: kernel.ambient.instance_id(),
        grants: Arc::new(GrantSet::compile(&[grant])?),
        calls_per_minute: u32::MAX,
    };
    kernel.tasks.submit(&kernel.person(), NewTask::new(kernel.agent.clone(), Value::Null)).await?;
    let claimed = kernel.tasks.claim(&kernel.agent, 1).await?.pop().context("there is no task to claim")?;
    Ok(Agent { monitor, caller, lease: claimed.lease })
}

/// A transaction that does nothing, on the same writer: the round trip that no call can avoid.
async fn empty_writes(kernel: &Kernel) -> Result<Vec<f64>> {
    let mut taken = Vec::with_capacity(CALLS_PER_ROUND);
    for _ in 0..CALLS_PER_ROUND {
        let began = Instant::now();
        kernel.store.write(|_| Ok(())).await?;
        taken.push(millis(began));
    }
    Ok(taken)
}
