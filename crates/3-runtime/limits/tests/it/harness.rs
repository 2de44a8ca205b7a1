//! Shell programs that are put into a group before their first line runs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use agentos_limits::{Cgroups, CgroupsOptions, Group, GroupLimits, Resource, Standing};
use agentos_protocol::sandbox::Descriptor;
use agentos_types::manifest::LimitEnforcement;

pub const MIB: u64 = 1 << 20;
/// Far above what any step needs; only a defect lets a test wait this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Groups with all of these resources, or the printed reason why this machine cannot run the test.
pub fn cgroups(node: &str, wanted: &[Resource]) -> Option<Cgroups> {
    cgroups_with_speed(node, wanted, None)
}

/// The same, with a speed of the disk for groups that ask for none.
pub fn cgroups_with_speed(node: &str, wanted: &[Resource], speed: Option<u64>) -> Option<Cgroups> {
    let options = CgroupsOptions {
        node: node.to_owned(),
        subtree: None,
        workspaces: Some(scratch()),
        disk_bytes_per_second: speed,
    };
    let cgroups = Cgroups::open(&options);
    for (resource, standing) in cgroups.standing() {
        if let (true, Standing::Missing(why)) = (wanted.contains(&resource), standing) {
            println!("left out: {resource:?}: {why}");
            return None;
        }
    }
    Some(cgroups)
}

/// A directory on a disk: that of the virtual machine, or the one where the tests were built.
pub fn scratch() -> PathBuf {
    std::env::var_os("AGENTOS_DISK").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

/// `unshare` with these flags, as anybody.
pub fn unshare(flags: &str) -> String {
    let user = if rustix::process::geteuid().is_root() { "" } else { "--user --map-root-user " };
    format!("exec unshare {user}{flags} ")
}

pub fn group(cgroups: &Cgroups, name: &str, limits: &GroupLimits) -> Group {
    let group = cgroups.create(name, limits, LimitEnforcement::Strict).unwrap();
    assert_eq!(group.missing(), []);
    group
}

pub fn memory(bytes: u64) -> GroupLimits {
    GroupLimits { memory_bytes: Some(bytes), ..GroupLimits::default() }
}

/// By what a launcher gets.
fn enter(group: &Group, pid: u32) {
    for (kind, place) in group.descriptors().unwrap() {
        let own = format!("/proc/self/fd/{}", place.as_raw_fd());
        let list = if kind == Descriptor::Cgroup { format!("{own}/cgroup.procs") } else { own };
        fs::write(list, pid.to_string()).unwrap();
    }
}

/// A shell in a group. Killed and reaped when it is dropped.
pub struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Shell {
    /// Runs the script once it is inside.
    pub fn start(group: &Group, script: &str) -> Self {
        let mut shell = Self::outside(script);
        enter(group, shell.child.id());
        shell.say("go");
        shell
    }

    fn outside(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("read go; {script}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Its next line.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().unwrap().take(4_096)).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// The members of all trees of a group and of the groups below it.
pub fn members(group: &Group) -> Vec<u32> {
    fn collect(directory: &Path, into: &mut Vec<u32>) {
        let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        into.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), into);
            }
        }
    }
    let mut members = Vec::new();
    group.directories().iter().for_each(|directory| collect(directory, &mut members));
    members.sort_unstable();
    members.dedup();
    members
}

/// Waits for a condition that the kernel makes true.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

pub fn has(program: &str) -> bool {
    let found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|place| Path::new(place).join(program).exists());
    if !found {
        println!("left out: this machine has no {program}");
    }
    found
}
