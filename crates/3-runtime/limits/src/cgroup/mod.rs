//! Groups of processes that the kernel limits and counts as one: cgroups, version 2 where it can be had, version 1 as root.
//!
//! Nothing here touches a group that it did not make; the one exception is the delegated group itself, which is told to give
//! its controllers away. A limit that this machine cannot enforce is `Missing` with the reason and the remedy, and
//! `create` refuses or marks it. Not here: rlimits, and the numbers of one process in `/proc`.

mod base;
mod disk;
mod files;
mod group;
mod kill;
mod kills;
mod place;
mod usage;
mod v1;
mod v2;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use agentos_types::{
    Code, Fault, Result,
    manifest::{LimitEnforcement, Limits},
};

pub use self::{
    group::Group,
    usage::{CpuUsage, DiskUsage, GroupUsage, MemoryUsage, ProcessUsage},
};
use self::{v1::Version1, v2::Version2};

/// What a group can bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Memory,
    Cpu,
    Processes,
    DiskSpeed,
}

impl Resource {
    pub const ALL: [Resource; 4] = [Resource::Memory, Resource::Cpu, Resource::Processes, Resource::DiskSpeed];

    /// The limit of the manifest that asks for it.
    pub fn limit(self) -> &'static str {
        match self {
            Resource::Memory => "limits.memory_bytes",
            Resource::Cpu => "limits.cpu_percent",
            Resource::Processes => "limits.processes",
            Resource::DiskSpeed => "limits.disk_bytes_per_second",
        }
    }
}

/// How a resource stands on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Enforced,
    /// Why not, and the remedy.
    Missing(String),
}

/// What a group is to be held to. Absent: no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    pub memory_bytes: Option<u64>,
    /// Of one core: 150 is a core and a half.
    pub cpu_percent: Option<u64>,
    pub processes: Option<u64>,
    /// In each direction.
    pub disk_bytes_per_second: Option<u64>,
    /// `MAJOR:MINOR` of the disk that is written to, where it is not the one of all workspaces: an image is a disk of its own,
    /// and what passes through it reaches the other one in the kernel's name.
    pub disk: Option<String>,
}

impl GroupLimits {
    /// What an agent's manifest asks of its group.
    pub fn of_manifest(limits: &Limits) -> Self {
        let some = |value: u64| (value > 0).then_some(value);
        Self {
            memory_bytes: some(limits.memory_bytes),
            cpu_percent: some(limits.cpu_percent),
            processes: some(u64::from(limits.processes)),
            disk_bytes_per_second: some(limits.disk_bytes_per_second),
            disk: None,
        }
    }

    /// The speed limit holds for the disk of this directory too.
    #[must_use]
    pub fn writing_to(self, directory: Option<&Path>) -> Self {
        Self { disk: directory.and_then(|directory| disk::of(directory).ok()), ..self }
    }

    /// The disks whose speed is limited, `all` being that of all workspaces.
    fn disks<'a>(&'a self, all: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(all).chain(self.disk.as_deref().filter(move |own| *own != all))
    }

    fn wants(&self, resource: Resource) -> bool {
        match resource {
            Resource::Memory => self.memory_bytes.is_some(),
            Resource::Cpu => self.cpu_percent.is_some(),
            Resource::Processes => self.processes.is_some(),
            Resource::DiskSpeed => self.disk_bytes_per_second.is_some(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct CgroupsOptions {
    /// Name of this node. What dead servers of the same node left behind is removed; that of others never is.
    pub node: String,
    /// Group of version 2 under which ours are made. Absent: the one that this process was started in.
    pub subtree: Option<PathBuf>,
    /// A directory on the disk whose speed is limited. Absent: that limit cannot be enforced.
    pub workspaces: Option<PathBuf>,
    /// Speed of the disk for a group that asks for none, where it can be enforced: one that writes without end would fill the
    /// queue of the disk, and every commit of the server waits behind it. Absent: no bound.
    pub disk_bytes_per_second: Option<u64>,
}

/// The groups of one server. Cheap to clone; the last one takes the base away.
#[derive(Clone, Debug)]
pub struct Cgroups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    driver: Driver,
    standing: Vec<(Resource, Standing)>,
    disk_bytes_per_second: Option<u64>,
    /// Names of groups are used once.
    next: AtomicU64,
    /// Directories of groups that could not be removed yet.
    leftovers: Mutex<Vec<Vec<PathBuf>>>,
}

#[derive(Debug)]
enum Driver {
    Version2(Version2),
    Version1(Version1),
    /// Every limit is missing.
    Absent,
}

impl Cgroups {
    /// Looks at what this machine has, takes away what dead servers of the same name left behind, and makes the base.
    /// Never fails: what is not there is told by [`Cgroups::standing`].
    pub fn probe(name: &str) -> Self {
        Self::open(&CgroupsOptions { node: name.to_owned(), ..CgroupsOptions::default() })
    }

    pub fn open(options: &CgroupsOptions) -> Self {
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        let place = place::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let disk = options.workspaces.as_deref().map_or_else(
            || Err("no directory of workspaces was named, so there is no disk to limit".to_owned()),
            disk::of,
        );
        let (driver, standing) = choose(options, &place, disk);
        let is_enforced = standing.contains(&(Resource::DiskSpeed, Standing::Enforced));
        let shared = Shared {
            driver,
            standing,
            disk_bytes_per_second: options.disk_bytes_per_second.filter(|_| is_enforced),
            next: AtomicU64::new(0),
            leftovers: Mutex::default(),
        };
        Self(Arc::new(shared))
    }

    pub fn standing(&self) -> Vec<(Resource, Standing)> {
        self.0.standing.clone()
    }

    /// Of a group that asks for none. `None` also where it cannot be enforced.
    pub fn usual_disk_bytes_per_second(&self) -> Option<u64> {
        self.0.disk_bytes_per_second
    }

    /// 2, 1, or none.
    pub fn version(&self) -> Option<u8> {
        match self.0.driver {
            Driver::Version2(_) => Some(2),
            Driver::Version1(_) => Some(1),
            Driver::Absent => None,
        }
    }

    /// A new group with these limits. Strict: it is refused if one of them cannot be enforced here. Degraded: it is made, and
    /// [`Group::missing`] says which.
    pub fn create(&self, name: &str, limits: &GroupLimits, enforcement: LimitEnforcement) -> Result<Group> {
        self.0.collect();
        let roots = match &self.0.driver {
            Driver::Version2(driver) => vec![driver.root()],
            Driver::Version1(driver) => driver.roots(),
            Driver::Absent => Vec::new(),
        };
        Group::make(Arc::clone(&self.0), &roots, name, limits.clone(), enforcement)
    }
}

fn choose(
    options: &CgroupsOptions,
    place: &place::Place,
    disk: Result<String, String>,
) -> (Driver, Vec<(Resource, Standing)>) {
    // A tree without any of the controllers is the empty half of a hybrid machine.
    let offered = |group: &Path| {
        let words = files::text(group, "cgroup.controllers").unwrap_or_default();
        ["memory", "cpu", "pids"].iter().any(|name| words.split_whitespace().any(|word| word == *name))
    };
    let own = place.version2.as_deref();
    let subtree = options.subtree.clone().or_else(|| own.map(v2::subtree));
    let why = match (own, subtree) {
        (Some(own), Some(subtree)) if options.subtree.is_some() || place.version1.is_empty() || offered(&subtree) => {
            match Version2::probe(own, &subtree, &options.node, disk) {
                Ok((driver, standing)) => return (Driver::Version2(driver), standing),
                Err(why) => why,
            }
        }
        _ if !place.version1.is_empty() => {
            let (driver, standing) = Version1::probe(&place.version1, &options.node, disk);
            let all_missing = standing.iter().all(|(_, standing)| *standing != Standing::Enforced);
            return (if all_missing { Driver::Absent } else { Driver::Version1(driver) }, standing);
        }
        _ => {
            "no cgroup file system is mounted where this process can see it; mount cgroup2 on /sys/fs/cgroup".to_owned()
        }
    };
    (Driver::Absent, Resource::ALL.map(|resource| (resource, Standing::Missing(why.clone()))).to_vec())
}

impl Shared {
    /// Tries again to remove what would not go.
    fn collect(&self) {
        let waiting = std::mem::take(&mut *self.leftovers());
        for group in waiting {
            kill::signal(&group);
            if !group.iter().all(|directory| kill::clear(directory)) {
                self.leave(group);
            }
        }
    }

    /// More than this hang in the kernel only on a broken machine; the next start removes them all the same.
    fn leave(&self, group: Vec<PathBuf>) {
        const LEFTOVERS_MAX: usize = 1_024;
        let mut leftovers = self.leftovers();
        if leftovers.len() < LEFTOVERS_MAX {
            leftovers.push(group);
        }
    }

    fn leftovers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<PathBuf>>> {
        // A list of paths: whole after any panic.
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn missing(&self, limits: &GroupLimits) -> Vec<(Resource, String)> {
        let wanted = self.standing.iter().filter(|(resource, _)| limits.wants(*resource));
        wanted
            .filter_map(|(resource, standing)| match standing {
                Standing::Enforced => None,
                Standing::Missing(why) => Some((*resource, why.clone())),
            })
            .collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.collect();
    }
}

/// The refusal of a start under strict enforcement.
fn refuse(missing: &[(Resource, String)]) -> Fault {
    let names: Vec<_> = missing.iter().map(|(resource, _)| resource.limit()).collect();
    let reasons: Vec<_> = missing.iter().map(|(_, why)| why.as_str()).collect();
    let message = format!("this machine cannot enforce {}: {}", names.join(", "), reasons.join("; "));
    Fault::new(Code::LIMIT_UNENFORCEABLE, message)
        .hint("enable what is missing, or accept it with sandbox.enforcement = degraded or limits.enforcement of the manifest")
}

/// Writes values in turn; the first that fails is told, and the rest left out.
fn write_all(directory: &Path, values: &[(&str, String)], resource: Resource, failed: &mut Vec<(Resource, String)>) {
    for (file, value) in values {
        if let Err(source) = files::write(directory, file, value) {
            failed.push((resource, format!("the kernel refused '{value}' for {file}: {source}")));
            return;
        }
    }
}

/// The same in both versions.
fn pids(directory: &Path) -> Option<ProcessUsage> {
    let refused = |group: &Path| {
        let events = files::text(group, "pids.events").unwrap_or_default();
        files::keyed(&events, "max").unwrap_or(0)
    };
    // Before Linux 6.11 a refusal was counted where the process was, and not by the groups above whose limit it was.
    let is_summed = directory.join("pids.events.local").exists();
    let groups = if is_summed { vec![directory.to_owned()] } else { kill::tree(directory) };
    Some(ProcessUsage {
        count: files::number(directory, "pids.current")?,
        peak: files::number(directory, "pids.peak"),
        refused: groups.iter().map(|group| refused(group)).fold(0, u64::saturating_add),
    })
}
