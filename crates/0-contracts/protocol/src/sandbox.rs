//! What crosses the socket between the server and a launcher: an order for one sandbox, and what became of it.
//!
//! The socket is SOCK_SEQPACKET, so one message is one packet of JSON, at most [`PACKET_BYTES_MAX`]; descriptors ride with
//! it. A launcher is started once for each [`Profile`], and everything that it is told about a sandbox is one
//! [`SandboxOrder`]. What the order leaves out the launcher derives: Landlock's rules from mounts and network, the system
//! call filter from its own profile. So there are never two lists that could disagree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub const SANDBOX_VERSION: u32 = 3;
/// Largest message of either side.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Most descriptors with one message; the kernel's own limit is 253.
pub const DESCRIPTORS_MAX: usize = 64;
/// The user inside of every sandbox. It is never 0, so that nothing inside believes to be root.
pub const INNER_ID: u32 = 1000;
/// Where programs inside reach models, if their agent may call any. The server answers there itself.
pub const MODEL_PORT: u16 = 18_801;

/// Which system calls there are inside. Fixed for the life of a launcher, so that no order can loosen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// No new program, process or socket: for hosts of WebAssembly.
    Strict,
    /// Agents and what they run.
    Agent,
    /// As `agent`, and ptrace of own processes: debuggers and tracers work.
    Dev,
    /// The egress proxy: sockets of the machine's network, no new program.
    Proxy,
}

impl Profile {
    pub const ALL: [Profile; 4] = [Profile::Strict, Profile::Agent, Profile::Dev, Profile::Proxy];

    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Strict => "strict",
            Profile::Agent => "agent",
            Profile::Dev => "dev",
            Profile::Proxy => "proxy",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text)
    }
}

/// From the server. With an order come the descriptors of [`SandboxOrder::descriptors`], in that order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToLauncher {
    Spawn(Box<SandboxOrder>),
}

/// From a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromLauncher {
    /// Once, before anything else.
    Ready { version: u32, profile: Profile, layers: Vec<Layer> },
    /// The program runs: its `execve` has succeeded. Descriptors: a pidfd of the sandbox's init, then one for each
    /// listener of the order, in that order.
    Spawned { id: u64, pid: u32 },
    /// The program never ran. Nothing is left of it.
    Failed { id: u64, stage: String, message: String },
    /// Everything inside has ended, and the init has been reaped.
    Ended { id: u64, end: End, rusage: Rusage },
}

/// One wall of a sandbox and how it stands here. A launcher says it once; it is not different for each sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// For example `landlock` or `seccomp`.
    pub name: String,
    pub is_active: bool,
    /// For example `ABI 7: files, TCP, scopes`, or why it is missing.
    pub detail: String,
}

/// How the program (not the init) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal. SIGSYS is the system call filter.
    Signaled(i32),
    /// The init was killed before the program had ended: somebody killed the sandbox.
    Killed,
}

/// What the kernel counted of the init and everything that it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rusage {
    pub cpu_us: u64,
    pub memory_peak_bytes: u64,
}

/// Everything about one sandbox. Paths inside are absolute and plain; paths outside are canonical: a link is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxOrder {
    pub version: u32,
    /// Chosen by the server; comes back with every answer.
    pub id: u64,
    /// Absolute path inside, then its arguments.
    pub command: Vec<String>,
    /// The whole environment of the program.
    pub environment: BTreeMap<String, String>,
    /// Working directory inside.
    pub directory: String,
    pub hostname: String,
    /// User on the host that [`INNER_ID`] stands for. Absent: the launcher's own, as without privileges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<u32>,
    /// Group on the host that [`INNER_ID`] stands for. Absent: the one with the number of `host_id`, or the launcher's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_gid: Option<u32>,
    /// Made from first to last on an empty root that is read-only in the end.
    pub mounts: Vec<Mount>,
    pub proc: ProcView,
    pub network: Network,
    pub limits: ProcessLimits,
    /// False closes memory files (memfd) for execution, so that only mounted programs run.
    pub anonymous_programs: bool,
    /// Added to the launcher's own nice level of 0: 0 to 19.
    pub nice: i32,
    /// How many processors it may use at most. Which ones the launcher chooses, in turn by the number of the order. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processors: Option<u16>,
    /// Profile of AppArmor that the program starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
    /// What the descriptors of this message are.
    pub descriptors: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mount {
    /// A directory or file of the host.
    Bind {
        source: String,
        target: String,
        writable: bool,
        executable: bool,
    },
    Tmpfs {
        target: String,
        bytes: u64,
        inodes: u64,
        executable: bool,
    },
    Symlink {
        target: String,
        to: String,
    },
    /// A small read-only file with this content, such as `/etc/passwd`.
    File {
        target: String,
        content: String,
    },
    /// null, zero, full, random, urandom, the links to descriptors, and `shm` with this many bytes.
    Devices {
        shm_bytes: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcView {
    /// Own processes alone.
    Processes,
    /// As a container shows it: machine-wide files too, the dangerous ones masked or read-only. Node and the JVM count
    /// processors there.
    MaskedFull,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// The machine's own. For the egress proxy alone.
    Host,
    /// A network of its own that leads nowhere. Every address is local to it, so that the listeners catch all that the
    /// program wants to reach.
    Own {
        listeners: Vec<Listener>,
        /// The program may listen and connect inside, on any port. Otherwise it may connect to the listeners alone.
        loopback: bool,
    },
}

/// A socket made inside the sandbox's network and handed out, so that somebody outside accepts what arrives. Bound to every
/// address of the family: TCP and UDP listeners are dual-stack (`[::]` with IPV6_V6ONLY off) where IPv6 exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "port", rename_all = "kebab-case")]
pub enum Listener {
    Tcp(u16),
    Udp(u16),
}

/// Values for setrlimit. Absent leaves the kernel's default for a new user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLimits {
    /// Address space of each process. Only where nothing bounds the sum: run-times reserve far more than they use.
    pub address_space_bytes: Option<u64>,
    pub cpu_seconds: Option<u64>,
    pub open_files: u64,
    pub file_bytes: u64,
    /// Processes and threads of the user inside.
    pub processes: Option<u64>,
}

/// Standard streams that are not given are `/dev/null`. Each kind but [`Descriptor::CgroupProcs`] comes at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Descriptor {
    Stdin,
    Stdout,
    Stderr,
    /// Descriptor 3 of the program: the socket to the kernel.
    Channel,
    /// Directory of a version 2 cgroup that the sandbox is born into.
    Cgroup,
    /// `cgroup.procs` of a version 1 cgroup, open for writing, that the sandbox enters before anything of it runs.
    CgroupProcs,
}
