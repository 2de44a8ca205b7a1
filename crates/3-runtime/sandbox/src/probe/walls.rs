//! The rows of the walls themselves: what the launcher has tried, and where it did not succeed, why.

use agentos_protocol::sandbox::Layer;
use agentos_types::machine::{IsolationLevel, MachineRow, RowStanding};

use super::{
    Trial,
    facts::Facts,
    why::{Why, no_namespace, no_proc, no_user_namespace, no_users},
};
use crate::Backend;

/// One wall of the written table.
struct Wall {
    row: &'static str,
    /// Its name in what the launcher says.
    layer: &'static str,
    /// What a machine without it is worth.
    without: IsolationLevel,
    /// Name under /proc/self/ns, and the number that forbids it.
    namespace: Option<(&'static str, &'static str)>,
    /// What it does, for the reader of a row that is as it should be.
    does: &'static str,
}

const fn namespace(
    row: &'static str,
    layer: &'static str,
    without: IsolationLevel,
    names: (&'static str, &'static str),
    does: &'static str,
) -> Wall {
    Wall { row, layer, without, namespace: Some(names), does }
}

use IsolationLevel::{None as NoLevel, Reduced, Strong};

/// Without the first four, a process sees the machine; without the filter of system calls, all of the kernel is in its reach.
/// The others are second walls, or keep apart what little the first leave in common.
const WALLS: &[Wall] = &[
    namespace(
        "user namespaces",
        "user",
        NoLevel,
        ("user", "user/max_user_namespaces"),
        "root inside would be nobody outside",
    ),
    namespace(
        "mount namespaces",
        "mount",
        NoLevel,
        ("mnt", "user/max_mnt_namespaces"),
        "an agent sees only what it is given",
    ),
    namespace(
        "process namespaces",
        "pid",
        NoLevel,
        ("pid", "user/max_pid_namespaces"),
        "an agent sees only its own processes",
    ),
    namespace(
        "network namespaces",
        "network",
        NoLevel,
        ("net", "user/max_net_namespaces"),
        "the proxy is the only way out",
    ),
    namespace("IPC namespaces", "ipc", Reduced, ("ipc", "user/max_ipc_namespaces"), "no shared memory with others"),
    namespace(
        "host name namespaces",
        "uts",
        Reduced,
        ("uts", "user/max_uts_namespaces"),
        "the machine's name stays outside",
    ),
    namespace(
        "cgroup namespaces",
        "cgroup",
        Reduced,
        ("cgroup", "user/max_cgroup_namespaces"),
        "groups of others are not seen",
    ),
    Wall {
        row: "own /proc",
        layer: "proc",
        without: NoLevel,
        namespace: None,
        does: "the machine's processes are not shown",
    },
    Wall {
        row: "system call filter",
        layer: "seccomp",
        without: NoLevel,
        namespace: None,
        does: "what is not listed is refused",
    },
    Wall {
        row: "Landlock",
        layer: "landlock",
        without: Reduced,
        namespace: None,
        does: "a second wall behind the mounts",
    },
    Wall {
        row: "no new privileges",
        layer: "rights",
        without: NoLevel,
        namespace: None,
        does: "no program inside gains rights",
    },
];

/// How the launcher begins to tell of a wall that it could not try by itself.
const ALL_DOWN: &str = "no sandbox starts";

/// The first row says whether sandboxes start at all; the others, which walls they have.
pub(super) fn rows(facts: &Facts, backend: Backend, trial: &Trial) -> Vec<MachineRow> {
    let mut rows = vec![sandbox(facts, backend, trial)];
    rows.extend(WALLS.iter().map(|wall| row(wall, facts, backend, trial)));
    rows
}

fn sandbox(facts: &Facts, backend: Backend, trial: &Trial) -> MachineRow {
    let name = "sandboxes".to_owned();
    let missing = |detail: String, remedy: String| MachineRow {
        name: "sandboxes".to_owned(),
        standing: RowStanding::Missing,
        detail,
        remedy: Some(remedy),
        allows: NoLevel,
    };
    match (&trial.refused, backend) {
        (_, Backend::None) => missing(
            "sandbox.backend = none: agents run with the rights of the server's user".to_owned(),
            "remove the setting; it is for development alone".to_owned(),
        ),
        (Some(refused), _) => {
            let reason = no_user_namespace(facts).or_else(|| no_proc(facts)).or_else(|| no_users(facts));
            let Why { detail, remedy } = reason.unwrap_or_else(|| Why {
                detail: "the kernel's files name no reason".to_owned(),
                remedy: "see the runbook `No sandbox starts`".to_owned(),
            });
            missing(format!("none starts here: {refused}: {detail}"), remedy)
        }
        (None, backend) => MachineRow {
            name,
            standing: RowStanding::Present,
            detail: format!("one was started and ended just now (back end {})", backend.as_str()),
            remedy: None,
            allows: Strong,
        },
    }
}

fn row(wall: &Wall, facts: &Facts, backend: Backend, trial: &Trial) -> MachineRow {
    let made = |standing, detail: String, remedy: Option<String>, allows| MachineRow {
        name: wall.row.to_owned(),
        standing,
        detail,
        remedy,
        allows,
    };
    let missing = |detail: String, remedy: Option<String>| made(RowStanding::Missing, detail, remedy, wall.without);
    if backend == Backend::None {
        return missing("not put up: sandbox.backend = none".to_owned(), Some("remove the setting".to_owned()));
    }
    let reason = || reason(wall, facts);
    let not_tried = |detail: &str| made(RowStanding::Partial, detail.to_owned(), None, Strong);
    match (trial.layer(wall.layer), &trial.refused) {
        // It goes down with the others; whether it could stand is not known, and the first row has the reason.
        (Some(layer), _) if !layer.is_active && layer.detail.contains(ALL_DOWN) => match reason() {
            Some(Why { detail, remedy }) => missing(detail, Some(remedy)),
            None => not_tried(&layer.detail),
        },
        (Some(layer), _) if !layer.is_active => {
            let found = reason();
            let detail =
                found.as_ref().map_or(layer.detail.clone(), |found| format!("{}: {}", layer.detail, found.detail));
            missing(detail, found.map(|found| found.remedy))
        }
        (Some(layer), _) => present(wall, layer),
        // All of them belong to a sandbox that has started.
        (None, None) => made(RowStanding::Present, wall.does.to_owned(), None, Strong),
        (None, Some(_)) => match reason().filter(|_| wall.layer != "landlock") {
            Some(Why { detail, remedy }) => missing(detail, Some(remedy)),
            // What starts no sandbox is told in the first row; this part may be well. Landlock has no file that could tell.
            None => not_tried("not tried, because no sandbox starts"),
        },
    }
}

/// Landlock grew: files, then TCP, then signals and abstract sockets. The first wall behind each stands without it.
const LANDLOCK_WHOLE: u32 = 6;

fn present(wall: &Wall, layer: &Layer) -> MachineRow {
    let version = layer.detail.strip_prefix("ABI ").and_then(|rest| {
        rest.split(|character: char| !character.is_ascii_digit()).next().and_then(|digits| digits.parse::<u32>().ok())
    });
    let is_old = wall.layer == "landlock" && version.is_some_and(|version| version < LANDLOCK_WHOLE);
    MachineRow {
        name: wall.row.to_owned(),
        standing: if is_old { RowStanding::Partial } else { RowStanding::Present },
        detail: if layer.detail.is_empty() { wall.does.to_owned() } else { layer.detail.clone() },
        remedy: is_old.then(|| "Linux 6.12 or later has all of it".to_owned()),
        allows: Strong,
    }
}

fn reason(wall: &Wall, facts: &Facts) -> Option<Why> {
    match (wall.layer, wall.namespace) {
        ("user", _) => no_user_namespace(facts),
        (_, Some((file, sysctl))) => no_namespace(facts, file, sysctl),
        ("proc", _) => no_proc(facts),
        ("seccomp", _) if facts.seccomp_actions.is_empty() => Some(Why {
            detail: "the kernel has no filters of system calls (no /proc/sys/kernel/seccomp)".to_owned(),
            remedy: "use a kernel that was built with CONFIG_SECCOMP_FILTER".to_owned(),
        }),
        ("landlock", _) => Some(Why {
            detail: match &facts.security_modules {
                Some(modules) => format!("kernel {}, security modules: {modules}", facts.kernel),
                None => format!("kernel {}", facts.kernel),
            },
            remedy: "Linux 5.13 or later, with landlock in the boot parameter lsm=".to_owned(),
        }),
        _ => None,
    }
}
