//! One sandbox that runs: its end is seen at once through a pidfd, and told in full by its launcher.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use agentos_protocol::sandbox::{End, Layer, Rusage};
use agentos_types::{Fault, Result};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
    time::timeout,
};

use crate::{desk::Born, launcher::Launcher};

/// From the death of a sandbox to what its launcher says about it; that is one packet. Beyond it the launcher hangs.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A killed sandbox that is not gone by now hangs in the kernel, in a call that no signal ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How a sandbox ended. Nothing of it runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub end: End,
    pub rusage: Rusage,
    /// The launcher is gone, so that the kernel has killed the sandbox and nobody has its status.
    pub is_launcher_lost: bool,
}

impl Ended {
    pub(crate) fn lost() -> Self {
        Self { end: End::Killed, rusage: Rusage::default(), is_launcher_lost: true }
    }
}

/// A pidfd of the sandbox's init. Kills it when dropped; then the kernel ends everything inside.
#[derive(Debug)]
pub(crate) struct Leash(OwnedFd);

impl Leash {
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Self(pidfd)
    }

    /// A pidfd never means another process, so this is harmless after the end.
    fn kill(&self) {
        let _ = pidfd_send_signal(self.0.as_fd(), Signal::KILL);
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.kill();
    }
}

impl AsRawFd for Leash {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Killed with everything inside when dropped.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    leash: AsyncFd<Leash>,
    listeners: Vec<OwnedFd>,
    report: oneshot::Receiver<Ended>,
    ended: Option<Ended>,
    /// The launcher lives as long as what it has made.
    launcher: Arc<Launcher>,
}

impl Running {
    pub(crate) fn new(born: Born, launcher: Arc<Launcher>) -> Result<Self> {
        let Born { pid, leash, listeners, ended } = born;
        let leash = register(leash).map_err(Fault::internal)?;
        Ok(Self { pid, leash, listeners, report: ended, ended: None, launcher })
    }

    /// Of the init, as the host numbers it. Everything inside is below it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The walls as its launcher has found them on this machine.
    pub fn layers(&self) -> &[Layer] {
        self.launcher.layers()
    }

    /// In the order of the sandbox's network; the second call has none left.
    pub fn take_listeners(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.listeners)
    }

    /// Returns when nothing of the sandbox runs any more, also if that was before.
    pub async fn exited(&self) {
        if self.leash.readable().await.is_err() {
            // The runtime is going down; whoever waits is dropped with it.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the end and what the launcher says about it. May be dropped and called again.
    pub async fn ended(&mut self) -> Ended {
        if let Some(ended) = self.ended {
            return ended;
        }
        let told = tokio::select! {
            biased;
            told = &mut self.report => told.unwrap_or(Ended::lost()),
            () = exit_of(&self.leash) => match timeout(REPORT_TIMEOUT, &mut self.report).await {
                Ok(told) => told.unwrap_or(Ended::lost()),
                Err(_) => Ended::lost(),
            },
        };
        // No second poll of the report: its answer is taken.
        self.ended = Some(told);
        if told.is_launcher_lost {
            // The kernel does this by itself; twice does no harm.
            self.kill();
            let _ = timeout(KILL_TIMEOUT, self.exited()).await;
        }
        told
    }

    /// SIGKILL to everything inside.
    pub fn kill(&self) {
        self.leash.get_ref().kill();
    }

    /// Kills what is left and waits for the end. False: it hangs in the kernel.
    pub async fn end(&self) -> bool {
        self.kill();
        timeout(KILL_TIMEOUT, self.exited()).await.is_ok()
    }
}

async fn exit_of(leash: &AsyncFd<Leash>) {
    if leash.readable().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe to call, for types that may close or change their descriptor; Leash cannot"
)]
fn register(leash: Leash) -> std::io::Result<AsyncFd<Leash>> {
    AsyncFd::with_interest(leash, Interest::READABLE)
}
