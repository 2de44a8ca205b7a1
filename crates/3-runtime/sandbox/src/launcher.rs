//! One launcher process, and what is sent to it.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use agentos_protocol::sandbox::{Layer, PACKET_BYTES_MAX, Profile, SandboxOrder, ToLauncher};
use agentos_types::{Code, Fault, Result};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, shutdown},
};
use tokio::{
    sync::{Mutex, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    desk::{Born, Desk},
    holder::{self, Process},
    launchers::SandboxOptions,
    packet,
};

/// A launcher tries each wall once before it is ready; on a machine that swaps this takes long.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// An order takes milliseconds, on a machine that swaps much longer.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(20);
/// Orders without an answer, and not a word in between, after which the launcher counts as hung. One may be the fault of
/// the order: a bind of a dead network file system.
const UNANSWERED_MAX: u32 = 2;

/// Ended when dropped.
#[derive(Debug)]
pub(crate) struct Launcher {
    pid: u32,
    socket: Arc<OwnedFd>,
    desk: Arc<Desk>,
    /// Until somebody has waited for it.
    greeting: Mutex<Option<oneshot::Receiver<Result<()>>>>,
    /// One order after the other, so that only one waits in a blocking call when the queue is full.
    sending: Mutex<()>,
}

impl Launcher {
    /// Of a server: returns when it is ready.
    pub(crate) async fn start(options: &SandboxOptions, profile: Profile) -> Result<Arc<Self>> {
        let (told, greeting) = oneshot::channel();
        let desk = Arc::new(Desk::new(profile, told));
        let begun = timeout(READY_TIMEOUT, holder::by_thread(options, desk.clone())).await;
        let (pid, socket) = begun.map_err(|_| silent(profile, "ready", READY_TIMEOUT))??;
        let launcher = Self::new(pid, socket, desk, greeting);
        launcher.ready().await?;
        Ok(Arc::new(launcher))
    }

    /// Of a program for a single sandbox. It reads the order when it is ready; whether it ever is shows by the answer.
    pub(crate) fn attend(process: Process, profile: Profile) -> Result<Arc<Self>> {
        let (told, greeting) = oneshot::channel();
        let desk = Arc::new(Desk::new(profile, told));
        let launcher = Self::new(process.pid(), process.socket.clone(), desk.clone(), greeting);
        holder::by_this_thread(process, desk)?;
        Ok(Arc::new(launcher))
    }

    /// From here on the drop of it ends process and holder.
    fn new(pid: u32, socket: Arc<OwnedFd>, desk: Arc<Desk>, greeting: oneshot::Receiver<Result<()>>) -> Self {
        Self { pid, socket, desk, greeting: Mutex::new(Some(greeting)), sending: Mutex::default() }
    }

    /// Returns when it has said that it is ready, also if that was before.
    pub(crate) async fn ready(&self) -> Result<()> {
        let mut greeting = self.greeting.lock().await;
        let Some(told) = greeting.as_mut() else { return Ok(()) };
        let profile = self.desk.profile();
        let told = timeout(READY_TIMEOUT, told).await.map_err(|_| silent(profile, "ready", READY_TIMEOUT))?;
        told.map_err(|_| Fault::internal("the holder of a launcher has ended"))??;
        *greeting = None;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// None before it is ready.
    pub(crate) fn layers(&self) -> &[Layer] {
        self.desk.layers()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.desk.is_lost()
    }

    pub(crate) async fn spawn(&self, order: SandboxOrder, descriptors: Vec<OwnedFd>) -> Result<Born> {
        let id = order.id;
        let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order))).map_err(Fault::internal)?;
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(Fault::new(
                Code::LAUNCH_FAILED,
                format!("an order of {} bytes is above the limit of {PACKET_BYTES_MAX} bytes", bytes.len()),
            )
            .hint("give the program less environment, fewer arguments or fewer mounts"));
        }
        let answer = self.desk.expect(id)?;
        // Also when the caller is dropped in the middle.
        let _forgotten = Forget { desk: &self.desk, id };
        let answered = timeout(SPAWN_TIMEOUT, async {
            self.send(bytes, descriptors).await?;
            answer.await.map_err(|_| Fault::internal("an order was lost"))?
        });
        match answered.await {
            Ok(born) => born,
            Err(_) => {
                if self.desk.unanswered() >= UNANSWERED_MAX {
                    self.end();
                }
                // One that hangs is as good as gone, whoever's order it was.
                Err(Fault::new(Code::LAUNCHER_LOST, format!("no sandbox within {} s", SPAWN_TIMEOUT.as_secs())))
            }
        }
    }

    async fn send(&self, bytes: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<()> {
        let failed = |source: Errno| {
            Fault::new(Code::LAUNCHER_LOST, "the launcher takes no orders; it has ended or hangs").detail(source)
        };
        let _in_turn = self.sending.lock().await;
        match packet::send(&self.socket, &bytes, &descriptors, SendFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            sent => return sent.map_err(failed),
        }
        let socket = self.socket.clone();
        let sent = spawn_blocking(move || packet::send(&socket, &bytes, &descriptors, SendFlags::empty())).await;
        sent.map_err(Fault::internal)?.map_err(failed)
    }

    /// The holder wakes from its reading and kills the process.
    fn end(&self) {
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.end();
    }
}

struct Forget<'l> {
    desk: &'l Desk,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.desk.forget(self.id);
    }
}

fn silent(profile: Profile, owed: &str, limit: Duration) -> Fault {
    let (profile, limit_s) = (profile.as_str(), limit.as_secs());
    Fault::new(
        Code::LAUNCHER_NOT_READY,
        format!("the launcher of the profile {profile} did not say {owed} within {limit_s} s"),
    )
}
