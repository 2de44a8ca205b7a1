//! What the kernel's files say about this machine and about the process that asks.
//!
//! They explain; they do not decide. Whether a wall can be put up is known by the launcher, which has tried; the files say why
//! not, and what is to be changed. Every path lies under a root, so that a test can write another machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
};

/// No file that is read here is longer, and an endless one must not hold up a start.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Numbers under /proc/sys that allow or forbid.
const SYSCTLS: [&str; 12] = [
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "user/max_net_namespaces",
    "user/max_ipc_namespaces",
    "user/max_uts_namespaces",
    "user/max_cgroup_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/pid_max",
    "kernel/threads-max",
    "fs/file-max",
];

/// What this process is in, and how it was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub kind: String,
    pub sign: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub user: u32,
    pub kernel: String,
    /// Names under /proc/self/ns.
    pub namespaces: BTreeSet<String>,
    /// Those of the list that exist.
    pub sysctls: BTreeMap<String, u64>,
    pub no_new_privileges: bool,
    /// 0 none, 1 strict, 2 a filter.
    pub seccomp_mode: u64,
    pub capabilities: u64,
    /// Actions of seccomp that the kernel knows.
    pub seccomp_actions: String,
    /// Security modules in use; absent where the kernel does not tell.
    pub security_modules: Option<String>,
    pub apparmor_enabled: bool,
    /// Profile that this process is confined by.
    pub apparmor_profile: Option<String>,
    /// Names of AppArmor profiles that are loaded, where they can be read.
    pub apparmor_loaded: Vec<String>,
    pub container: Option<Container>,
    /// What is mounted over parts of /proc.
    pub proc_masks: Vec<String>,
    /// `INSIDE OUTSIDE COUNT` lines.
    pub user_map: String,
    pub open_files_max: Option<u64>,
    pub memory_bytes: u64,
    /// Whether /dev/kvm opens, or why not.
    pub kvm: Option<String>,
}

impl Facts {
    /// Of this process, with `/` as root; of another machine in tests.
    pub fn gather(root: &Path) -> Self {
        let files = Files { root };
        let status = files.text("proc/self/status");
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let user = field("Uid").and_then(|text| text.split_whitespace().nth(1)?.parse().ok()).unwrap_or(u32::MAX);
        Self {
            user,
            kernel: files.text("proc/sys/kernel/osrelease").trim().to_owned(),
            namespaces: files.names("proc/self/ns"),
            sysctls: SYSCTLS.iter().filter_map(|name| Some(((*name).to_owned(), files.number(name)?))).collect(),
            no_new_privileges: number("NoNewPrivs") != 0,
            seccomp_mode: number("Seccomp"),
            capabilities: field("CapEff").and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0),
            seccomp_actions: files.text("proc/sys/kernel/seccomp/actions_avail").trim().to_owned(),
            security_modules: files.some("sys/kernel/security/lsm").map(|text| text.trim().to_owned()),
            apparmor_enabled: files.text("sys/module/apparmor/parameters/enabled").trim() == "Y",
            apparmor_profile: files.profile(),
            apparmor_loaded: profiles(&files.text("sys/kernel/security/apparmor/profiles")),
            container: container(&files),
            proc_masks: masks(&files.text("proc/self/mountinfo")),
            user_map: files.text("proc/self/uid_map"),
            open_files_max: open_files(&files.text("proc/self/limits")),
            memory_bytes: memory(&files.text("proc/meminfo")),
            kvm: files.kvm(),
        }
    }

    pub fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name).copied()
    }

    pub fn is_root(&self) -> bool {
        self.user == 0
    }

    /// By its number in the kernel's header.
    pub fn has_capability(&self, number: u32) -> bool {
        self.capabilities >> number & 1 == 1
    }
}

struct Files<'r> {
    root: &'r Path,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn some(&self, name: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(name)).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn text(&self, name: &str) -> String {
        self.some(name).unwrap_or_default()
    }

    fn number(&self, sysctl: &str) -> Option<u64> {
        self.some(&format!("proc/sys/{sysctl}"))?.trim().parse().ok()
    }

    fn names(&self, directory: &str) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return BTreeSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn profile(&self) -> Option<String> {
        let text = self.some("proc/self/attr/apparmor/current").or_else(|| self.some("proc/self/attr/current"))?;
        let name = text.trim().trim_end_matches('\0');
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn kvm(&self) -> Option<String> {
        OpenOptions::new().read(true).write(true).open(self.path("dev/kvm")).err().map(|source| source.to_string())
    }
}

/// Signs that container run-times leave, the surest first.
fn container(files: &Files<'_>) -> Option<Container> {
    let found = |kind: &str, sign: &str| Some(Container { kind: kind.to_owned(), sign: sign.to_owned() });
    let exists = |name: &str| files.path(name).exists();
    if exists("var/run/secrets/kubernetes.io") || exists("run/secrets/kubernetes.io") {
        return found("Kubernetes", "/run/secrets/kubernetes.io");
    }
    if exists("run/.containerenv") {
        return found("Podman", "/run/.containerenv");
    }
    if exists(".dockerenv") {
        return found("Docker", "/.dockerenv");
    }
    for name in ["run/systemd/container", "run/host/container-manager"] {
        if let Some(kind) = files.some(name).filter(|kind| !kind.trim().is_empty()) {
            return found(kind.trim(), &format!("/{name}"));
        }
    }
    let groups = files.text("proc/self/cgroup");
    [("kubepods", "Kubernetes"), ("docker", "Docker"), ("libpod", "Podman"), ("lxc", "LXC")]
        .into_iter()
        .find(|(word, _)| groups.split(['/', ':', '\n']).any(|part| begins(part, word)))
        .and_then(|(_, kind)| found(kind, "/proc/self/cgroup"))
}

/// `docker`, `docker-0123.scope`, not `dockerish`.
fn begins(part: &str, word: &str) -> bool {
    part.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

fn masks(mountinfo: &str) -> Vec<String> {
    // What is mounted there on purpose by every distribution hides nothing.
    let harmless = |place: &str| place == "/proc/sys/fs/binfmt_misc" || place == "/proc/fs/nfsd";
    let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    places.filter(|place| place.starts_with("/proc/") && !harmless(place)).map(str::to_owned).collect()
}

fn profiles(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0.to_owned())).collect()
}

/// The hard limit: a process raises its own soft one.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Facts {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Facts::gather(root.path())
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let facts = machine(&[
            (
                "proc/self/status",
                "Name:\tx\nUid:\t1000\t1001\t1000\t1000\nCapEff:\t0000000000200000\nNoNewPrivs:\t1\nSeccomp:\t2\n",
            ),
            ("proc/self/ns/user", ""),
            ("proc/self/ns/net", ""),
            ("proc/sys/user/max_user_namespaces", "0\n"),
            (
                "proc/self/limits",
                "Limit  Soft Hard Units\nMax open files            1024                 524288               files\n",
            ),
            ("proc/meminfo", "MemTotal:       2048 kB\n"),
            ("proc/self/attr/current", "agent-os (enforce)\n"),
            ("sys/kernel/security/apparmor/profiles", "agent-os-launch (enforce)\nunrelated (complain)\n"),
            ("sys/module/apparmor/parameters/enabled", "Y\n"),
            ("sys/kernel/security/lsm", "capability,landlock\n"),
            (
                "proc/self/mountinfo",
                "1 2 0:3 / /proc rw - proc proc rw\n4 1 0:5 / /proc/kcore ro - tmpfs t rw\n6 1 0:7 / /proc/sys/fs/binfmt_misc rw - autofs s rw\n",
            ),
        ]);
        assert_eq!(facts.user, 1001, "the effective one");
        assert!(
            facts.no_new_privileges && facts.seccomp_mode == 2 && facts.has_capability(21) && !facts.has_capability(24)
        );
        assert_eq!(facts.namespaces.iter().map(String::as_str).collect::<Vec<_>>(), ["net", "user"]);
        assert_eq!((facts.sysctl("user/max_user_namespaces"), facts.sysctl("kernel/pid_max")), (Some(0), None));
        assert_eq!((facts.open_files_max, facts.memory_bytes), (Some(524_288), 2 << 20));
        assert_eq!(facts.apparmor_profile.as_deref(), Some("agent-os (enforce)"));
        assert_eq!(facts.apparmor_loaded, ["agent-os-launch", "unrelated"]);
        assert_eq!(facts.proc_masks, ["/proc/kcore"]);
        assert!(facts.kvm.is_some() && facts.apparmor_enabled);
    }

    #[test]
    fn each_container_is_recognised_by_its_sign() {
        for (name, content, kind) in [
            (".dockerenv", "", Some("Docker")),
            ("run/.containerenv", "", Some("Podman")),
            ("run/secrets/kubernetes.io/token", "", Some("Kubernetes")),
            ("run/systemd/container", "lxc\n", Some("lxc")),
            ("run/host/container-manager", "flatpak", Some("flatpak")),
            ("proc/self/cgroup", "0::/docker/0123\n", Some("Docker")),
            ("proc/self/cgroup", "4:memory:/kubepods/besteffort/x\n", Some("Kubernetes")),
            ("proc/self/cgroup", "0::/lxc/box\n", Some("LXC")),
            ("proc/self/cgroup", "0::/user.slice/dockerish.scope\n", None),
            ("run/systemd/container", "\n", None),
        ] {
            assert_eq!(
                machine(&[(name, content)]).container.map(|found| found.kind).as_deref(),
                kind,
                "{name} {content}"
            );
        }
    }

    #[test]
    fn this_machine_tells_the_least_that_is_needed() {
        let facts = Facts::gather(Path::new("/"));
        assert!(facts.namespaces.contains("pid") && facts.memory_bytes > 0 && !facts.kernel.is_empty());
    }
}
