//! A sandbox as agents get it, with the prober as its program; as root and as a user without rights, whole and with holes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use agentos_limits::{Cgroups, Group, GroupLimits};
use agentos_prober::{Line, Outcome, Wall};
use agentos_protocol::sandbox::{
    Descriptor, End, Mount, Network, ProcView, ProcessLimits, Profile, SANDBOX_VERSION, SandboxOrder,
};
use agentos_sandbox::{Backend, SandboxOptions, Sandboxes};

use agentos_types::manifest::LimitEnforcement;

use super::ground::{self, Ground};

/// Enough for the prober with all of its temporary files, and the bomb is twice as much.
const MEMORY_BYTES: u64 = 160 << 20;

/// Who the launcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Root, and the sandbox is a user of its own outside.
    Root,
    /// A user without any rights, who the sandbox is too.
    Plain,
}

/// A user of the host that nobody has.
const HOST_ID: u32 = 231_199;
const NOBODY: u32 = 65534;

impl Launcher {
    /// Both, or who is not root alone where that was said: `make test` says it with a warning.
    pub fn all() -> Vec<Self> {
        if crate::is_without_root() { vec![Self::Plain] } else { vec![Self::Root, Self::Plain] }
    }

    /// Who the sandbox is outside.
    pub fn user(self) -> u32 {
        match (self, rustix::process::geteuid()) {
            (Self::Root, _) => HOST_ID,
            (Self::Plain, user) if user.is_root() => NOBODY,
            (Self::Plain, user) => user.as_raw(),
        }
    }
}

pub fn bind(source: &Path, target: &str, writable: bool, executable: bool) -> Mount {
    Mount::Bind { source: source.display().to_string(), target: target.into(), writable, executable }
}

/// Everything that an agent's sandbox has.
pub fn order(ground: &Ground, launcher: Launcher, command: Vec<String>) -> SandboxOrder {
    let link = |target: &str, to: &str| Mount::Symlink { target: target.into(), to: to.into() };
    let mounts = vec![
        bind(Path::new("/usr"), "/usr", false, true),
        link("/bin", "usr/bin"),
        link("/lib", "usr/lib"),
        link("/lib64", "usr/lib64"),
        Mount::File { target: "/etc/passwd".into(), content: "agent:x:1000:1000::/workspace:/bin/sh\n".into() },
        Mount::Tmpfs { target: "/tmp".into(), bytes: ground::TMP_BYTES, inodes: ground::TMP_INODES, executable: false },
        Mount::Devices { shm_bytes: ground::SHM_BYTES },
        bind(&ground.path("app"), "/app", false, true),
        bind(&ground.path("shared"), "/opt/shared", false, false),
        Mount::Tmpfs {
            target: "/workspace".into(),
            bytes: ground::WORKSPACE_BYTES,
            inodes: ground::WORKSPACE_FILES,
            executable: true,
        },
    ];
    SandboxOrder {
        version: SANDBOX_VERSION,
        id: 0,
        command,
        environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/workspace".into())]),
        directory: "/workspace".into(),
        hostname: "agent".into(),
        host_id: (launcher == Launcher::Root).then_some(HOST_ID),
        host_gid: None,
        mounts,
        proc: ProcView::Processes,
        network: Network::Own { listeners: Vec::new(), loopback: false },
        limits: ProcessLimits {
            open_files: ground::OPEN_FILES,
            file_bytes: ground::FILE_BYTES,
            processes: Some(ground::PROCESSES),
            ..ProcessLimits::default()
        },
        anonymous_programs: false,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: vec![Descriptor::Stdout, Descriptor::Stderr],
    }
}

/// The launcher as a script starts it: with an environment and a descriptor too many, as another user, with holes.
pub fn launcher_program(ground: &Ground, launcher: Launcher, without: &[Wall]) -> PathBuf {
    let holes: Vec<&str> = without.iter().filter(|wall| !wall.is_of_the_order()).map(|wall| wall.name()).collect();
    launcher_with_holes(ground, launcher, &holes)
}

/// The same with holes by the words of the program.
pub fn launcher_with_holes(ground: &Ground, launcher: Launcher, holes: &[&str]) -> PathBuf {
    let mut script = format!("#!/bin/sh\nexport PLANTED='{}'\nexec 9</dev/zero\nexec ", ground.facts.secret);
    if launcher == Launcher::Plain && rustix::process::geteuid().is_root() {
        let _ = write!(script, "setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- ");
    }
    let name = if holes.is_empty() { "agent-os-launch" } else { "agent-os-launch-open" };
    let _ = write!(script, "{} \"$@\"", ground.program(name).display());
    if !holes.is_empty() {
        let _ = write!(script, " --without {}", holes.join(","));
    }
    let path = ground.path("launcher");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A sandbox with the prober in it, and what is different from an agent's.
pub struct Trial<'t> {
    pub launcher: Launcher,
    pub backend: Backend,
    pub profile: Profile,
    pub proc: ProcView,
    pub without: &'t [Wall],
    /// Empty: all.
    pub names: &'t [&'t str],
}

impl<'t> Trial<'t> {
    pub fn new(launcher: Launcher) -> Self {
        Self {
            launcher,
            backend: Backend::Native,
            profile: Profile::Agent,
            proc: ProcView::Processes,
            without: &[],
            names: &[],
        }
    }

    fn lacks(&self, wall: Wall) -> bool {
        self.without.contains(&wall)
    }

    /// Runs the prober to its end. An attempt that brings the whole sandbox down with it was stopped.
    pub async fn run(&self) -> BTreeMap<String, Outcome> {
        let mut ground = Ground::new(self.launcher.user());
        ground.facts.is_network_closed = !self.lacks(Wall::Network);
        let group = self.memory_group();
        ground.facts.memory_bytes_max = group.as_ref().map(|_| MEMORY_BYTES);
        let program = launcher_program(&ground, self.launcher, self.without);
        let sandboxes = Sandboxes::open(SandboxOptions { launcher: program, backend: self.backend }).unwrap();
        let facts = serde_json::to_string(&ground.facts).unwrap();
        let words =
            ["/app/prober".to_owned(), facts].into_iter().chain(self.names.iter().map(|name| (*name).to_owned()));
        let mut order = order(&ground, self.launcher, words.collect());
        order.anonymous_programs = self.lacks(Wall::MemoryFiles);
        order.proc = self.proc;
        if self.lacks(Wall::Quota) {
            order.mounts.retain(|mount| !matches!(mount, Mount::Tmpfs { target, .. } if target == "/workspace"));
            order.mounts.push(bind(&ground.path("workspace"), "/workspace", true, true));
        }
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let mut descriptors = vec![writer.try_clone().unwrap(), writer];
        for (kind, descriptor) in
            group.iter().filter(|_| !self.lacks(Wall::Cgroup)).flat_map(|group| group.descriptors().unwrap())
        {
            order.descriptors.push(kind);
            descriptors.push(descriptor);
        }
        let mut running = sandboxes.spawn(self.profile, order, descriptors).await.unwrap();
        let text = read(reader).await;
        let ended = running.ended().await;
        let what = format!("{:?} without {:?}", self.launcher, self.without);
        assert!(self.lacks(Wall::Processes) || ground.victim_lives(), "{what}: a process of the host is dead");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} in {text}")));
        let mut outcomes: BTreeMap<String, Outcome> = lines.map(|line: Line| (line.name, line.outcome)).collect();
        match (self.names, ended.end) {
            (_, End::Exited(0)) => {}
            ([name], End::Killed | End::Signaled(_)) => {
                outcomes.insert((*name).to_owned(), Outcome::blocked("the sandbox was ended"));
            }
            (_, end) => panic!("{what}: {end:?}\n{text}"),
        }
        outcomes
    }

    /// Where this run may make cgroups that bound memory.
    fn memory_group(&self) -> Option<Group> {
        // A bomb may take everything in the sandbox with it, so it comes alone.
        if self.launcher != Launcher::Root || self.names.len() != 1 {
            return None;
        }
        let cgroups = Cgroups::probe(&format!("wall-{}", std::process::id()));
        let limits = GroupLimits { memory_bytes: Some(MEMORY_BYTES), ..GroupLimits::default() };
        cgroups.create("escape", &limits, LimitEnforcement::Strict).ok()
    }
}

async fn read(mut reader: impl Read + Send + 'static) -> String {
    let read = move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    };
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}
