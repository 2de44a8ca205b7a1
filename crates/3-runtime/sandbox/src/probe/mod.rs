//! What this machine can enforce, as a table that a person reads, and the level that follows from it.
//!
//! A wall counts as there when it was put up: a launcher tries each, and a sandbox is started and ended. What the kernel's
//! files say explains a failure and names the remedy. The level is the weakest row's:
//!
//! ```text
//! none       no sandbox starts; no user, mount, process or network namespace; no own /proc; no filter of system calls;
//!            sandbox.backend = none
//! reduced    no Landlock; no IPC, host name or cgroup namespace; memory, CPU or processes of an agent without a bound;
//!            a workspace that is only watched
//! strong     none of these
//! ```
//!
//! Not counted: AppArmor and KVM (nothing depends on them), users of the host (a second wall behind the user namespace), the
//! speed of the disk and programs in memory (an agent whose manifest asks for these bounds does not start without them).

mod around;
mod bounds;
mod facts;
#[cfg(test)]
mod tests;
mod walls;
mod why;

use std::{path::Path, sync::Arc};

use agentos_limits::{
    Cgroups, Resource, Standing,
    quota::{Examined, QuotaDriver, Workspaces},
};
use agentos_protocol::sandbox::Layer;
use agentos_types::{Fault, Result, machine::Machine};
use tokio::task::spawn_blocking;

pub use facts::{Container, Facts};

use crate::{
    Backend, Sandboxes,
    plan::{HostRoot, Plan},
};

/// Does nothing and is everywhere.
const PROGRAM: &str = "true";

/// What came of trying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// As the launcher has found them.
    pub layers: Vec<Layer>,
    /// Why no sandbox starts.
    pub refused: Option<String>,
}

impl Trial {
    fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Starts one sandbox as an agent would have it, and ends it.
    pub async fn run(sandboxes: &Sandboxes, host: Arc<HostRoot>, host_id: Option<u32>) -> Self {
        let mut plan = Plan::new(host, vec![PROGRAM.to_owned()]);
        plan.host_id = host_id;
        let layers = match sandboxes.layers(plan.profile).await {
            Ok(layers) => layers,
            Err(fault) => return Self { layers: Vec::new(), refused: Some(told(&fault)) },
        };
        Self { layers, refused: started(sandboxes, plan).await.err().map(|fault| told(&fault)) }
    }
}

async fn started(sandboxes: &Sandboxes, plan: Plan) -> Result<()> {
    let profile = plan.profile;
    let order = spawn_blocking(move || plan.order()).await.map_err(Fault::internal)??;
    let mut running = sandboxes.spawn(profile, order, Vec::new()).await?;
    running.ended().await;
    Ok(())
}

/// For the operator, who may know all of it.
fn told(fault: &Fault) -> String {
    match &fault.detail {
        Some(detail) => format!("{} ({detail})", fault.message),
        None => fault.message.clone(),
    }
}

/// What bounds the use of the machine.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Version of the control groups that can be used.
    pub groups_version: Option<u8>,
    pub resources: Vec<(Resource, Standing)>,
    /// Speed of the disk of an agent whose manifest names none.
    pub disk_bytes_per_second: Option<u64>,
    pub quota: QuotaDriver,
    pub examined: Vec<Examined>,
}

impl Bounds {
    pub fn of(groups: &Cgroups, workspaces: &Workspaces) -> Self {
        Self {
            groups_version: groups.version(),
            resources: groups.standing(),
            disk_bytes_per_second: groups.usual_disk_bytes_per_second(),
            quota: workspaces.driver(),
            examined: workspaces.examined().to_vec(),
        }
    }
}

/// The table of this machine, by what was found. Nothing is looked at here.
pub fn judge(facts: &Facts, backend: Backend, trial: &Trial, bounds: &Bounds) -> Machine {
    let mut rows = walls::rows(facts, backend, trial);
    rows.extend(bounds::rows(facts, bounds));
    rows.extend(around::rows(facts, trial));
    Machine::of(rows)
}

/// The table of the machine that this process runs on.
pub async fn examine(sandboxes: &Sandboxes, host: Arc<HostRoot>, host_id: Option<u32>, bounds: &Bounds) -> Machine {
    let trial = match sandboxes.backend() {
        Backend::None => Trial::default(),
        Backend::Native | Backend::Bwrap => Trial::run(sandboxes, host, host_id).await,
    };
    let facts = spawn_blocking(|| Facts::gather(Path::new("/"))).await.unwrap_or_default();
    judge(&facts, sandboxes.backend(), &trial, bounds)
}
