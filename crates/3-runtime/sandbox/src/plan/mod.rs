//! What a sandbox is made of: from what is wanted ([`Plan`]) to the order that a launcher carries out.
//!
//! Every sandbox looks the same inside, whatever machine it runs on: `/usr` of the host read-only, a generated `/etc`, the
//! package at `/app`, the only lasting place at `/workspace`, `/tmp` in memory. What a plan adds is bound beside these
//! places, never over them. A plan opens nothing by itself: rights are decided by the monitor, walls are put up by the
//! launcher, limits of the whole group by cgroups.

mod binds;
mod environment;
mod etc;
mod host;
mod program;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_protocol::sandbox::{
    Descriptor, Listener, Mount, Network, ProcView, ProcessLimits, Profile, SANDBOX_VERSION, SandboxOrder,
};
use agentos_types::{
    Code, Fault, Result,
    manifest::{Limits, Sandbox, SandboxProfile},
};

pub use binds::Bind;
pub use host::HostRoot;

/// The package, read-only.
pub const APP: &str = "/app";
/// The writable place, HOME and working directory.
pub const WORKSPACE: &str = "/workspace";
/// In memory, and nothing there can be executed.
pub const TMP: &str = "/tmp";
/// Where binds go that name no target: `/mnt/NAME`.
pub const MNT: &str = "/mnt";
/// Name of the user inside.
pub const USER: &str = "agent";
/// The name that every machine has inside: the real one is nobody's business there.
pub const HOSTNAME: &str = "sandbox";

/// Files on each tmpfs for each MiB of it: room for many small ones, and an end to memory that only names use up.
const INODES_PER_MIB: u64 = 256;
const INODES_MIN: u64 = 1_024;
/// Of a plan without a workspace of its own.
const WORKSPACE_BYTES: u64 = 64 << 20;
/// Node, Chromium and Python's multiprocessing keep their semaphores there.
const SHM_BYTES: u64 = 64 << 20;
/// What a package, a person or a tool may add.
const BINDS_MAX: usize = 64;

/// What is wanted. Start with [`Plan::new`] and change what is different.
#[derive(Clone, Debug)]
pub struct Plan {
    pub host: Arc<HostRoot>,
    /// A name that is looked for in PATH inside, a path relative to the working directory, or an absolute path; then its
    /// arguments.
    pub command: Vec<String>,
    /// Goes before the hints of the plan where both name a variable.
    pub environment: BTreeMap<String, String>,
    /// Working directory inside.
    pub directory: String,
    pub hostname: String,
    pub profile: Profile,
    pub proc: ProcView,
    /// Directory of the package on the host, seen read-only as `/app`.
    pub package: Option<PathBuf>,
    /// Onto `/workspace`; without one it is in memory and gone afterwards.
    pub workspace: Option<Mount>,
    /// Further directories and files of the host.
    pub binds: Vec<Bind>,
    /// Small files of the server's own making, read-only.
    pub files: Vec<Mount>,
    /// Data directories and key files of AgentOS: no bind may show them, whoever asks.
    pub closed: Vec<PathBuf>,
    pub tmp_bytes: u64,
    pub shm_bytes: u64,
    pub listeners: Vec<Listener>,
    pub loopback: bool,
    /// Certificate authority to be trusted beside those of the host.
    pub authority: Option<Authority>,
    pub limits: PlanLimits,
    pub anonymous_programs: bool,
    pub nice: i32,
    pub apparmor: Option<String>,
    pub host_id: Option<u32>,
    /// That with the number of the user, if there is none.
    pub host_gid: Option<u32>,
    pub descriptors: Vec<Descriptor>,
}

/// A certificate authority of one sandbox, and the file that holds it together with those of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// A file on the host with [`HostRoot::bundle`] as its content. It is too large to ride with an order.
    pub bundle: PathBuf,
}

/// Bounds of each process inside, and what run-times are told about those of the whole group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Of all processes together.
    pub memory_bytes: Option<u64>,
    /// A cgroup holds the sum. Otherwise each process gets the limit as its address space, which is the best that is left.
    pub memory_is_grouped: bool,
    /// In percent of one core.
    pub cpu_percent: Option<u64>,
    pub cpu_seconds: Option<u64>,
    pub processes: Option<u64>,
    pub open_files: u64,
    pub file_bytes: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            memory_is_grouped: false,
            cpu_percent: None,
            cpu_seconds: None,
            processes: None,
            open_files: 1_024,
            file_bytes: u64::MAX,
        }
    }
}

impl PlanLimits {
    /// What a manifest says; 0 means no limit there.
    pub fn of(limits: &Limits, memory_is_grouped: bool) -> Self {
        let some = |value: u64| Some(value).filter(|value| *value > 0);
        Self {
            memory_bytes: some(limits.memory_bytes),
            memory_is_grouped,
            cpu_percent: some(limits.cpu_percent),
            cpu_seconds: some(limits.cpu_seconds),
            processes: some(u64::from(limits.processes)),
            open_files: limits.open_files,
            file_bytes: limits.file_bytes,
        }
    }
}

impl Plan {
    /// The ordinary sandbox of an agent or a command: nothing of the host but its programs, no network, no lasting place.
    pub fn new(host: Arc<HostRoot>, command: Vec<String>) -> Self {
        Self {
            host,
            command,
            environment: BTreeMap::new(),
            directory: WORKSPACE.to_owned(),
            hostname: HOSTNAME.to_owned(),
            profile: Profile::Agent,
            proc: ProcView::Processes,
            package: None,
            workspace: None,
            binds: Vec::new(),
            files: Vec::new(),
            closed: Vec::new(),
            tmp_bytes: Sandbox::default().tmp_bytes,
            shm_bytes: SHM_BYTES,
            listeners: Vec::new(),
            loopback: false,
            authority: None,
            limits: PlanLimits::default(),
            anonymous_programs: true,
            nice: 0,
            apparmor: None,
            host_id: None,
            host_gid: None,
            descriptors: Vec::new(),
        }
    }

    /// Takes over what a manifest says about the sandbox and its limits.
    #[must_use]
    pub fn with_manifest(mut self, sandbox: &Sandbox, limits: &Limits, memory_is_grouped: bool) -> Self {
        self.profile = match sandbox.profile {
            SandboxProfile::Strict => Profile::Strict,
            SandboxProfile::Agent => Profile::Agent,
            SandboxProfile::Dev => Profile::Dev,
        };
        self.proc = if sandbox.full_proc { ProcView::MaskedFull } else { ProcView::Processes };
        self.loopback = sandbox.loopback;
        self.anonymous_programs = sandbox.anonymous_programs;
        self.tmp_bytes = sandbox.tmp_bytes;
        self.limits = PlanLimits::of(limits, memory_is_grouped);
        self
    }

    /// The order for it. Its id is 0 until somebody sends it.
    pub fn order(&self) -> Result<SandboxOrder> {
        let environment = self.full_environment();
        let mounts = self.mounts()?;
        Ok(SandboxOrder {
            version: SANDBOX_VERSION,
            id: 0,
            command: self.resolved_command(&mounts, environment.get("PATH").map_or("", String::as_str))?,
            environment,
            directory: self.directory.clone(),
            hostname: self.hostname.clone(),
            host_id: self.host_id,
            host_gid: self.host_gid,
            mounts,
            proc: self.proc,
            network: self.network(),
            limits: ProcessLimits {
                address_space_bytes: self.limits.memory_bytes.filter(|_| !self.limits.memory_is_grouped),
                cpu_seconds: self.limits.cpu_seconds,
                open_files: self.limits.open_files,
                file_bytes: self.limits.file_bytes,
                processes: self.limits.processes,
            },
            anonymous_programs: self.anonymous_programs,
            nice: self.nice,
            processors: self.processors().and_then(|count| u16::try_from(count).ok()),
            apparmor: self.apparmor.clone(),
            descriptors: self.descriptors.clone(),
        })
    }

    /// The proxy is the one that has the machine's network; everybody else has one that leads nowhere.
    fn network(&self) -> Network {
        match self.profile {
            Profile::Proxy => Network::Host,
            _ => Network::Own { listeners: self.listeners.clone(), loopback: self.loopback },
        }
    }

    /// From the root down, so that each mount finds the place that it is made on.
    fn mounts(&self) -> Result<Vec<Mount>> {
        let mut mounts = self.host.mounts().to_vec();
        mounts.extend(self.etc_mounts()?);
        mounts.push(Mount::Devices { shm_bytes: self.shm_bytes });
        mounts.push(tmpfs(TMP, self.tmp_bytes, false));
        mounts.push(Mount::Symlink { target: "/var/tmp".to_owned(), to: TMP.to_owned() });
        if let Some(package) = &self.package {
            mounts.push(binds::bind(binds::source(package)?, APP, false, true));
        }
        mounts.push(self.workspace_mount()?);
        mounts.extend(self.files.iter().cloned());
        mounts.extend(self.bind_mounts()?);
        Ok(mounts)
    }

    /// For a plan that works in a directory of the host itself, with the care that binds get.
    pub fn shared_workspace(&self, directory: &Path) -> Result<Mount> {
        let from = binds::source(directory)?;
        self.require_open(directory)?;
        match directory.is_dir() {
            true => Ok(binds::bind(from, WORKSPACE, true, true)),
            false => Err(refused(format!("{from} is not a directory"))),
        }
    }

    fn workspace_mount(&self) -> Result<Mount> {
        match &self.workspace {
            None => Ok(tmpfs(WORKSPACE, WORKSPACE_BYTES, true)),
            Some(mount @ (Mount::Bind { target, .. } | Mount::Tmpfs { target, .. })) if target == WORKSPACE => {
                Ok(mount.clone())
            }
            Some(other) => Err(Fault::internal(format!("the workspace of a plan is {other:?}"))),
        }
    }
}

fn tmpfs(target: &str, bytes: u64, executable: bool) -> Mount {
    let inodes = (bytes >> 20).saturating_mul(INODES_PER_MIB).max(INODES_MIN);
    Mount::Tmpfs { target: target.to_owned(), bytes, inodes, executable }
}

fn refused(message: impl Into<String>) -> Fault {
    Fault::new(Code::SANDBOX_REFUSED, message)
}
