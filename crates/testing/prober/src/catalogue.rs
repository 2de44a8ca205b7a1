//! One row for each way out: what is tried, and which walls stand in its way.

use crate::{Facts, Outcome, attempts};

/// A wall of the sandbox. Each but the last can be left out by the launcher for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wall {
    /// A root of its own: minimal, read-only but for the workspace and temporary files, nosuid, nodev.
    Mounts,
    /// The root is attached nowhere: no list of mounts, no mount on it, no user namespace from it.
    Root,
    /// What `/proc` shows.
    Proc,
    /// Process namespace.
    Processes,
    /// Network namespace.
    Network,
    /// Namespace of System V objects and queues.
    Ipc,
    /// Namespace of host and domain name.
    Names,
    /// No capability in any set, none to gain.
    Capabilities,
    /// rlimits.
    Limits,
    Landlock,
    Seccomp,
    /// The init is a program of its own with an empty environment, and cannot be looked into.
    Init,
    /// Bytes and files of the workspace.
    Quota,
    /// Memory of everything inside together.
    Cgroup,
    /// Memory files cannot be executed.
    MemoryFiles,
    /// Namespace of the cgroups' paths.
    CgroupNames,
    /// Descriptors above the channel are closed, the environment is the ordered one.
    Inheritance,
    /// A setting or a missing part that some machines have. No promise is built on it.
    Machine,
    /// The user namespace and what the kernel grants nobody in it. Without it there is no sandbox.
    Kernel,
}

impl Wall {
    pub const ALL: [Wall; 19] = [
        Wall::Mounts,
        Wall::Root,
        Wall::Proc,
        Wall::Processes,
        Wall::Network,
        Wall::Ipc,
        Wall::Names,
        Wall::Capabilities,
        Wall::Limits,
        Wall::Landlock,
        Wall::Seccomp,
        Wall::Init,
        Wall::Quota,
        Wall::Cgroup,
        Wall::MemoryFiles,
        Wall::CgroupNames,
        Wall::Inheritance,
        Wall::Machine,
        Wall::Kernel,
    ];

    /// The launcher for tests can do without all but these.
    pub fn can_be_left_out(&self) -> bool {
        !matches!(self, Wall::Inheritance | Wall::Machine | Wall::Kernel)
    }

    /// Left out by the order of the sandbox, not by the launcher.
    pub fn is_of_the_order(&self) -> bool {
        matches!(self, Wall::Quota | Wall::Cgroup | Wall::MemoryFiles)
    }

    /// As in `--without`.
    pub fn name(self) -> &'static str {
        match self {
            Wall::Mounts => "mounts",
            Wall::Root => "root",
            Wall::Proc => "proc",
            Wall::Processes => "processes",
            Wall::Network => "network",
            Wall::Ipc => "ipc",
            Wall::Names => "names",
            Wall::Capabilities => "capabilities",
            Wall::Limits => "limits",
            Wall::Landlock => "landlock",
            Wall::Seccomp => "seccomp",
            Wall::Init => "init",
            Wall::Quota => "quota",
            Wall::Cgroup => "cgroup",
            Wall::MemoryFiles => "memory-files",
            Wall::CgroupNames => "cgroup-names",
            Wall::Inheritance => "inheritance",
            Wall::Machine => "machine",
            Wall::Kernel => "kernel",
        }
    }
}

pub struct Attempt {
    pub name: &'static str,
    /// In a few words, for a person.
    pub what: &'static str,
    /// All of these stop it, each by itself: it is open only where none of them stands. Empty: it is open, harmless, and
    /// [`Attempt::what`] says why.
    pub walls: &'static [Wall],
    pub run: fn(&Facts) -> Outcome,
}

/// Attempts of one kind.
pub struct Group {
    pub title: &'static str,
    pub attempts: &'static [Attempt],
}

pub const GROUPS: &[Group] = &[
    Group { title: "Files", attempts: attempts::files::ATTEMPTS },
    Group { title: "Devices", attempts: attempts::devices::ATTEMPTS },
    Group { title: "/proc and /sys", attempts: attempts::proc::ATTEMPTS },
    Group { title: "Other processes", attempts: attempts::processes::ATTEMPTS },
    Group { title: "Namespaces and mounts", attempts: attempts::namespaces::ATTEMPTS },
    Group { title: "Privileges", attempts: attempts::privileges::ATTEMPTS },
    Group { title: "Sockets", attempts: attempts::sockets::ATTEMPTS },
    Group { title: "Ways out over the network", attempts: attempts::network::ATTEMPTS },
    Group { title: "Surface of the kernel", attempts: attempts::surface::ATTEMPTS },
    Group { title: "Programs from memory and temporary files", attempts: attempts::programs::ATTEMPTS },
    Group { title: "Resources", attempts: attempts::resources::ATTEMPTS },
    Group { title: "What leaks", attempts: attempts::leaks::ATTEMPTS },
];

pub fn catalogue() -> impl Iterator<Item = &'static Attempt> {
    GROUPS.iter().flat_map(|group| group.attempts)
}
