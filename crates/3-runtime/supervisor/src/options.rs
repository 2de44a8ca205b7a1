//! Settings of the supervisor; the binary reads them from the configuration. The length of a lease and the name of the node
//! come from the journal, which must agree on them anyway.

use std::{path::PathBuf, time::Duration};

use agentos_base::redact::Redactor;

#[derive(Clone, Debug)]
pub struct SupervisorOptions {
    /// The program `agent-os-launch`, absolute.
    pub launcher: PathBuf,
    /// Installed packages: `PACKAGES/AGENT/VERSION/`.
    pub packages: PathBuf,
    /// Working directories: `WORK/AGENT/`, made with mode 0700 when needed.
    pub work: PathBuf,
    /// Time between the request to cancel a task and the kill of its worker.
    pub cancel_grace: Duration,
    /// Time that a worker gets to exit before it is killed.
    pub shutdown_grace: Duration,
    /// Masks secrets in what workers print.
    pub redactor: Redactor,
}
