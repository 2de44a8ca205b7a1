//! The egress proxy as the server binds it: the monitor judges, the supervisor attaches, health and metrics look at it.

use std::sync::Arc;

use agentos_api::body::{CHECK_EGRESS, Check, CheckOutcome};
use agentos_authority::HostRule;
use agentos_base::{Background, config::Config};
use agentos_egress::control::{Egress, MonitorJudge, ProxyOptions, Standing};
use agentos_monitor::{Monitor, egress::EgressRules};
use agentos_sandbox::Backend;
use agentos_secrets::Secrets;
use agentos_supervisor::WaysOut;
use agentos_types::Result;

use crate::{layout::Layout, programs, sandboxes::Walls};

/// What the operator decides about the network of all agents.
pub fn rules(config: &Config) -> Result<EgressRules> {
    let parsed = |texts: Vec<String>| texts.iter().map(|text| HostRule::parse(text)).collect::<Result<Vec<_>>>();
    let exceptions = config.dialer_private_exceptions();
    Ok(EgressRules {
        allowed_domains: config.egress_allowed_domains().map(parsed).transpose()?,
        private_exceptions: exceptions.iter().map(|text| text.parse()).collect::<Result<_>>()?,
    })
}

/// Starts the proxy. `None` where there are no walls, and so nothing that a way had to lead out of.
pub fn start(
    config: &Config,
    layout: &Layout,
    walls: &Walls,
    monitor: &Monitor,
    secrets: &Secrets,
    background: &Background,
) -> Result<Option<WaysOut>> {
    if walls.sandboxes.backend() == Backend::None {
        return Ok(None);
    }
    let options = ProxyOptions { host_id: walls.proxy_host_id, extra_roots: config.dialer_extra_roots() };
    let judge = Arc::new(MonitorJudge { monitor: monitor.clone(), secrets: secrets.clone() });
    let egress = Egress::start(walls.sandboxes.clone(), programs::egress()?, options, judge, background.clone())?;
    Ok(Some(WaysOut { egress, bundles: layout.certificates() }))
}

/// How it stands now.
pub fn check(egress: Option<&Egress>) -> Check {
    let (outcome, message) = match egress.map(Egress::standing) {
        None => (CheckOutcome::Warn, "there are no walls, so there is nothing to lead out of".to_owned()),
        Some(Standing::Up(pid)) => (CheckOutcome::Pass, format!("process {pid}")),
        Some(Standing::Starting) => (CheckOutcome::Pass, "it is starting".to_owned()),
        Some(Standing::Down(reason)) => (CheckOutcome::Warn, format!("nothing leaves a sandbox: {reason}")),
    };
    Check { name: CHECK_EGRESS.to_owned(), outcome, message }
}
