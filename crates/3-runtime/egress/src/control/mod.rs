//! The server's side of the egress proxy: starts it inside a sandbox of its own, keeps it alive, tells it about the
//! sandboxes of agents, and lets a [`Judge`] answer what it asks.
//!
//! Invariants, each of them attacked in the tests:
//! - the server keeps every listener, so that a proxy that died or hung is replaced and agents notice a pause at most;
//! - while there is no proxy nothing is open: connections wait in the kernel, or fail;
//! - whatever was granted is closed once: by what the proxy tells, or as lost with it;
//! - a connection that ends at the models here has its other end in the proxy alone, and breaks with it;
//! - the key of an agent's authority and the secrets of its credentials go to the proxy alone, and into no log.
//!
//! Not here: decisions (the monitor), bytes and addresses (the proxy), sandboxes (their crate).

mod answer;
mod authority;
mod broker;
mod channel;
mod counts;
mod desk;
mod guest;
mod judge;
mod keeper;
mod meter;
mod names;
mod order;
mod process;
mod session;
mod table;
#[cfg(test)]
mod tests;

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use agentos_base::Background;
use agentos_protocol::{egress::EgressLimits, sandbox::Listener};
use agentos_sandbox::Sandboxes;
use agentos_types::{Code, Fault, Result};

pub use agentos_monitor::egress::Captured;
pub use broker::MonitorJudge;
pub use counts::Counts;
pub use guest::{Guest, ModelHosts, limits_of};
pub use judge::{Judge, Judgement, Passage};
pub use meter::Bytes;
pub use process::ProxyOptions;
pub use table::Attached;

use self::{
    keeper::{Shared, State},
    process::{Sandboxed, StartProxy},
};

/// How the server looks after its proxy. The defaults are right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// Between two questions whether it is there; as often are bytes of open connections counted.
    pub ping: Duration,
    /// Without an answer for this long it counts as hung. A machine that swaps is slow, and a proxy that is replaced breaks
    /// every connection.
    pub patience: Duration,
    /// From its start to its first word.
    pub start: Duration,
}

impl Default for Care {
    fn default() -> Self {
        Self { ping: Duration::from_secs(2), patience: Duration::from_secs(15), start: Duration::from_secs(20) }
    }
}

/// How the proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Starting,
    /// It answers. The number is that of its process on the host.
    Up(u32),
    /// Nothing leaves any sandbox. It is started again.
    Down(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
}

impl Egress {
    /// Starts the proxy in the background and keeps it. It ends with `background`.
    pub fn start(
        sandboxes: Sandboxes,
        program: PathBuf,
        options: ProxyOptions,
        judge: Arc<dyn Judge>,
        background: Background,
    ) -> Result<Self> {
        if !std::fs::metadata(&program).is_ok_and(|found| found.is_file()) {
            return Err(Fault::new(Code::LAUNCHER_MISSING, "the program agent-os-egress is missing")
                .hint("install it beside agent-os")
                .detail(program.display()));
        }
        let starter = Sandboxed::new(sandboxes, program, options, background.clone());
        Ok(Self::start_with(Arc::new(starter), judge, background, Care::default()))
    }

    pub(crate) fn start_with(
        starter: Arc<dyn StartProxy>,
        judge: Arc<dyn Judge>,
        background: Background,
        care: Care,
    ) -> Self {
        let shared = Arc::new(Shared::new(judge, background.clone(), care));
        background.spawn("egress", keeper::keep(shared.clone(), starter));
        background.spawn("egress-tidy", keeper::tidy(shared.clone()));
        Self { shared }
    }

    /// A sandbox has begun: what its listeners catch is answered from now on, for as long as the value is held. `listeners`
    /// are those of [`Guest::listeners`]. What was caught before waits in the kernel.
    pub fn attach(&self, guest: Guest, listeners: Vec<(Listener, OwnedFd)>, limits: EgressLimits) -> Result<Attached> {
        table::attach(&self.shared, guest, listeners, limits)
    }

    pub fn standing(&self) -> Standing {
        match self.shared.state() {
            State::Starting => Standing::Starting,
            State::Up(pid) => Standing::Up(pid),
            State::Down(reason) => Standing::Down(reason),
        }
    }

    /// Returns once the proxy is there and has been told of every sandbox that is attached by now.
    pub async fn settled(&self) {
        self.shared.settled().await;
    }

    /// For the metrics.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("standing", &self.standing()).finish_non_exhaustive()
    }
}
