//! Version 1: one tree of groups for each controller. A group is one directory in each of them, below the own group there.
//!
//! Differences from version 2 that matter: a process enters each tree by itself, so it must not run before it is in all of
//! them; out of memory kills the largest process and not the whole group; writes that the kernel puts off are not held back
//! by the limit of disk speed. Only root may make groups here.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agentos_protocol::sandbox::Descriptor;

use super::{
    CpuUsage, DiskUsage, GroupLimits, GroupUsage, MemoryUsage, Resource, Standing, base::Base, base::sweep, files,
    kill, kills, write_all,
};

/// Length of the periods over which CPU time is shared out.
pub(super) const PERIOD_US: u64 = 100_000;

/// One mounted tree with a base of ours in it.
#[derive(Debug)]
struct Tree {
    controllers: Vec<String>,
    base: Base,
}

#[derive(Debug)]
pub(super) struct Version1 {
    trees: Vec<Tree>,
    disk: Option<String>,
    /// Directories of the next group, made while nobody waited for them: five trees take as long as a wall of the sandbox.
    ahead: Mutex<Option<Vec<PathBuf>>>,
}

/// Controllers that we use, and of which resource they are. `cpuacct` limits nothing: it counts.
const USED: [(&str, Option<Resource>, &str); 5] = [
    ("memory", Some(Resource::Memory), "memory.limit_in_bytes"),
    ("cpu", Some(Resource::Cpu), "cpu.cfs_quota_us"),
    ("cpuacct", None, "cpuacct.usage"),
    ("pids", Some(Resource::Processes), "pids.max"),
    ("blkio", Some(Resource::DiskSpeed), "blkio.throttle.write_bps_device"),
];

const REMEDY: &str = "boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or start the server as root";

impl Version1 {
    /// Makes the base in every tree that can be had. What cannot is told for each resource.
    pub(super) fn probe(
        places: &[(Vec<String>, PathBuf)],
        node: &str,
        disk: Result<String, String>,
    ) -> (Self, Vec<(Resource, Standing)>) {
        let (mut trees, mut standing) = (Vec::new(), Vec::new());
        for (controllers, own) in places {
            let used: Vec<_> = USED.iter().filter(|(name, ..)| controllers.iter().any(|held| held == name)).collect();
            if used.is_empty() {
                continue;
            }
            sweep(own, node, own);
            match Base::make(own, node) {
                Ok(base) => {
                    inherit(base.directory());
                    for (name, resource, file) in used {
                        let Some(resource) = resource else { continue };
                        let there = base.directory().join(file).exists();
                        let why = || format!("this kernel's {name} controller has no {file}");
                        standing.push((*resource, if there { Standing::Enforced } else { Standing::Missing(why()) }));
                    }
                    trees.push(Tree { controllers: controllers.clone(), base });
                }
                Err(source) => {
                    let why = format!("no group can be made below {}: {source}; {REMEDY}", own.display());
                    let resources = used.iter().filter_map(|(_, resource, _)| *resource);
                    standing.extend(resources.map(|resource| (resource, Standing::Missing(why.clone()))));
                }
            }
        }
        for (name, resource, _) in USED {
            let Some(resource) = resource else { continue };
            if !standing.iter().any(|(known, _)| *known == resource) {
                let why =
                    format!("the {name} controller of cgroup version 1 is not mounted where this process can see it");
                standing.push((resource, Standing::Missing(why)));
            }
        }
        let disk = match disk {
            Ok(disk) => Some(disk),
            Err(why) => {
                standing.retain(|(resource, _)| *resource != Resource::DiskSpeed);
                standing.push((Resource::DiskSpeed, Standing::Missing(why)));
                None
            }
        };
        (Self { trees, disk, ahead: Mutex::default() }, standing)
    }

    /// Where groups begin: one directory for each tree.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        self.trees.iter().map(|tree| tree.base.directory().to_owned()).collect()
    }

    /// One directory of a group for each tree, in the order of the trees.
    pub(super) fn make(&self, parent: &[PathBuf], name: &str) -> io::Result<Vec<PathBuf>> {
        let ahead = if parent == self.roots() { self.ahead().take() } else { None };
        match ahead.map(|made| rename(made, name)) {
            Some(Ok(renamed)) => Ok(renamed),
            // Taken away from outside: they are made as if there had been none.
            Some(Err(_)) | None => make(parent, name),
        }
    }

    /// Makes the directories of the next group, unless they are there. Not being able to is told by the next group.
    pub(super) fn make_ahead(&self, name: &str) {
        let mut ahead = self.ahead();
        if ahead.is_none() {
            *ahead = make(&self.roots(), name).ok();
        }
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Option<Vec<PathBuf>>> {
        // A list of paths: whole after any panic.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self, group: &[PathBuf], limits: &GroupLimits) -> Vec<(Resource, String)> {
        let mut failed = Vec::new();
        let mut set = |resource, controller: &str, values: &[(&str, String)]| {
            if let Some(directory) = self.of(group, controller) {
                write_all(directory, values, resource, &mut failed);
            }
        };
        if let Some(bytes) = limits.memory_bytes {
            set(Resource::Memory, "memory", &[("memory.limit_in_bytes", bytes.to_string())]);
            // Memory and swap together, where the kernel counts that. Two pages more, because a limit that is met there is
            // counted nowhere.
            if let Some(directory) = self.of(group, "memory") {
                let both = bytes.saturating_add(2 * 4_096).to_string();
                drop(files::write(directory, "memory.swappiness", "0"));
                drop(files::write(directory, "memory.memsw.limit_in_bytes", &both));
            }
        }
        if let Some(percent) = limits.cpu_percent {
            let quota = (percent.saturating_mul(PERIOD_US) / 100).max(1_000);
            let values = [("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())];
            set(Resource::Cpu, "cpu", &values);
        }
        if let Some(processes) = limits.processes {
            set(Resource::Processes, "pids", &[("pids.max", processes.to_string())]);
        }
        if let (Some(bytes), Some(disk)) = (limits.disk_bytes_per_second, &self.disk) {
            for disk in limits.disks(disk) {
                let value = format!("{disk} {bytes}");
                let values =
                    [("blkio.throttle.read_bps_device", value.clone()), ("blkio.throttle.write_bps_device", value)];
                set(Resource::DiskSpeed, "blkio", &values);
            }
        }
        failed
    }

    /// `cgroup.procs` of each tree, for writing.
    pub(super) fn descriptors(group: &[PathBuf]) -> io::Result<Vec<(Descriptor, OwnedFd)>> {
        let open = |directory: &PathBuf| -> io::Result<(Descriptor, OwnedFd)> {
            let file = File::options().write(true).open(directory.join("cgroup.procs"))?;
            Ok((Descriptor::CgroupProcs, OwnedFd::from(file)))
        };
        group.iter().map(open).collect()
    }

    pub(super) fn kills(&self, group: &[PathBuf]) -> Option<io::Result<OwnedFd>> {
        self.of(group, "memory").map(kills::counter)
    }

    pub(super) fn stand_back(&self, group: &[PathBuf], is_behind: bool) -> io::Result<()> {
        match self.of(group, "cpu") {
            Some(directory) => files::stand_back(directory, is_behind),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn usage(&self, group: &[PathBuf]) -> GroupUsage {
        GroupUsage {
            cpu: self.cpu(group),
            memory: self.of(group, "memory").and_then(memory),
            processes: self.of(group, "pids").and_then(super::pids),
            disk: self.of(group, "blkio").and_then(disk),
        }
    }

    fn cpu(&self, group: &[PathBuf]) -> Option<CpuUsage> {
        let counted = self.of(group, "cpuacct")?;
        let stat = self.of(group, "cpu").and_then(|directory| files::text(directory, "cpu.stat")).unwrap_or_default();
        let us = |name| files::number(counted, name).map(|ns| ns / 1_000);
        Some(CpuUsage {
            total_us: us("cpuacct.usage")?,
            user_us: us("cpuacct.usage_user").unwrap_or(0),
            system_us: us("cpuacct.usage_sys").unwrap_or(0),
            periods: files::keyed(&stat, "nr_periods").unwrap_or(0),
            throttled_periods: files::keyed(&stat, "nr_throttled").unwrap_or(0),
            throttled_us: files::keyed(&stat, "throttled_time").unwrap_or(0) / 1_000,
        })
    }

    fn of<'a>(&self, group: &'a [PathBuf], controller: &str) -> Option<&'a Path> {
        let index = self.trees.iter().position(|tree| tree.controllers.iter().any(|name| name == controller))?;
        group.get(index).map(PathBuf::as_path)
    }
}

fn make(parent: &[PathBuf], name: &str) -> io::Result<Vec<PathBuf>> {
    let mut made: Vec<PathBuf> = Vec::new();
    for directory in parent {
        let directory = directory.join(name);
        if let Err(source) = fs::create_dir(&directory) {
            clear(&made);
            return Err(source);
        }
        made.push(directory);
    }
    Ok(made)
}

/// All of them or none: what could not be renamed is removed with the others.
fn rename(made: Vec<PathBuf>, name: &str) -> io::Result<Vec<PathBuf>> {
    let renamed: Vec<PathBuf> = made.iter().map(|directory| directory.with_file_name(name)).collect();
    for (from, to) in made.iter().zip(&renamed) {
        if let Err(source) = fs::rename(from, to) {
            clear(&made);
            clear(&renamed);
            return Err(source);
        }
    }
    Ok(renamed)
}

fn clear(directories: &[PathBuf]) {
    for directory in directories {
        kill::clear(directory);
    }
}

/// Before Linux 5.11 the limit of a parent held for its own processes alone, unless this was set before it had children.
fn inherit(base: &Path) {
    if files::number(base, "memory.use_hierarchy") == Some(0) {
        drop(files::write(base, "memory.use_hierarchy", "1"));
    }
}

fn memory(directory: &Path) -> Option<MemoryUsage> {
    // Kills are counted where they happen, and not by the groups above.
    let groups = std::iter::once(directory.to_owned()).chain(kill::below(directory));
    let oom = groups.filter_map(|group| files::keyed(&files::text(&group, "memory.oom_control")?, "oom_kill"));
    Some(MemoryUsage {
        bytes: files::number(directory, "memory.usage_in_bytes")?,
        peak_bytes: files::number(directory, "memory.max_usage_in_bytes"),
        limit_hits: files::number(directory, "memory.failcnt").unwrap_or(0),
        oom_kills: oom.sum(),
    })
}

/// Lines such as `254:0 Read 4096`, one for each disk and direction. Newer kernels (6.18 is one) count only in groups that have
/// a limit, and show zeros in the others: there nothing is known.
fn disk(directory: &Path) -> Option<DiskUsage> {
    let has_limit = |file| files::text(directory, file).is_some_and(|text| !text.trim().is_empty());
    if !has_limit("blkio.throttle.write_bps_device") && !has_limit("blkio.throttle.read_bps_device") {
        return None;
    }
    let text = files::text(directory, "blkio.throttle.io_service_bytes_recursive")?;
    let sum = |direction: &str| {
        text.lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .filter_map(|words| match words.as_slice() {
                [_, kind, bytes] if *kind == direction => bytes.parse::<u64>().ok(),
                _ => None,
            })
            .sum()
    };
    Some(DiskUsage { read_bytes: sum("Read"), write_bytes: sum("Write") })
}

/// A unit test of a driver has no kernel; the files are enough.
#[cfg(test)]
mod tests {
    use super::*;

    /// Three trees of plain directories.
    fn driver(parent: &Path) -> Version1 {
        let trees = ["memory", "cpu", "pids"].map(|controller| {
            let own = parent.join(controller);
            fs::create_dir(&own).unwrap();
            Tree { controllers: vec![controller.to_owned()], base: Base::make(&own, "node").unwrap() }
        });
        Version1 { trees: trees.into(), disk: None, ahead: Mutex::default() }
    }

    fn below(driver: &Version1) -> Vec<Vec<String>> {
        let names = |base: PathBuf| {
            let mut names: Vec<String> =
                kill::below(&base).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        driver.roots().into_iter().map(names).collect()
    }

    #[test]
    fn what_was_made_ahead_is_one_group_and_is_taken_once() {
        let parent = tempfile::tempdir().unwrap();
        let driver = driver(parent.path());
        driver.make_ahead("next.0");
        driver.make_ahead("next.1");
        assert_eq!(below(&driver), vec![vec!["next.0"]; 3], "one is enough");
        let first = driver.make(&driver.roots(), "agent.2").unwrap();
        let child = driver.make(&first, "tool.3").unwrap();
        let second = driver.make(&driver.roots(), "agent.4").unwrap();
        assert_eq!(below(&driver), vec![vec!["agent.2", "agent.4"]; 3]);
        assert!(first.iter().chain(&child).chain(&second).all(|directory| directory.is_dir()));
        driver.make_ahead("next.5");
        let child = driver.make(&second, "tool.6").unwrap();
        assert!(child.iter().all(|directory| directory.is_dir()));
        assert_eq!(below(&driver), vec![vec!["agent.2", "agent.4", "next.5"]; 3], "not for a group inside of another");
    }

    #[test]
    fn a_part_that_was_taken_away_leaves_nothing_behind_and_stops_no_group() {
        let parent = tempfile::tempdir().unwrap();
        let driver = driver(parent.path());
        driver.make_ahead("next.0");
        fs::remove_dir(driver.roots()[1].join("next.0")).unwrap();
        let made = driver.make(&driver.roots(), "agent.1").unwrap();
        assert!(made.iter().all(|directory| directory.is_dir()));
        assert_eq!(below(&driver), vec![vec!["agent.1"]; 3]);
    }

    #[test]
    fn files_of_version_1_are_read_as_the_kernel_writes_them() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        write("memory.usage_in_bytes", "4096\n");
        write("memory.max_usage_in_bytes", "8192\n");
        write("memory.failcnt", "3\n");
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        fs::create_dir(group.path().join("tool")).unwrap();
        fs::write(group.path().join("tool/memory.oom_control"), "oom_kill 2\n").unwrap();
        let expected = MemoryUsage { bytes: 4_096, peak_bytes: Some(8_192), limit_hits: 3, oom_kills: 3 };
        assert_eq!(memory(group.path()), Some(expected));
        let text = "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n7:1 Read 5\nTotal 35\n";
        write("blkio.throttle.io_service_bytes_recursive", text);
        write("blkio.throttle.write_bps_device", "");
        assert_eq!(disk(group.path()), None, "without a limit the kernel does not count");
        write("blkio.throttle.write_bps_device", "254:0 8388608\n");
        assert_eq!(disk(group.path()), Some(DiskUsage { read_bytes: 15, write_bytes: 20 }));
        assert_eq!(memory(Path::new("/nowhere")), None);
    }
}
