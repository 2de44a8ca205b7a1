//! From the words of the command line to a plan. A person names paths as they see them, so links are followed here, once,
//! and what they lead to is what the plan has to accept.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_cli::{RunOrder, Share};
use agentos_limits::Resource;
use agentos_protocol::sandbox::{Descriptor, ProcView};
use agentos_sandbox::plan::{Bind, HostRoot, Plan, PlanLimits};
use agentos_types::{Code, Fault, Result};
use rustix::process::{Resource as ProcessLimit, getrlimit};

use super::{
    limits::{Groups, Limited},
    owner,
};

/// Compilers and test runners want more than an agent.
const PROCESSES: u64 = 1_024;
const OPEN_FILES: u64 = 4_096;
/// Processes that the limit of the user may lie above that of the group.
const SPARE: u64 = 64;
const STREAMS: [Descriptor; 3] = [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr];

pub(super) fn make(order: &RunOrder, groups: Groups) -> Result<(Plan, Limited)> {
    let host = Arc::new(HostRoot::survey(Path::new("/"))?);
    let mut plan = Plan::new(host, order.command.clone());
    plan.profile = order.profile;
    plan.proc = if order.full_proc { ProcView::MaskedFull } else { ProcView::Processes };
    // Its own loopback leads nowhere, and servers under test need it.
    plan.loopback = true;
    plan.environment = order.environment.clone();
    // Where the installation lies may be named through a link too.
    plan.closed = order.closed.iter().map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone())).collect();
    let writable = order.writable.iter().map(real).collect::<Result<Vec<_>>>()?;
    if let Some(owner) = owner::of(&writable)? {
        (plan.host_id, plan.host_gid) = (Some(owner.user), Some(owner.group));
    }
    let mut shares = order.writable.iter().zip(&writable);
    if let Some((share, directory)) = shares.next() {
        if let Some(target) = &share.target {
            return Err(refused(format!("the first --rw is seen as /workspace, not as {target}"))
                .hint("name another directory first"));
        }
        plan.workspace = Some(plan.shared_workspace(directory)?);
    }
    for (share, source) in shares {
        plan.binds.push(Bind { source: source.clone(), target: share.target.clone(), writable: true });
    }
    for share in &order.read_only {
        plan.binds.push(Bind { source: real(share)?, target: share.target.clone(), writable: false });
    }
    let limited = Limited::new(order, groups)?;
    let asked = order.processes.unwrap_or(PROCESSES);
    // Where the group counts too it is to be the first that refuses, because it tells how often it did.
    let processes = if limited.is_grouped(Resource::Processes) { asked.saturating_add(SPARE) } else { asked };
    let unbounded = PlanLimits::default();
    plan.limits = PlanLimits {
        memory_bytes: order.memory_bytes,
        memory_is_grouped: limited.is_grouped(Resource::Memory),
        cpu_percent: order.cpu_percent,
        processes: Some(own_limit(ProcessLimit::Nproc).min(processes)),
        open_files: own_limit(ProcessLimit::Nofile).min(OPEN_FILES),
        file_bytes: own_limit(ProcessLimit::Fsize).min(unbounded.file_bytes),
        ..unbounded
    };
    plan.descriptors = STREAMS.to_vec();
    Ok((plan, limited))
}

/// Nobody can be given more than this process may have itself.
fn own_limit(resource: ProcessLimit) -> u64 {
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

fn real(share: &Share) -> Result<PathBuf> {
    fs::canonicalize(&share.path).map_err(|error| refused(format!("{}: {error}", share.path.display())))
}

pub(super) fn refused(message: String) -> Fault {
    Fault::new(Code::SANDBOX_REFUSED, message)
}
