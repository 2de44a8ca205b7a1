//! One launcher process and the thread that holds it.
//!
//! The kernel sends the parent-death signal when the *thread* that spawned a child ends, not its process. Threads of the
//! async runtime come and go, so each launcher is spawned by a thread of its own, which then reads what the launcher says
//! until the socket closes. When the thread ends, with the server or because of it, the launcher ends, and with the launcher
//! everything that it has made.

use std::{
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use agentos_protocol::sandbox::{FromLauncher, Layer, PACKET_BYTES_MAX, Profile, SandboxOrder, ToLauncher};
use agentos_types::{Code, Fault, Result};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, shutdown, sockopt},
};
use tokio::{
    sync::{Mutex, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    desk::{Born, Desk},
    launchers::SandboxOptions,
    packet,
};

/// A launcher tries each wall once before it is ready; on a machine that swaps this takes long.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// An order takes milliseconds, on a machine that swaps much longer.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(20);
/// Into the queue of a launcher that reads.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Orders without an answer, and not a word in between, after which the launcher counts as hung. One may be the fault of
/// the order: a bind of a dead network file system.
const UNANSWERED_MAX: u32 = 2;
/// Of one line that a launcher prints. It prints when it cannot use its socket, so there is little.
const PRINTED_BYTES_MAX: u64 = 4_096;

/// Ended when dropped.
#[derive(Debug)]
pub(crate) struct Launcher {
    pid: u32,
    socket: Arc<OwnedFd>,
    desk: Arc<Desk>,
    layers: Vec<Layer>,
    /// One order after the other, so that only one waits in a blocking call when the queue is full.
    sending: Mutex<()>,
}

impl Launcher {
    /// Returns when it is ready.
    pub(crate) async fn start(options: &SandboxOptions, profile: Profile, has_trial: bool) -> Result<Arc<Self>> {
        let (ours, theirs) = packet::pair().map_err(Fault::internal)?;
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Send, Some(SEND_TIMEOUT)).map_err(Fault::internal)?;
        let mut command = command(options, profile, theirs);
        if !has_trial {
            command.args(["--trial", "no"]);
        }
        let (told, is_ready) = oneshot::channel();
        let (begun, has_begun) = oneshot::channel();
        let desk = Arc::new(Desk::new(profile, told));
        // From here on the drop of it ends thread and process.
        let mut launcher = Self { pid: 0, socket: Arc::new(ours), desk, layers: Vec::new(), sending: Mutex::default() };
        let (socket, desk) = (launcher.socket.clone(), launcher.desk.clone());
        thread::Builder::new()
            .name(format!("launcher-{}", profile.as_str()))
            .spawn(move || hold(command, begun, &socket, &desk))
            .map_err(Fault::internal)?;
        let started = timeout(READY_TIMEOUT, async {
            let pid = has_begun.await.ok();
            (pid, is_ready.await.map_err(|_| Fault::internal("the thread of a launcher has ended")))
        });
        let (pid, layers) = started.await.map_err(|_| silent(profile, "ready", READY_TIMEOUT))?;
        launcher.layers = layers??;
        launcher.pid = pid.unwrap_or_default();
        for layer in &launcher.layers {
            let (name, active, detail) = (&layer.name, layer.is_active, &layer.detail);
            tracing::debug!(profile = profile.as_str(), %name, active, %detail, "a wall of sandboxes");
        }
        Ok(Arc::new(launcher))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
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

    /// The thread wakes from its reading and kills the process.
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

/// The environment is cleared here already: for a moment it could be read in the launcher's own /proc entry.
fn command(options: &SandboxOptions, profile: Profile, socket: OwnedFd) -> Command {
    let mut command = Command::new(&options.launcher);
    command
        .args(["--serve", "--parent", &std::process::id().to_string()])
        .args(["--profile", profile.as_str(), "--backend", options.backend.as_str()])
        .env_clear()
        .current_dir("/")
        // A Ctrl-C in the server's terminal is for the server, which then ends its agents in order.
        .process_group(0)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The life of the thread: spawns, reads, and ends the process when either side is done.
fn hold(mut command: Command, begun: oneshot::Sender<u32>, socket: &OwnedFd, desk: &Desk) {
    let spawned = command.spawn();
    // Closes our copy of the launcher's end of the socket, so that its death is seen.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return desk.lose(&format!("it could not be started: {error}")),
    };
    let _ = begun.send(child.id());
    if let Some(stderr) = child.stderr.take() {
        print(stderr);
    }
    let reason = read(socket, desk).err();
    let status = kill(&mut child);
    let reason = reason.unwrap_or_else(|| format!("the process {status}"));
    tracing::info!(launcher = child.id(), reason, "a launcher has ended");
    desk.lose(&reason);
}

fn read(socket: &OwnedFd, desk: &Desk) -> std::result::Result<(), String> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while let Some((length, descriptors)) =
        packet::receive(socket, &mut buffer).map_err(|error| format!("its socket could not be read: {error}"))?
    {
        let bytes = buffer.get(..length).unwrap_or_default();
        let message: FromLauncher =
            serde_json::from_slice(bytes).map_err(|error| format!("it does not keep to the protocol: {error}"))?;
        desk.take(message, descriptors)?;
    }
    Ok(())
}

fn kill(child: &mut Child) -> String {
    // Fails only if it is gone already.
    let _ = child.kill();
    child.wait().map_or_else(|error| error.to_string(), |status| format!("ended ({status})"))
}

/// What it prints goes to the log. Ends with the process and its children.
fn print(stderr: ChildStderr) {
    let lines = move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        // Ends: every round takes at least one byte, or returns.
        while reader.by_ref().take(PRINTED_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            tracing::warn!(line = %String::from_utf8_lossy(&line).trim_end(), "a launcher printed");
            line.clear();
        }
    };
    // Without the thread it prints into a pipe that is closed, which it survives.
    let _ = thread::Builder::new().name("launcher-output".into()).spawn(lines);
}

fn silent(profile: Profile, owed: &str, limit: Duration) -> Fault {
    let (profile, limit_s) = (profile.as_str(), limit.as_secs());
    Fault::new(
        Code::LAUNCHER_NOT_READY,
        format!("the launcher of the profile {profile} did not say {owed} within {limit_s} s"),
    )
}
