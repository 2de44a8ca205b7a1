//! The launcher seat: the one thread that spawns agents.
//!
//! The kernel sends the parent-death signal when the *thread* that spawned a child ends, not its process. Threads of the
//! async runtime come and go, so every spawn happens here, on a thread that lives as long as the supervisor: when it ends,
//! with the server or because of it, all agents end.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    time::Duration,
};

use agentos_types::{Code, Fault, Result};
use tokio::sync::{mpsc, oneshot};

/// Agents that wait for their spawn. Each takes about a millisecond, and an actor waits for its own only.
const WAITING_MAX: usize = 64;
/// A fork on a machine that swaps; beyond it something is broken.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends its thread, and with it every agent, when the last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    requests: mpsc::Sender<Reply>,
}

type Reply = oneshot::Sender<io::Result<Spawned>>;

/// A launcher that waits for its order on the other end of `socket`.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Seat {
    pub(crate) fn take(launcher: PathBuf) -> Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("launcher-seat".into())
            .spawn(move || serve(&launcher, waiting))
            .map_err(Fault::internal)?;
        Ok(Self { requests })
    }

    pub(crate) async fn spawn(&self) -> Result<Spawned> {
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.requests.send(reply).await.map_err(|_| Fault::internal("the launcher seat has ended"))?;
            answer.await.map_err(|_| Fault::internal("the launcher seat has ended"))
        };
        let spawned = tokio::time::timeout(SPAWN_TIMEOUT, asked).await.map_err(|_| {
            Fault::new(Code::LAUNCH_FAILED, format!("no process within {} s", SPAWN_TIMEOUT.as_secs()))
        })??;
        spawned
            .map_err(|source| Fault::new(Code::LAUNCH_FAILED, format!("the launcher could not be started: {source}")))
    }
}

fn serve(launcher: &Path, mut waiting: mpsc::Receiver<Reply>) {
    while let Some(reply) = waiting.blocking_recv() {
        // Whoever no longer waits needs no process.
        if reply.is_closed() {
            continue;
        }
        if let Err(Ok(mut unclaimed)) = reply.send(spawn(launcher)) {
            // It waits for an order that nobody will give; both calls fail only if it is gone already.
            let _ = unclaimed.child.kill();
            let _ = unclaimed.child.wait();
        }
    }
}

/// The environment is cleared here already: for a moment it could be read in the launcher's own /proc entry.
fn spawn(launcher: &Path) -> io::Result<Spawned> {
    let (socket, theirs) = UnixStream::pair()?;
    socket.set_nonblocking(true)?;
    let mut child = Command::new(launcher)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    Ok(Spawned { child, socket, stdout, stderr })
}
