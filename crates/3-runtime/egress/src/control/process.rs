//! The process of the proxy: made by the launcher of its own profile, with its log read line by line.

use std::{os::fd::OwnedFd, path::PathBuf};

use agentos_base::Background;
use agentos_protocol::sandbox::Profile;
use agentos_sandbox::{Running, Sandboxes};
use agentos_types::{Fault, Result};
use async_trait::async_trait;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe::Receiver,
};

use super::order;

/// Of one line that the proxy prints.
const LINE_BYTES_MAX: u64 = 4_096;
/// Lines of one life. A proxy prints when something is wrong with it, and a program inside may have a hand in it.
const LINES_MAX: u32 = 1_000;

/// Starts a proxy with a socket as its descriptor 3. A seam for tests, which have proxies that hang and lie.
#[async_trait]
pub(crate) trait StartProxy: Send + Sync {
    async fn start(&self, channel: OwnedFd) -> Result<Box<dyn ProxyProcess>>;
}

/// Killed when dropped.
#[async_trait]
pub(crate) trait ProxyProcess: Send {
    fn pid(&self) -> u32;
    /// How it ended. May be dropped and called again.
    async fn ended(&mut self) -> String;
    fn kill(&self);
}

/// What the proxy needs to know of this machine.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// User on the host that it runs as; absent, the server's own.
    pub host_id: Option<u32>,
    /// Files of further certificate authorities for the targets that it terminates TLS for.
    pub extra_roots: Vec<PathBuf>,
}

pub(super) struct Sandboxed {
    sandboxes: Sandboxes,
    program: PathBuf,
    options: ProxyOptions,
    background: Background,
}

impl Sandboxed {
    pub fn new(sandboxes: Sandboxes, program: PathBuf, options: ProxyOptions, background: Background) -> Self {
        Self { sandboxes, program, options, background }
    }
}

#[async_trait]
impl StartProxy for Sandboxed {
    async fn start(&self, channel: OwnedFd) -> Result<Box<dyn ProxyProcess>> {
        let (program, options) = (self.program.clone(), self.options.clone());
        let made = tokio::task::spawn_blocking(move || order::order(&program, &options)).await;
        let order = made.map_err(Fault::internal)??;
        let (log, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(Fault::internal)?;
        // In the order of `order::DESCRIPTORS`.
        let running = self.sandboxes.spawn(Profile::Proxy, order, vec![stderr, channel]).await?;
        let log = Receiver::from_owned_fd(log).map_err(Fault::internal)?;
        self.background.spawn("egress-log", print(log));
        Ok(Box::new(running))
    }
}

#[async_trait]
impl ProxyProcess for Running {
    fn pid(&self) -> u32 {
        Running::pid(self)
    }

    async fn ended(&mut self) -> String {
        let ended = Running::ended(self).await;
        format!("it ended: {:?}", ended.end)
    }

    fn kill(&self) {
        Running::kill(self);
    }
}

/// What it prints goes into the server's log, until it has said enough. Then it is read and dropped, so that it never waits.
async fn print(log: Receiver) {
    let mut reader = BufReader::new(log);
    let mut lines = 0_u32;
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => lines = lines.saturating_add(1),
        }
        if lines <= LINES_MAX {
            let text = String::from_utf8_lossy(&line);
            tracing::warn!(line = text.trim_end(), "the egress proxy says");
        }
    }
}

impl std::fmt::Debug for Sandboxed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandboxed").field("program", &self.program).finish_non_exhaustive()
    }
}
