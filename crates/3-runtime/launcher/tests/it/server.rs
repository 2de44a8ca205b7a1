//! A launcher that serves, and a test that speaks to it as the server does.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use agentos_launcher::sys::packets;
use agentos_protocol::sandbox::*;

use crate::harness::{LAUNCHER, PATIENCE, own_pid};

/// A user of the host that nobody has.
pub const HOST_ID: u32 = 231_072;
/// Who a test is when it is not root.
pub const NOBODY: u32 = 65534;

pub struct Server {
    pub child: Child,
    pub socket: OwnedFd,
    pub layers: Vec<Layer>,
    is_root: bool,
    needs_user: bool,
    last_id: u64,
}

/// Starts a launcher and hears its greeting.
pub fn serve(profile: &str, backend: &str, user: Option<u32>) -> Server {
    serve_with(profile, backend, user, || Ok(()))
}

/// The same, with something done to its process before it runs.
pub fn serve_with(profile: &str, backend: &str, user: Option<u32>, before: fn() -> std::io::Result<()>) -> Server {
    let (ours, theirs) = packets::pair().unwrap();
    set_patience(&ours);
    make_room(&ours);
    let mut command = Command::new(LAUNCHER);
    command.args(["--serve", "--parent", &own_pid(), "--profile", profile, "--backend", backend]);
    command.env("PLANTED_SECRET", "hunter2").stdin(Stdio::from(theirs));
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    // SAFETY: what tests do there makes only async-signal-safe calls.
    unsafe { command.pre_exec(before) };
    let child = command.spawn().unwrap();
    let is_root = user.is_none() && agentos_launcher::sys::process::effective_user() == 0;
    let mut server = Server {
        child,
        socket: ours,
        layers: Vec::new(),
        is_root,
        needs_user: is_root && backend != "none",
        last_id: 0,
    };
    match server.hear().0 {
        FromLauncher::Ready { version: SANDBOX_VERSION, layers, .. } => server.layers = layers,
        other => panic!("{other:?} instead of ready"),
    }
    server
}

/// The largest packet is above what a socket takes by itself.
fn make_room(socket: &OwnedFd) {
    let bytes = 2 * PACKET_BYTES_MAX as libc::c_int;
    let length = std::mem::size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the pointer is to a live local, and the length is its size.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const bytes).cast(), length)
    };
    assert_eq!(result, 0);
}

fn set_patience(socket: &OwnedFd) {
    let value = libc::timeval { tv_sec: PATIENCE.as_secs() as i64, tv_usec: 0 };
    let length = std::mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a live local, and the length is its size.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0);
}

/// Everything that a shell needs.
pub fn order(script: &str) -> SandboxOrder {
    let link = |target: &str, to: &str| Mount::Symlink { target: target.into(), to: to.into() };
    SandboxOrder {
        version: SANDBOX_VERSION,
        id: 0,
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        environment: BTreeMap::from([("ONLY".into(), "this one".into()), ("PATH".into(), "/usr/bin:/usr/sbin".into())]),
        directory: "/".into(),
        hostname: "inside".into(),
        host_id: None,
        host_gid: None,
        mounts: vec![
            Mount::Bind { source: "/usr".into(), target: "/usr".into(), writable: false, executable: true },
            link("/bin", "usr/bin"),
            link("/lib", "usr/lib"),
            link("/lib64", "usr/lib64"),
            Mount::File { target: "/etc/passwd".into(), content: "agent:x:1000:1000::/:/bin/sh\n".into() },
            Mount::Tmpfs { target: "/tmp".into(), bytes: 1 << 20, inodes: 64, executable: false },
            Mount::Devices { shm_bytes: 1 << 20 },
        ],
        proc: ProcView::Processes,
        network: Network::Own { listeners: vec![], loopback: false },
        limits: ProcessLimits { open_files: 64, file_bytes: 1 << 20, ..ProcessLimits::default() },
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: vec![],
    }
}

impl Server {
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// One message, in time.
    pub fn hear(&mut self) -> (FromLauncher, Vec<OwnedFd>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let packet = packets::receive(self.socket.as_raw_fd(), &mut buffer, true).expect("an answer in time");
        assert!(packet.length > 0, "the launcher has closed its side");
        (serde_json::from_slice(&buffer[..packet.length]).unwrap(), packet.descriptors)
    }

    /// Gives an order its number, and its user if it names none and needs one.
    pub fn send(&mut self, mut order: SandboxOrder, descriptors: &[OwnedFd]) -> u64 {
        self.last_id += 1;
        order.id = self.last_id;
        if self.needs_user && order.host_id.is_none() && !order.mounts.is_empty() {
            order.host_id = Some(HOST_ID);
        }
        let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order))).unwrap();
        self.send_bytes(&bytes, descriptors);
        self.last_id
    }

    pub fn send_bytes(&mut self, bytes: &[u8], descriptors: &[OwnedFd]) {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        packets::send(self.socket.as_raw_fd(), bytes, &borrowed, true).unwrap();
    }

    /// Expects the program to run; gives its pid, pidfd and listeners.
    pub fn spawned(&mut self) -> (u32, OwnedFd, Vec<OwnedFd>) {
        match self.hear() {
            (FromLauncher::Spawned { id, pid }, mut descriptors) if id == self.last_id => {
                let pidfd = descriptors.remove(0);
                (pid, pidfd, descriptors)
            }
            other => panic!("{other:?} instead of spawned"),
        }
    }

    pub fn ended(&mut self) -> (End, Rusage) {
        match self.hear().0 {
            FromLauncher::Ended { id, end, rusage } if id == self.last_id => (end, rusage),
            other => panic!("{other:?} instead of ended"),
        }
    }

    pub fn failed(&mut self) -> (String, String) {
        match self.hear().0 {
            FromLauncher::Failed { id, stage, message } if id == self.last_id => (stage, message),
            other => panic!("{other:?} instead of failed"),
        }
    }

    /// Runs a program to its end; its output and error together.
    pub fn run(&mut self, mut order: SandboxOrder) -> (End, String) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        order.descriptors = vec![Descriptor::Stdout, Descriptor::Stderr];
        self.send(order, &[writer.try_clone().unwrap(), writer]);
        self.spawned();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (self.ended().0, text)
    }

    pub fn shell(&mut self, script: &str) -> String {
        let (end, text) = self.run(order(script));
        assert_eq!(end, End::Exited(0), "{text}");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its sandboxes die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}
