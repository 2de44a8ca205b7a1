//! `sandbox run`: one command in the sandbox that agents have, without a server and without an installation.
//!
//! The launcher starts while the plan is made, and nothing is made that the command did not ask for: a group of processes
//! only for a limit or a count, a proxy only for a host. So the way to the first instruction of the command is short.

mod limits;
mod owner;
mod plan;
mod report;
mod signals;

use std::time::Instant;

use agentos_cli::{NotEnforced, RunOrder, RunReport};
use agentos_sandbox::{Backend, Ended, Running, SandboxOptions, Sandboxes};
use agentos_types::{Code, Fault, Result};
use tokio::time::sleep_until;

use self::signals::Signals;
use crate::programs;

/// How it was ended, by whom.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    ended: Ended,
    /// Its time was over, and we killed it.
    is_late: bool,
}

pub async fn run(order: RunOrder) -> Result<RunReport> {
    refuse_hosts(&order)?;
    let sandboxes = Sandboxes::open(SandboxOptions { launcher: programs::launcher()?, backend: Backend::Native })?;
    // The launcher gets ready while this process looks at the machine.
    let (walls, planned) = tokio::join!(sandboxes.layers(order.profile), async { plan::make(&order) });
    let walls = walls?;
    let (plan, limited) = planned?;
    if order.is_strict {
        refuse_missing(&report::missing_walls(&walls))?;
    }
    let begun = Instant::now();
    let mut sandbox = plan.order()?;
    let descriptors = limited.descriptors(&mut sandbox)?;
    let mut running = sandboxes.spawn(order.profile, sandbox, descriptors).await?;
    let outcome = watch(&mut running, &order).await?;
    // The group is read before it goes.
    let usage = limited.usage();
    Ok(report::make(&order, &outcome, &limited, &usage, walls, begun.elapsed()))
}

/// Until the command has ended. Signals for us are signals for it; its time is up once.
async fn watch(running: &mut Running, order: &RunOrder) -> Result<Outcome> {
    let mut signals = Signals::listen()?;
    let deadline = order.time.map(|time| tokio::time::Instant::now() + time);
    let mut is_late = false;
    loop {
        let late = async {
            match deadline {
                Some(at) if !is_late => sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        let pid = running.pid();
        tokio::select! {
            biased;
            ended = running.ended() => return Ok(Outcome { ended, is_late }),
            () = late => {
                is_late = true;
                running.kill();
            }
            signal = signals.next() => signals::forward(pid, signal),
        }
    }
}

/// Nothing leaves a sandbox but through the egress proxy.
fn refuse_hosts(order: &RunOrder) -> Result<()> {
    match order.allowed_hosts.first() {
        None => Ok(()),
        Some(host) => Err(Fault::new(
            Code::SANDBOX_REFUSED,
            format!("--allow-host {} cannot be had: this program has no egress proxy", host.host),
        )
        .hint("leave --allow-host out; the command then has no way out at all")),
    }
}

fn refuse_missing(missing: &[NotEnforced]) -> Result<()> {
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Fault::new(
            Code::SANDBOX_REFUSED,
            format!("--strict, and this machine does not have {}: {}", first.what, first.reason),
        )
        .hint("agent-os doctor says what to do about it")),
    }
}
