//! The server and its workers as /proc shows them: what was seen by the kernel counts, not what the server says.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::AsRawFd,
    path::PathBuf,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process by number and start, because numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    started_ticks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub process: Process,
    /// `Z` is a zombie, `T` a stopped one.
    pub state: char,
    parent: u32,
}

impl Process {
    pub fn exists(self) -> bool {
        look(self.pid).is_some_and(|seen| seen.process == self)
    }

    /// It is more than a number that its last parent, the init of the machine, has still to take notice of.
    pub fn lives(self) -> bool {
        look(self.pid).is_some_and(|seen| seen.process == self && !(seen.state == 'Z' && seen.parent == 1))
    }
}

/// All direct children of a process, zombies too.
pub fn children(parent: u32) -> Vec<Seen> {
    all().filter(|seen| seen.parent == parent).collect()
}

/// All that have a text among their arguments.
pub fn with_argument(text: &str) -> Vec<Seen> {
    let has = |pid: u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|all| String::from_utf8_lossy(&all).contains(text))
    };
    all().filter(|seen| has(seen.process.pid)).collect()
}

/// The namespace of processes that a process is in; none once it has ended.
pub fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// The same, held: as long as it is, no other one gets its number.
pub fn namespace_of(pid: u32) -> Option<File> {
    File::open(format!("/proc/{pid}/ns/pid")).ok()
}

pub fn name_of(held: &File) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap()
}

pub fn in_namespaces(namespaces: &BTreeSet<PathBuf>) -> Vec<Seen> {
    all().filter(|seen| namespace(seen.process.pid).is_some_and(|own| namespaces.contains(&own))).collect()
}

fn all() -> impl Iterator<Item = Seen> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(look)
}

/// The first processes of all sandboxes: each is a child of a launcher, which is a child of the server.
pub fn sandboxes(server: u32) -> Vec<Seen> {
    children(server).iter().flat_map(|launcher| children(launcher.process.pid)).collect()
}

/// Those of agents: the egress proxy has a launcher of its own.
pub fn workers(server: u32) -> Vec<Seen> {
    let launchers = children(server).into_iter().filter(|launcher| !makes_the_proxy(launcher.process.pid));
    launchers.flat_map(|launcher| children(launcher.process.pid)).collect()
}

fn makes_the_proxy(launcher: u32) -> bool {
    let arguments = fs::read(format!("/proc/{launcher}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|word| word == b"proxy")
}

pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a signal to the program of the sandbox whose first process is `init`, and to nobody else: the number may be that of
/// a stranger by now. False: it is gone.
pub fn strike(server: u32, init: u32, signal: Signal) -> bool {
    let is_ours = |seen: &Seen| children(server).iter().any(|launcher| launcher.process.pid == seen.parent);
    if !look(init).is_some_and(|seen| is_ours(&seen)) {
        return false;
    }
    children(init).first().is_some_and(|program| strike_child(init, program.process.pid, signal))
}

fn strike_child(parent: u32, pid: u32, signal: Signal) -> bool {
    let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // First the hold on the process, then the look at it: the hold cannot pass to another process afterwards.
    let Ok(held) = pidfd_open(raw, PidfdFlags::empty()) else { return false };
    look(pid).is_some_and(|seen| seen.parent == parent) && pidfd_send_signal(&held, signal).is_ok()
}

fn look(pid: u32) -> Option<Seen> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; what follows the last bracket does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Seen {
        process: Process { pid, started_ticks: fields.get(19)?.parse().ok()? },
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
    })
}
