//! `sandbox run`: one command in the sandbox that agents have, without a server and without an installation.
//!
//! The launcher starts while the plan is made, and nothing is made that the command did not ask for: a group of processes
//! only for a limit or a count, a proxy only for a host. So the way to the first instruction of the command is short.

mod disk;
mod early;
mod egress;
mod limits;
mod owner;
mod plan;
mod report;
mod signals;

use std::time::{Duration, Instant};

use agentos_cli::{NotEnforced, RunOrder, RunReport};
use agentos_sandbox::{AppArmor, AppArmorMode, Backend, Early, Ended, Running, SandboxOptions, Sandboxes};
use agentos_types::{Code, Fault, Result};
use tokio::time::sleep_until;

use self::{
    egress::{Door, Passed},
    report::Facts,
    signals::Signals,
};
use crate::programs;

/// How it was ended, by whom.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    ended: Ended,
    /// Its time was over, and we killed it.
    is_late: bool,
}

pub use early::start as start_early;

fn options() -> Result<SandboxOptions> {
    Ok(SandboxOptions { launcher: programs::launcher()?, backend: Backend::Native })
}

pub async fn run(order: RunOrder, early: Option<Early>) -> Result<RunReport> {
    let apparmor = AppArmor::probe(AppArmorMode::Auto, Backend::Native)?;
    // Whoever reads about the walls gets them tried; everybody else finds out by the command itself.
    let sandboxes = match order.is_counted || order.is_strict {
        true => Sandboxes::open(options()?)?,
        false => Sandboxes::open_for_one(options()?, early)?,
    }
    .with_apparmor(apparmor);
    // Before any process is started: it would stay behind in the group that this one has to leave, and a group with
    // processes gives no controllers away.
    let groups = limits::Groups::find(&order);
    // The launcher gets ready while this process looks at the machine.
    sandboxes.prepare(order.profile).await?;
    let (mut plan, limited) = plan::make(&order, groups)?;
    if order.is_strict {
        refuse_missing(&report::missing_walls(&sandboxes.layers(order.profile).await?))?;
    }
    let begun = Instant::now();
    let door = Door::new(&order, &sandboxes)?;
    plan.listeners = door.as_ref().map(Door::listeners).unwrap_or_default();
    let mut sandbox = plan.order()?;
    let descriptors = limited.descriptors(&mut sandbox)?;
    if let Some(door) = &door {
        door.ready().await?;
    }
    // Before the command runs, so that none ends this process and leaves the command to the kernel.
    let mut signals = Signals::listen()?;
    let mut running = sandboxes.spawn(order.profile, sandbox, descriptors).await?;
    let open = door.map(|door| door.open(running.take_listeners())).transpose()?;
    let outcome = watch(&mut running, &mut signals, order.time).await;
    let wall = begun.elapsed();
    let walls = running.layers().to_vec();
    // The group is read before it goes.
    let counted = limited.usage();
    let passed = match open {
        Some(open) => open.close().await,
        None => Passed::default(),
    };
    let is_disk_full = disk::is_full(&order);
    let not_enforced = limited.missing();
    // Nothing of the command runs any more. Its launcher ends with this process: told now, it would take the processor from
    // it, and whoever waits for this process would wait for both.
    std::mem::forget((running, sandboxes));
    Ok(report::make(&order, Facts { outcome, counted, is_disk_full, passed, not_enforced, walls, wall }))
}

/// Until the command has ended. Signals for us are signals for it; its time is up once.
async fn watch(running: &mut Running, signals: &mut Signals, time: Option<Duration>) -> Outcome {
    let deadline = time.map(|time| tokio::time::Instant::now() + time);
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
            ended = running.ended() => return Outcome { ended, is_late },
            () = late => {
                is_late = true;
                running.kill();
            }
            signal = signals.next() => signals::forward(pid, signal),
        }
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
