//! Version 2: one tree. Groups lie below a part of it that was delegated to this server.
//!
//! A group that gives controllers to groups below it may hold no process itself. So the server goes into a leaf of its own,
//! and so do the processes of every group of ours (`main`), beside the groups of its tools. Out of memory ends a group as a
//! whole; swap is none of its ways out.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use agentos_protocol::sandbox::Descriptor;
use rustix::fs::{Access, Mode, OFlags, access, getxattr, open};

use super::{
    CpuUsage, DiskUsage, GroupLimits, GroupUsage, MemoryUsage, Resource, Standing, base::Base, base::sweep, files,
    v1::PERIOD_US, write_all,
};

/// Controllers and what they limit.
const USED: [(&str, Resource); 4] =
    [("memory", Resource::Memory), ("cpu", Resource::Cpu), ("pids", Resource::Processes), ("io", Resource::DiskSpeed)];
/// Where the processes of a group are.
const MAIN: &str = "main";
/// Where the server is itself.
const SERVER: &str = "server";
/// What a restart inside our own leaf finds above itself.
const BASE_PREFIX: &str = "agentos.";

const REMEDY: &str = "run the server as a systemd unit with Delegate=yes, or under \
                      `systemd-run --user --scope -p Delegate=yes`";

#[derive(Debug)]
pub(super) struct Version2 {
    base: Base,
    disk: Option<String>,
}

/// The group under which groups may be made, from the own one.
pub(super) fn subtree(own: &Path) -> PathBuf {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    // An earlier look of this very process, or a server before it in the same unit, has put us into a leaf.
    if let (SERVER, Some(base)) = (name(own).as_str(), own.parent())
        && name(base).starts_with(BASE_PREFIX)
        && let Some(subtree) = base.parent()
    {
        return subtree.to_owned();
    }
    // systemd's DelegateSubgroup= starts a service one step below what is delegated.
    match own.parent() {
        Some(parent) if !is_marked(own) && is_marked(parent) => parent.to_owned(),
        _ => own.to_owned(),
    }
}

/// systemd writes this on what it delegates: one name that root can read, one that everybody can.
fn is_marked(directory: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        getxattr(directory, *name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Why groups below must not be made, although they could: a service manager that did not delegate them may take the
/// controllers away again at any time.
fn refusal(own: &Path, subtree: &Path, is_systemd: bool, is_root: bool, own_user: u32) -> Option<String> {
    let owner = match fs::metadata(subtree) {
        Ok(metadata) => metadata.uid(),
        Err(source) => return Some(format!("{}: {source}", subtree.display())),
    };
    if !is_root && owner != own_user {
        return Some(format!("the group {} is not delegated to this user; {REMEDY}", subtree.display()));
    }
    if is_root && is_systemd && !is_marked(subtree) {
        return Some(format!("systemd did not delegate the group {}; {REMEDY}", subtree.display()));
    }
    // The kernel asks for the right to write where the ways of the old and the new group part.
    let both = own.ancestors().find(|above| subtree.starts_with(above)).unwrap_or(subtree);
    let lists = both.join("cgroup.procs");
    access(&lists, Access::WRITE_OK).err().map(|source| {
        format!(
            "this user cannot move processes from {} to {}: {}: {source}; {REMEDY}",
            own.display(),
            subtree.display(),
            lists.display()
        )
    })
}

fn is_missing((_, standing): &(Resource, Standing)) -> bool {
    *standing != Standing::Enforced
}

impl Version2 {
    /// Prepares the delegated part. The error is the reason, the same for every resource.
    pub(super) fn probe(
        own: &Path,
        subtree: &Path,
        node: &str,
        disk: Result<String, String>,
    ) -> Result<(Self, Vec<(Resource, Standing)>), String> {
        let user = rustix::process::geteuid();
        let is_systemd = Path::new("/run/systemd/system").exists();
        if let Some(why) = refusal(own, subtree, is_systemd, user.is_root(), user.as_raw()) {
            return Err(why);
        }
        sweep(subtree, node, own);
        let base = Base::make(subtree, node)
            .map_err(|source| format!("no group can be made below {}: {source}; {REMEDY}", subtree.display()))?;
        make_room(own, subtree, base.directory())?;
        let offered = files::text(subtree, "cgroup.controllers").unwrap_or_default();
        let mut standing = Vec::new();
        for (name, resource) in USED {
            let enabled = if offered.split_whitespace().any(|word| word == name) {
                enable(subtree, name).and_then(|()| enable(base.directory(), name))
            } else {
                Err(format!("the {name} controller is not given to the group {}; {REMEDY}", subtree.display()))
            };
            standing.push((resource, enabled.map_or_else(Standing::Missing, |()| Standing::Enforced)));
        }
        // Nothing could be had, so nothing is to be seen of the attempt.
        if let (Some((_, Standing::Missing(why))), true) = (standing.first(), standing.iter().all(is_missing)) {
            drop(files::write(own, "cgroup.procs", &std::process::id().to_string()));
            return Err(why.clone());
        }
        let disk = match disk {
            Ok(disk) => Some(disk),
            Err(why) => {
                let row = standing.iter_mut().find(|(resource, _)| *resource == Resource::DiskSpeed);
                if let Some((_, standing)) = row.filter(|(_, standing)| *standing == Standing::Enforced) {
                    *standing = Standing::Missing(why);
                }
                None
            }
        };
        Ok((Self { base, disk }, standing))
    }

    pub(super) fn root(&self) -> PathBuf {
        self.base.directory().to_owned()
    }

    /// A group with its leaf. Its parent gives it all the controllers that it has itself.
    pub(super) fn make(parent: &Path, name: &str) -> io::Result<PathBuf> {
        let held = files::text(parent, "cgroup.controllers").unwrap_or_default();
        for (controller, _) in USED.iter().filter(|(name, _)| held.split_whitespace().any(|word| word == *name)) {
            files::write(parent, "cgroup.subtree_control", &format!("+{controller}"))?;
        }
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        if let Err(source) = fs::create_dir(directory.join(MAIN)) {
            drop(fs::remove_dir(&directory));
            return Err(source);
        }
        Ok(directory)
    }

    pub(super) fn limit(&self, directory: &Path, limits: &GroupLimits) -> Vec<(Resource, String)> {
        let mut failed = Vec::new();
        if let Some(bytes) = limits.memory_bytes {
            // Not there without swap, and on old kernels.
            drop(files::write(directory, "memory.swap.max", "0"));
            drop(files::write(directory, "memory.oom.group", "1"));
            let values = [("memory.high", high(bytes).to_string()), ("memory.max", bytes.to_string())];
            write_all(directory, &values, Resource::Memory, &mut failed);
        }
        if let Some(percent) = limits.cpu_percent {
            let quota = (percent.saturating_mul(PERIOD_US) / 100).max(1_000);
            write_all(directory, &[("cpu.max", format!("{quota} {PERIOD_US}"))], Resource::Cpu, &mut failed);
        }
        if let Some(processes) = limits.processes {
            write_all(directory, &[("pids.max", processes.to_string())], Resource::Processes, &mut failed);
        }
        if let (Some(bytes), Some(disk)) = (limits.disk_bytes_per_second, &self.disk) {
            for disk in limits.disks(disk) {
                let value = format!("{disk} rbps={bytes} wbps={bytes}");
                write_all(directory, &[("io.max", value)], Resource::DiskSpeed, &mut failed);
            }
        }
        failed
    }

    pub(super) fn leaf(directory: &Path) -> PathBuf {
        directory.join(MAIN)
    }

    pub(super) fn descriptors(directory: &Path) -> io::Result<Vec<(Descriptor, OwnedFd)>> {
        // Not O_PATH: clone3 takes only a descriptor that was opened.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(vec![(Descriptor::Cgroup, open(Self::leaf(directory), flags, Mode::empty())?)])
    }

    pub(super) fn usage(directory: &Path) -> GroupUsage {
        GroupUsage {
            cpu: cpu(directory),
            memory: memory(directory),
            processes: super::pids(directory),
            disk: files::text(directory, "io.stat").map(|text| disk(&text)),
        }
    }
}

/// A little below the limit: the kernel gives back what it can before it has to kill. Not far below, because who allocates
/// beyond it is slowed down instead of ended.
fn high(bytes: u64) -> u64 {
    const GAP_BYTES_MIN: u64 = 1 << 20;
    bytes.saturating_sub((bytes / 256).max(GAP_BYTES_MIN)).max(bytes / 2)
}

/// Moves the server out of the group that is to give controllers away. The root of the whole tree needs no such thing.
fn make_room(own: &Path, subtree: &Path, base: &Path) -> Result<(), String> {
    if !subtree.join("cgroup.type").exists() || own != subtree {
        return Ok(());
    }
    let leaf = base.join(SERVER);
    let moved =
        fs::create_dir(&leaf).and_then(|()| files::write(&leaf, "cgroup.procs", &std::process::id().to_string()));
    moved.map_err(|source| format!("the server cannot move into {}: {source}", leaf.display()))
}

fn enable(directory: &Path, controller: &str) -> Result<(), String> {
    files::write(directory, "cgroup.subtree_control", &format!("+{controller}")).map_err(|source| {
        let others = files::members(directory);
        if source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) && !others.is_empty() {
            format!(
                "other processes ({}) are in the group {}, so it cannot give the {controller} controller away; {REMEDY}",
                others.iter().take(4).map(ToString::to_string).collect::<Vec<_>>().join(", "),
                directory.display()
            )
        } else {
            format!("the {controller} controller of {} cannot be enabled: {source}; {REMEDY}", directory.display())
        }
    })
}

fn cpu(directory: &Path) -> Option<CpuUsage> {
    let stat = files::text(directory, "cpu.stat")?;
    let value = |key| files::keyed(&stat, key).unwrap_or(0);
    Some(CpuUsage {
        total_us: files::keyed(&stat, "usage_usec")?,
        user_us: value("user_usec"),
        system_us: value("system_usec"),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_us: value("throttled_usec"),
    })
}

fn memory(directory: &Path) -> Option<MemoryUsage> {
    let events = files::text(directory, "memory.events").unwrap_or_default();
    Some(MemoryUsage {
        bytes: files::number(directory, "memory.current")?,
        peak_bytes: files::number(directory, "memory.peak"),
        limit_hits: files::keyed(&events, "max").unwrap_or(0),
        oom_kills: files::keyed(&events, "oom_kill").unwrap_or(0),
    })
}

/// Lines such as `254:0 rbytes=4096 wbytes=0 rios=1 …`, one for each disk. What passes through a loop device (major 7) is
/// counted once more at the disk behind it, if the image lies on one and not in memory: the larger of both sums is told.
fn disk(text: &str) -> DiskUsage {
    let sum = |is_loop: bool, key: &str| {
        text.lines()
            .filter(|line| line.starts_with("7:") == is_loop)
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
            .fold(0, u64::saturating_add)
    };
    let larger = |key| sum(true, key).max(sum(false, key));
    DiskUsage { read_bytes: larger("rbytes="), write_bytes: larger("wbytes=") }
}

#[cfg(test)]
mod tests;
