//! Figures of the launcher: from the order to the first byte of the program, to its start and to its end, beside `bwrap`.
//!
//! `cargo run --release -p agentos-launcher --example spawn -- LAUNCHER [COUNT]`, with the launcher of the same profile.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program for a person who measures")]

use std::{
    io::Read,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use agentos_launcher::sys::{packets, process};
use agentos_protocol::sandbox::*;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let launcher = arguments.next().unwrap();
    let count = arguments.next().map_or(200, |text| text.parse().unwrap());
    let plain = sample(count, || {
        let _ = Command::new("/bin/true").env_clear().status();
        [Duration::ZERO; 2]
    });
    println!("fork, exec and wait        {plain}");
    let bare = order(vec![], vec![]);
    let usual = order(usual_mounts(), vec![]);
    let caught = order(usual_mounts(), vec![Listener::Tcp(3128), Listener::Tcp(443), Listener::Udp(53)]);
    let masked = SandboxOrder { proc: ProcView::MaskedFull, ..caught.clone() };
    for (name, order) in
        [("no mounts", bare), ("usual mounts", usual), ("and 3 listeners", caught), ("and masked /proc", masked)]
    {
        let mut server = Server::start(&launcher);
        let before = server.launcher_cpu_ms();
        let figures = sample(count, || server.spawn(&order));
        let inside = server.cpu_us as f64 / 1000.0 / count as f64;
        let launcher = (server.launcher_cpu_ms() - before) / count as f64;
        println!("{name:26} {figures}CPU {inside:.2} ms inside, {launcher:.2} in the launcher");
    }
    let bwrap = sample(count, || {
        let words = ["--unshare-all", "--ro-bind", "/", "/", "/bin/true"];
        let _ = Command::new("bwrap").args(words).env_clear().status();
        [Duration::ZERO; 2]
    });
    println!("bwrap --unshare-all        {bwrap}");
}

/// Percentiles of: first byte, told as running, told as ended.
fn sample(count: usize, mut run: impl FnMut() -> [Duration; 2]) -> String {
    let mut columns = [const { Vec::new() }; 3];
    for _ in 0..count {
        let start = Instant::now();
        let [first, told] = run();
        columns.iter_mut().zip([first, told, start.elapsed()]).for_each(|(column, value)| column.push(value));
    }
    let names = ["first byte", "running", "ended"];
    let show = |(name, column): (&str, &mut Vec<Duration>)| {
        column.sort();
        let at = |percent: usize| column[(column.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        format!("{name} p10 {:.2} p50 {:.2} p99 {:.2} ms   ", at(10), at(50), at(99))
    };
    names.into_iter().zip(&mut columns).filter(|(_, column)| column[0] > Duration::ZERO).map(show).collect()
}

struct Server {
    socket: OwnedFd,
    launcher: u32,
    id: u64,
    cpu_us: u64,
}

impl Server {
    fn start(launcher: &str) -> Self {
        let (socket, theirs) = packets::pair().unwrap();
        let pid = std::process::id().to_string();
        let words = ["--serve", "--parent", &pid, "--profile", "agent"];
        let launcher = Command::new(launcher).args(words).stdin(Stdio::from(theirs)).spawn().unwrap().id();
        let server = Self { socket, launcher, id: 0, cpu_us: 0 };
        server.hear();
        server
    }

    /// Of the launcher alone: user and system ticks of proc(5), of which there are a hundred a second.
    fn launcher_cpu_ms(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.launcher)).unwrap();
        let fields = text.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        fields.map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
    }

    fn hear(&self) -> (FromLauncher, Vec<OwnedFd>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let packet = packets::receive(self.socket.as_raw_fd(), &mut buffer, true).unwrap();
        (serde_json::from_slice(&buffer[..packet.length]).unwrap(), packet.descriptors)
    }

    /// When the first byte came and when the program was told to run.
    fn spawn(&mut self, order: &SandboxOrder) -> [Duration; 2] {
        let start = Instant::now();
        self.id += 1;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let order = SandboxOrder { id: self.id, descriptors: vec![Descriptor::Stdout], ..order.clone() };
        let bytes = serde_json::to_vec(&ToLauncher::Spawn(Box::new(order))).unwrap();
        packets::send(self.socket.as_raw_fd(), &bytes, &[writer.as_fd()], true).unwrap();
        drop(writer);
        let mut byte = [0];
        assert_eq!(reader.read(&mut byte).unwrap(), 1, "{:?}", self.hear());
        let first = start.elapsed();
        assert!(matches!(self.hear().0, FromLauncher::Spawned { .. }));
        let told = start.elapsed();
        match self.hear().0 {
            FromLauncher::Ended { rusage, .. } => self.cpu_us += rusage.cpu_us,
            other => panic!("{other:?}"),
        }
        [first, told]
    }
}

fn usual_mounts() -> Vec<Mount> {
    let bind = |path: &str| Mount::Bind { source: path.into(), target: path.into(), writable: false, executable: true };
    let link = |target: &str, to: &str| Mount::Symlink { target: target.into(), to: to.into() };
    let file = |target: &str| Mount::File { target: target.into(), content: "x\n".repeat(20) };
    vec![
        bind("/usr"),
        link("/bin", "usr/bin"),
        link("/lib", "usr/lib"),
        link("/lib64", "usr/lib64"),
        file("/etc/passwd"),
        file("/etc/group"),
        file("/etc/hosts"),
        file("/etc/resolv.conf"),
        Mount::Bind { source: "/var/tmp".into(), target: "/workspace".into(), writable: true, executable: true },
        Mount::Tmpfs { target: "/tmp".into(), bytes: 1 << 20, inodes: 64, executable: false },
        Mount::Devices { shm_bytes: 1 << 20 },
    ]
}

/// Without a root of its own a program needs no library: the launcher itself prints its usage.
fn order(mut mounts: Vec<Mount>, listeners: Vec<Listener>) -> SandboxOrder {
    let program = std::env::args().nth(1).unwrap();
    mounts.push(Mount::Bind { source: program, target: "/program".into(), writable: false, executable: true });
    let user = process::effective_user();
    SandboxOrder {
        version: SANDBOX_VERSION,
        id: 0,
        command: vec!["/program".into(), "--version".into()],
        environment: [("PATH".to_owned(), "/usr/bin".to_owned())].into(),
        directory: "/".into(),
        hostname: "bench".into(),
        host_id: (user == 0).then_some(231_072),
        host_gid: None,
        mounts,
        proc: ProcView::Processes,
        network: Network::Own { listeners, loopback: false },
        limits: ProcessLimits { open_files: 64, file_bytes: 1 << 20, ..ProcessLimits::default() },
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: vec![],
    }
}
