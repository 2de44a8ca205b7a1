//! What protects the host from agents on this machine today, said honestly. `agent show`, `doctor` and `/health` print it.

use agentos_types::agent::{Control, Enforcement};

use Enforcement::{Degraded, Enforced, NotEnforced};

/// Name, standing, reason. A row changes only together with the code that enforces it.
const ROWS: &[(&str, Enforcement, &str)] = &[
    (
        "process isolation",
        Enforced,
        "every agent is a process of its own, started by agent-os-launch, in its own session",
    ),
    (
        "empty environment",
        Enforced,
        "the environment is cleared; only the manifest's variables and four of ours are set",
    ),
    ("descriptors", Enforced, "a worker inherits /dev/null, two pipes and its socket, and nothing else"),
    ("no new privileges", Enforced, "no_new_privs is set: setuid programs and file capabilities have no effect"),
    ("address space of a process", Enforced, "RLIMIT_AS from limits.memory_bytes, for each process"),
    ("open files", Enforced, "RLIMIT_NOFILE from limits.open_files, for each process"),
    ("file size", Enforced, "RLIMIT_FSIZE from limits.file_bytes, for each file"),
    ("CPU time of a process", Enforced, "RLIMIT_CPU from limits.cpu_seconds, for each process, when it is not 0"),
    ("core dumps", Enforced, "RLIMIT_CORE is 0"),
    ("end with the server", Enforced, "the kernel kills the worker when the server dies, however it dies"),
    (
        "kill of the process tree",
        Degraded,
        "the process group is killed as one; a descendant that starts a session of its own escapes it until agents have \
         a process namespace",
    ),
    (
        "file system wall",
        NotEnforced,
        "a worker can open whatever the server's user can; mount namespace and Landlock are not set up yet",
    ),
    ("network wall", NotEnforced, "a worker can open sockets by itself; the network namespace is not set up yet"),
    ("system call filter", NotEnforced, "seccomp is not set up yet"),
    ("total memory", NotEnforced, "several processes of one agent together have no limit; needs a memory cgroup"),
    ("CPU share", NotEnforced, "an agent can keep all cores busy; needs a CPU cgroup"),
    ("number of processes", NotEnforced, "an agent can start processes without limit; needs a pids cgroup"),
    ("disk quota", NotEnforced, "many files together have no limit, only each single one has"),
    ("separate user", NotEnforced, "workers run as the server's user, so agents can signal and inspect each other"),
];

/// The present controls, the same for every agent of this version.
pub fn controls() -> Vec<Control> {
    ROWS.iter()
        .map(|(name, enforcement, reason)| Control {
            name: (*name).to_owned(),
            enforcement: *enforcement,
            reason: (*reason).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_control_has_one_name_and_a_reason() {
        let controls = controls();
        let names: HashSet<_> = controls.iter().map(|control| &control.name).collect();
        assert_eq!(names.len(), controls.len());
        assert!(controls.iter().all(|control| !control.reason.is_empty()));
    }
}
