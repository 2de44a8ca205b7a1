//! Whether the server can work, and what holds on this machine.

use std::time::Duration;

use agentos_api::body::{AgentCounts, CHECK_EGRESS, CHECK_PUBLISHED, Check, CheckOutcome, Health};
use agentos_types::{
    Result,
    agent::{AgentState, Control, Enforcement},
};

use super::ServerKernel;
use crate::{egress, witness};

/// A write that takes longer is as good as none for whoever asks for readiness.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn writable(kernel: &ServerKernel) -> bool {
    matches!(tokio::time::timeout(WRITE_PATIENCE, kernel.store.probe()).await, Ok(Ok(())))
}

pub(super) async fn health(kernel: &ServerKernel) -> Result<Health> {
    let agents = kernel.supervisor.list().await?;
    let count = |wanted: &[AgentState]| agents.iter().filter(|agent| wanted.contains(&agent.state)).count() as u64;
    let counts = AgentCounts {
        deployed: agents.iter().filter(|agent| agent.state != AgentState::Terminated).count() as u64,
        ready: count(&[AgentState::Ready, AgentState::Running]),
        unhealthy: count(&[AgentState::BackingOff, AgentState::Quarantined, AgentState::Failed]),
    };
    let controls: Vec<Control> = agentos_supervisor::controls(&kernel.machine);
    let checks = checks(kernel).await?;
    let sound = counts.unhealthy == 0
        && checks.iter().all(|check| check.outcome == CheckOutcome::Pass)
        && controls.iter().all(|control| control.enforcement == Enforcement::Enforced);
    Ok(Health {
        status: if sound { "ok" } else { "degraded" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: kernel.node.clone(),
        started_at: kernel.started_at,
        schema: kernel.store.schema(),
        agents: counts,
        isolation: kernel.machine.level,
        checks,
        controls,
    })
}

/// Those of the start, and in the place of what could be said of witnesses and proxy then, how it goes with them.
async fn checks(kernel: &ServerKernel) -> Result<Vec<Check>> {
    let published = witness::published(&kernel.witnesses.publisher.status().await?);
    let witnessed = witness::witnessed(&kernel.witnesses.witness.list().await?);
    let at_start =
        kernel.checks.iter().filter(|check| ![CHECK_PUBLISHED, CHECK_EGRESS].contains(&check.name.as_str())).cloned();
    Ok(at_start.chain([published, egress::check(kernel.egress.as_ref())]).chain(witnessed).collect())
}
