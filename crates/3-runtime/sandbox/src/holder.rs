//! Who holds a launcher's process: spawns it, reads what it says until the socket closes, and ends it.
//!
//! The kernel sends the parent-death signal when the *thread* that spawned a child ends, not its process. Threads of the
//! async runtime come and go, so a server's launcher has a thread of its own. When that ends, with the server or because of
//! it, the launcher ends, and with the launcher everything that it has made. A program for a single sandbox has one thread
//! anyway: it spawns by itself and reads in between, and is spared the wake-ups, which take longer than the work.

use std::{
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use agentos_protocol::sandbox::{FromLauncher, PACKET_BYTES_MAX, Profile};
use agentos_types::{Code, Fault, Result};
use rustix::{
    io::Errno,
    net::{RecvFlags, sockopt},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use crate::{
    desk::Desk,
    launchers::{Life, SandboxOptions},
    packet,
};

/// Into the queue of a launcher that reads.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one line that a launcher prints. It prints when it cannot use its socket, so there is little.
const PRINTED_BYTES_MAX: u64 = 4_096;

/// A launcher's process and this side of its socket. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) socket: Arc<OwnedFd>,
}

impl Process {
    /// By the calling thread, with which it ends.
    pub(crate) fn spawn(options: &SandboxOptions, profile: Profile, life: Life) -> Result<Self> {
        let (ours, theirs) = packet::pair().map_err(Fault::internal)?;
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Send, Some(SEND_TIMEOUT)).map_err(Fault::internal)?;
        let mut command = command(options, profile, life, theirs);
        let child = command.spawn().map_err(|error| {
            let message = format!("the launcher of the profile {} could not be started: {error}", profile.as_str());
            Fault::new(Code::LAUNCHER_NOT_READY, message)
        })?;
        Ok(Self { child, socket: Arc::new(ours) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it is gone already. What is not reaped here is reaped when this process ends.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

/// The environment is cleared here already: for a moment it could be read in the launcher's own /proc entry.
fn command(options: &SandboxOptions, profile: Profile, life: Life, socket: OwnedFd) -> Command {
    let mut command = Command::new(&options.launcher);
    command
        .args(["--serve", "--parent", &std::process::id().to_string()])
        .args(["--profile", profile.as_str(), "--backend", options.backend.as_str()])
        .env_clear()
        .current_dir("/")
        // A Ctrl-C in the server's terminal is for the server, which then ends its agents in order.
        .process_group(0)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null());
    match life {
        Life::Many => command.stderr(Stdio::piped()),
        // It prints for the person who waits.
        Life::One => command.args(["--trial", "no"]).stderr(Stdio::inherit()),
    };
    command
}

/// A thread spawns it and reads. Returns when the process is there, with its number and its socket.
pub(crate) async fn by_thread(options: &SandboxOptions, desk: Arc<Desk>) -> Result<(u32, Arc<OwnedFd>)> {
    let (begun, has_begun) = oneshot::channel();
    let (options, profile) = (options.clone(), desk.profile());
    let life = move || {
        let mut process = match Process::spawn(&options, profile, Life::Many) {
            Ok(process) => process,
            Err(fault) => return drop(begun.send(Err(fault))),
        };
        if begun.send(Ok((process.pid(), process.socket.clone()))).is_err() {
            return;
        }
        if let Some(stderr) = process.child.stderr.take() {
            print(stderr);
        }
        let reason = read(&process.socket, &desk).err();
        let _ = process.child.kill();
        let ended = process.child.wait();
        let status = ended.map_or_else(|error| error.to_string(), |status| format!("ended ({status})"));
        tell_end(&desk, process.pid(), reason.unwrap_or_else(|| format!("the process {status}")));
    };
    let name = format!("launcher-{}", profile.as_str());
    thread::Builder::new().name(name).spawn(life).map_err(Fault::internal)?;
    has_begun.await.map_err(|_| Fault::internal("the thread of a launcher has ended"))?
}

/// This thread reads between other things.
pub(crate) fn by_this_thread(mut process: Process, desk: Arc<Desk>) -> Result<()> {
    let watched = register(process.socket.clone()).map_err(Fault::internal)?;
    tokio::spawn(async move {
        let reason = read_between(&watched, &desk).await.err();
        let _ = process.child.kill();
        // Not waited for: this is the only thread. What is left goes with this process, which is about to end.
        let status = match process.child.try_wait() {
            Ok(Some(status)) => format!("the process ended ({status})"),
            _ => "its socket has closed".to_owned(),
        };
        tell_end(&desk, process.pid(), reason.unwrap_or(status));
    });
    Ok(())
}

fn tell_end(desk: &Desk, launcher: u32, reason: String) {
    tracing::info!(launcher, reason, "a launcher has ended");
    desk.lose(&reason);
}

fn read(socket: &OwnedFd, desk: &Desk) -> std::result::Result<(), String> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    // Ends when the socket closes, or with the first packet that is none.
    loop {
        let packet = packet::receive(socket, &mut buffer, RecvFlags::empty());
        if !take(packet.map_err(unread)?, &buffer, desk)? {
            return Ok(());
        }
    }
}

async fn read_between(socket: &AsyncFd<Arc<OwnedFd>>, desk: &Desk) -> std::result::Result<(), String> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    // Ends as above.
    loop {
        let mut ready = socket.readable().await.map_err(|error| format!("its socket could not be watched: {error}"))?;
        match packet::receive(socket.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => ready.clear_ready(),
            packet => {
                if !take(packet.map_err(unread)?, &buffer, desk)? {
                    return Ok(());
                }
            }
        }
    }
}

fn unread(error: Errno) -> String {
    format!("its socket could not be read: {error}")
}

/// False: the other side has closed.
fn take(packet: Option<(usize, Vec<OwnedFd>)>, buffer: &[u8], desk: &Desk) -> std::result::Result<bool, String> {
    let Some((length, descriptors)) = packet else { return Ok(false) };
    let message: FromLauncher = serde_json::from_slice(buffer.get(..length).unwrap_or_default())
        .map_err(|error| format!("it does not keep to the protocol: {error}"))?;
    desk.take(message, descriptors).map(|()| true)
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

#[expect(
    deprecated,
    reason = "its successor is unsafe to call, for types that may close or change their descriptor; a shared one cannot"
)]
fn register(socket: Arc<OwnedFd>) -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}
