//! The processes of one life as one thing: seen to end at once, killed as a whole, and told why they ended.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use agentos_protocol::sandbox::Descriptor;
use agentos_sandbox::{Ended, Reason, Running, Sandboxes, plan::Plan};
use agentos_types::{Fault, Result};
use tokio::{net::unix::pipe::Receiver, task::spawn_blocking};

use crate::surroundings::Surroundings;

/// Killed with everything that it has started when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    running: Running,
    surroundings: Arc<Surroundings>,
}

/// Our ends of what a worker is given.
pub(crate) struct Ends {
    /// Non-blocking.
    pub(crate) socket: UnixStream,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
}

impl Process {
    /// Returns when the program runs.
    pub(crate) async fn start(
        sandboxes: &Sandboxes,
        mut plan: Plan,
        surroundings: Arc<Surroundings>,
    ) -> Result<(Self, Ends)> {
        let (socket, theirs) = UnixStream::pair().map_err(Fault::internal)?;
        socket.set_nonblocking(true).map_err(Fault::internal)?;
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        let mut given = vec![
            (Descriptor::Stdout, stdout_theirs),
            (Descriptor::Stderr, stderr_theirs),
            (Descriptor::Channel, theirs.into()),
        ];
        given.extend(surroundings.descriptors()?);
        let descriptors: Vec<OwnedFd>;
        (plan.descriptors, descriptors) = given.into_iter().unzip();
        let profile = plan.profile;
        // Looks for the program on the host.
        let order = spawn_blocking(move || plan.order()).await.map_err(Fault::internal)??;
        let running = sandboxes.spawn(profile, order, descriptors).await?;
        let next = surroundings.clone();
        // Nobody waits for it, and without it the next start takes a little longer.
        drop(spawn_blocking(move || next.group().make_ahead()));
        Ok((Self { running, surroundings }, Ends { socket, stdout, stderr }))
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.pid()
    }

    /// In the order of the plan.
    pub(crate) fn take_listeners(&mut self) -> Vec<OwnedFd> {
        self.running.take_listeners()
    }

    pub(crate) fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    /// Returns when nothing of it runs any more, also if that was before.
    pub(crate) async fn exited(&self) {
        self.running.exited().await;
    }

    /// Kills what is left and waits for the end. False: something hangs in the kernel.
    pub(crate) async fn end(&self) -> bool {
        self.running.kill();
        let surroundings = self.surroundings.clone();
        // Where there is no namespace of processes, the group alone knows them all.
        let _ = spawn_blocking(move || surroundings.kill()).await;
        self.running.end().await
    }

    /// After the end: how it was. `by_itself`: nobody of us had killed it.
    pub(crate) async fn told(&mut self, by_itself: bool) -> (Ended, Reason) {
        let ended = self.running.ended().await;
        let surroundings = self.surroundings.clone();
        let seen = spawn_blocking(move || surroundings.evidence(!by_itself)).await.unwrap_or_default();
        (ended, Reason::of(&ended, &seen))
    }
}

/// The reading end, and the writing end for the sandbox.
fn pipe() -> Result<(Receiver, OwnedFd)> {
    let (reader, writer) = std::io::pipe().map_err(Fault::internal)?;
    let receiver = Receiver::from_owned_fd(reader.into()).map_err(Fault::internal)?;
    Ok((receiver, writer.into()))
}
