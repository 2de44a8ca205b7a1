//! What protects the host from agents on this machine, said honestly. `agent show`, `doctor` and `/health` print it.
//!
//! Nothing here is claimed by itself: a row is what the machine's table says about the parts that it stands on, and for one
//! agent, what its manifest asks for and what its present life has. What the launcher does to every process whatever the
//! machine is, and refuses the start if it cannot, is enforced everywhere.

use agentos_types::{
    agent::{Control, Enforcement},
    machine::{Machine, MachineRow, RowStanding},
    manifest::Limits,
};

use Enforcement::{Degraded, Enforced, NotEnforced};

/// What no machine lacks. The launcher does it before the program runs.
const ALWAYS: &[(&str, &str)] = &[
    ("process isolation", "every agent is a process of its own, started by agent-os-launch, in its own session"),
    ("empty environment", "the environment is cleared; only the manifest's variables and those of the sandbox are set"),
    ("descriptors", "a worker inherits its standard streams and its socket, and nothing else"),
    ("open files", "RLIMIT_NOFILE from limits.open_files, for each process"),
    ("file size", "RLIMIT_FSIZE from limits.file_bytes, for each file"),
    ("CPU time of a process", "RLIMIT_CPU from limits.cpu_seconds, for each process, when it is not 0"),
    ("core dumps", "RLIMIT_CORE is 1 byte: no dump, and no crash helper of the machine is started"),
    ("end with the server", "the kernel kills the worker when the server dies, however it dies"),
];

/// A control that stands on rows of the machine's table.
struct Row {
    control: &'static str,
    /// Without one of these it is not there.
    needs: &'static [&'static str],
    /// Without one of these it is weaker.
    wants: &'static [&'static str],
    reason: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        control: "no new privileges",
        needs: &["no new privileges"],
        wants: &[],
        reason: "no_new_privs, no capabilities, locked securebits: no program inside gains rights",
    },
    Row {
        control: "kill of the process tree",
        needs: &["process namespaces"],
        wants: &[],
        reason: "the agent's processes are a namespace; with its first one the kernel kills all of them",
    },
    Row {
        control: "file system wall",
        needs: &["sandboxes", "mount namespaces", "own /proc"],
        wants: &["Landlock"],
        reason: "an agent has a root of its own with what it is given, and Landlock's rules behind it",
    },
    Row {
        control: "network wall",
        needs: &["sandboxes", "network namespaces"],
        wants: &[],
        reason: "a network of its own that leads nowhere but to the proxy",
    },
    Row {
        control: "system call filter",
        needs: &["system call filter"],
        wants: &[],
        reason: "a list of what may be called; everything else is refused",
    },
    Row {
        control: TOTAL_MEMORY,
        needs: &["memory limit"],
        wants: &[],
        reason: "limits.memory_bytes, for all processes together",
    },
    Row {
        control: CPU_SHARE,
        needs: &["CPU limit"],
        wants: &[],
        reason: "limits.cpu_percent, for all processes together",
    },
    Row {
        control: PROCESSES,
        needs: &["process limit"],
        wants: &[],
        reason: "limits.processes, for processes and threads together",
    },
    Row { control: DISK_SPEED, needs: &["disk speed limit"], wants: &[], reason: "limits.disk_bytes_per_second" },
    Row { control: DISK_QUOTA, needs: &["sandboxes"], wants: &["disk quota"], reason: "limits.workspace_bytes" },
    Row {
        control: "separate user",
        needs: &["user namespaces"],
        wants: &["user for each agent"],
        reason: "a user of its own on the host, who is nobody there",
    },
];

const TOTAL_MEMORY: &str = "total memory";
const CPU_SHARE: &str = "CPU share";
const PROCESSES: &str = "number of processes";
const DISK_SPEED: &str = "disk speed";
const DISK_QUOTA: &str = "disk quota";

/// Limits of the manifest and the controls that hold them.
const LIMITS: &[(&str, &str)] = &[
    ("limits.memory_bytes", TOTAL_MEMORY),
    ("limits.cpu_percent", CPU_SHARE),
    ("limits.processes", PROCESSES),
    ("limits.disk_bytes_per_second", DISK_SPEED),
    ("limits.workspace_bytes", DISK_QUOTA),
];

/// What this machine enforces on every agent that asks for it.
pub fn controls(machine: &Machine) -> Vec<Control> {
    let always = ALWAYS.iter().map(|(name, reason)| control(name, Enforced, *reason));
    always.chain(ROWS.iter().map(|row| judge(row, machine))).collect()
}

/// What is enforced on one agent. `degraded` is what its present life lacks, by the names of its limits: nearer to the truth
/// than what the machine had at the start.
pub(crate) fn of_agent(machine: &Machine, limits: &Limits, degraded: &[Control]) -> Vec<Control> {
    let mut controls = controls(machine);
    for held in &mut controls {
        let unasked = match held.name.as_str() {
            CPU_SHARE => limits.cpu_percent == 0,
            DISK_SPEED => limits.disk_bytes_per_second == 0,
            _ => false,
        };
        let limit = LIMITS.iter().find(|(_, name)| *name == held.name).map(|(limit, _)| *limit);
        if let Some(limit) = limit.filter(|_| unasked) {
            (held.enforcement, held.reason) = (NotEnforced, format!("the manifest asks for no bound: {limit} is 0"));
        } else if let Some(now) = degraded.iter().find(|row| limit == Some(row.name.as_str())) {
            (held.enforcement, held.reason) = (now.enforcement, now.reason.clone());
        }
    }
    controls
}

fn control(name: &str, enforcement: Enforcement, reason: impl Into<String>) -> Control {
    Control { name: name.to_owned(), enforcement, reason: reason.into() }
}

fn judge(row: &Row, machine: &Machine) -> Control {
    for name in row.needs {
        match machine.row(name) {
            Some(found) if is_there(found) => {}
            Some(found) => return control(row.control, NotEnforced, why(found)),
            None => return control(row.control, NotEnforced, format!("nothing is known about {name}")),
        }
    }
    let weaker =
        row.wants.iter().filter_map(|name| machine.row(name)).find(|found| found.standing != RowStanding::Present);
    match weaker {
        Some(found) => control(row.control, Degraded, why(found)),
        None => control(row.control, Enforced, row.reason),
    }
}

fn is_there(row: &MachineRow) -> bool {
    row.standing == RowStanding::Present
}

fn why(row: &MachineRow) -> String {
    format!("{}: {}", row.name, row.detail)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use agentos_types::machine::IsolationLevel;

    use super::*;

    /// A table in which every row that a control stands on is as given.
    fn machine(standing: impl Fn(&str) -> RowStanding) -> Machine {
        let names: HashSet<&str> = ROWS.iter().flat_map(|row| row.needs.iter().chain(row.wants)).copied().collect();
        let row = |name: &str| MachineRow {
            name: name.to_owned(),
            standing: standing(name),
            detail: format!("as found: {name}"),
            remedy: None,
            allows: IsolationLevel::Strong,
        };
        Machine::of(names.into_iter().map(row).collect())
    }

    fn whole() -> Machine {
        machine(|_| RowStanding::Present)
    }

    fn held(controls: &[Control], name: &str) -> (Enforcement, String) {
        let found = controls.iter().find(|control| control.name == name).unwrap();
        (found.enforcement, found.reason.clone())
    }

    #[test]
    fn every_control_has_one_name_and_a_reason() {
        let controls = controls(&whole());
        let names: HashSet<_> = controls.iter().map(|control| &control.name).collect();
        assert_eq!(names.len(), controls.len());
        assert!(controls.iter().all(|control| control.enforcement == Enforced && !control.reason.is_empty()));
        assert!(LIMITS.iter().all(|(_, name)| names.iter().any(|known| known == name)));
    }

    #[test]
    fn every_control_falls_with_each_part_that_it_stands_on() {
        for row in ROWS {
            for gone in row.needs {
                let machine = machine(|name| if name == *gone { RowStanding::Missing } else { RowStanding::Present });
                let (enforcement, reason) = held(&controls(&machine), row.control);
                assert_eq!(enforcement, NotEnforced, "{} without {gone}", row.control);
                assert_eq!(reason, format!("{gone}: as found: {gone}"));
            }
            for gone in row.wants {
                let machine = machine(|name| if name == *gone { RowStanding::Partial } else { RowStanding::Present });
                assert_eq!(held(&controls(&machine), row.control).0, Degraded, "{} without {gone}", row.control);
            }
        }
        assert!(
            controls(&Machine::of(Vec::new())).iter().filter(|control| control.enforcement != Enforced).count()
                == ROWS.len()
        );
    }

    #[test]
    fn what_an_agent_does_not_ask_for_or_does_not_have_is_said() {
        let plain = of_agent(&whole(), &Limits::default(), &[]);
        assert_eq!(
            held(&plain, CPU_SHARE),
            (NotEnforced, "the manifest asks for no bound: limits.cpu_percent is 0".into())
        );
        assert_eq!(held(&plain, TOTAL_MEMORY).0, Enforced);
        let asks = Limits { cpu_percent: 50, disk_bytes_per_second: 1, ..Limits::default() };
        let degraded = [control("limits.memory_bytes", NotEnforced, "the group has no memory controller")];
        let lacks = of_agent(&whole(), &asks, &degraded);
        assert_eq!((held(&lacks, CPU_SHARE).0, held(&lacks, DISK_SPEED).0), (Enforced, Enforced));
        assert_eq!(held(&lacks, TOTAL_MEMORY), (NotEnforced, "the group has no memory controller".into()));
    }
}
