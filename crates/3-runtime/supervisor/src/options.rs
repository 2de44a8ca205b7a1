//! Settings of the supervisor; the binary reads them from the configuration. The length of a lease and the name of the node
//! come from the journal, which must agree on them anyway.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agentos_base::redact::Redactor;
use agentos_limits::{Cgroups, quota::Workspaces};
use agentos_sandbox::{Sandboxes, plan::HostRoot};
use agentos_types::{machine::Machine, manifest::LimitEnforcement};

use crate::{ModelDoors, Quarters, WaysOut};

#[derive(Clone, Debug)]
pub struct SupervisorOptions {
    pub sandboxes: Sandboxes,
    /// What of this machine every sandbox sees.
    pub host: Arc<HostRoot>,
    pub cgroups: Cgroups,
    pub workspaces: Workspaces,
    /// What this machine can enforce, as it was found at the start.
    pub machine: Arc<Machine>,
    /// What a limit that cannot be enforced means where the manifest does not say it.
    pub enforcement: LimitEnforcement,
    /// User number of the first agent on the host. Absent: the server is an ordinary user, and agents are the same one.
    pub first_host_id: Option<u32>,
    /// Absent: nothing leaves any sandbox, whatever its manifest says.
    pub ways_out: Option<WaysOut>,
    /// Absent: no program inside of a sandbox reaches a model by itself.
    pub model_doors: Option<Arc<dyn ModelDoors>>,
    /// What no sandbox may ever show: the data directory.
    pub closed: Vec<PathBuf>,
    /// Installed packages: `PACKAGES/AGENT/VERSION/`.
    pub packages: PathBuf,
    /// Time between the request to cancel a task and the kill of its worker.
    pub cancel_grace: Duration,
    /// Time that a worker gets to exit before it is killed.
    pub shutdown_grace: Duration,
    /// Told of each life that begins.
    pub quarters: Quarters,
    /// Masks secrets in what workers print.
    pub redactor: Redactor,
}
