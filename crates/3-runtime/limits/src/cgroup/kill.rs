//! The end of a group: everything in it is killed, waited for and taken away.
//!
//! A process is signalled only through a descriptor of it, and only if it is in the group while that descriptor is open: a
//! number that was used again meanwhile hits nobody.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::files;

/// Groups of tools lie in groups of agents, which lie in the base: nothing of ours is deeper.
const DEPTH_MAX: usize = 6;
/// With the pauses below about two seconds. A process that has not gone by then hangs in the kernel, and another try is
/// made later.
const ROUNDS: u32 = 110;
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Kills everything in these groups (one group, seen in several hierarchies) and below, without waiting.
pub(super) fn signal(directories: &[PathBuf]) {
    for directory in directories {
        // Nothing new is born while the list is worked off. Missing in other hierarchies than that of pids.
        for group in tree(directory) {
            drop(files::write(&group, "pids.max", "0"));
        }
        // Version 2 ends all of it at one stroke; the list below is for version 1 and old kernels.
        drop(files::write(directory, "cgroup.kill", "1"));
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let open: Vec<_> = everyone(directories)
        .into_iter()
        .filter(|pid| *pid != own)
        .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
        .collect();
    if open.is_empty() {
        return;
    }
    let still = everyone(directories);
    for (pid, process) in open {
        if still.contains(&pid) {
            // Refused only for one that has ended meanwhile.
            pidfd_send_signal(&process, Signal::KILL).ok();
        }
    }
}

/// Kills, waits and removes. False: something was left, and another try may succeed.
pub(super) fn remove(directories: &[PathBuf]) -> bool {
    let mut pause = PAUSE_MIN;
    for _ in 0..ROUNDS {
        if !everyone(directories).is_empty() {
            signal(directories);
        }
        if directories.iter().all(|directory| clear(directory)) {
            return true;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    false
}

/// Removes a group and those below it if nothing is in them.
pub(super) fn clear(directory: &Path) -> bool {
    tree(directory).iter().rev().all(|group| match fs::remove_dir(group) {
        Ok(()) => true,
        Err(source) => source.kind() == io::ErrorKind::NotFound,
    })
}

fn everyone(directories: &[PathBuf]) -> BTreeSet<i32> {
    directories.iter().flat_map(|directory| tree(directory)).flat_map(|group| files::members(&group)).collect()
}

/// A group and all below it, parents first.
pub(super) fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory.to_owned()];
    let mut level = all.clone();
    for _ in 0..DEPTH_MAX {
        level = level.iter().flat_map(|group| below(group)).collect();
        if level.is_empty() {
            break;
        }
        all.extend(level.iter().cloned());
    }
    all
}

pub(super) fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
