//! The rows of what bounds an agent's use of the machine: groups of processes, the disk, users, room for many.

use agentos_limits::{
    Resource, Standing,
    quota::{Examined, QuotaDriver},
};
use agentos_types::machine::{IsolationLevel, MachineRow, RowStanding};

use super::{
    Bounds,
    facts::Facts,
    why::{Why, no_users},
};

use IsolationLevel::{Reduced, Strong};

/// What one agent needs of the machine's tables, for the reader's reckoning: an init, a program and a few threads, and five
/// descriptors of the server.
const AGENTS: u64 = 1_000;
const TASKS_AN_AGENT: u64 = 8;
const DESCRIPTORS_AN_AGENT: u64 = 5;
/// The gateway, the store and their like.
const DESCRIPTORS_BESIDE: u64 = 1_024;

pub(super) fn rows(facts: &Facts, bounds: &Bounds) -> Vec<MachineRow> {
    let mut rows = vec![groups(bounds)];
    rows.extend(bounds.resources.iter().map(|held| resource(held, bounds.disk_bytes_per_second)));
    rows.push(quota(bounds.quota, &bounds.examined));
    rows.push(users(facts));
    rows.push(processes(facts));
    rows.push(open_files(facts));
    rows
}

fn row(
    name: &str,
    standing: RowStanding,
    detail: impl Into<String>,
    remedy: Option<String>,
    allows: IsolationLevel,
) -> MachineRow {
    MachineRow { name: name.to_owned(), standing, detail: detail.into(), remedy, allows }
}

/// The single limits have rows of their own, which decide.
fn groups(bounds: &Bounds) -> MachineRow {
    let held: Vec<&str> = bounds
        .resources
        .iter()
        .filter(|(_, standing)| *standing == Standing::Enforced)
        .map(|(held, _)| name(*held))
        .collect();
    let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
    match bounds.groups_version {
        Some(2) => {
            row("control groups", RowStanding::Present, format!("version 2, delegated for: {held}"), None, Strong)
        }
        Some(version) => row(
            "control groups",
            RowStanding::Partial,
            format!("version {version}, as root, for: {held}"),
            Some(
                "boot with systemd.unified_cgroup_hierarchy=1; version 2 kills and counts a group in one step"
                    .to_owned(),
            ),
            Strong,
        ),
        None => row(
            "control groups",
            RowStanding::Missing,
            "no group can be made",
            Some("start the server in a unit with Delegate=yes, or as root".to_owned()),
            Strong,
        ),
    }
}

fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory limit",
        Resource::Cpu => "CPU limit",
        Resource::Processes => "process limit",
        Resource::DiskSpeed => "disk speed limit",
    }
}

/// Every agent has a limit of memory and of processes, so that a machine that cannot hold them is weaker. Speeds are bounded
/// where a manifest asks for it, and there a strict agent is refused.
fn resource((resource, standing): &(Resource, Standing), usual_disk_speed: Option<u64>) -> MachineRow {
    let limit = resource.limit();
    match standing {
        Standing::Enforced if *resource == Resource::DiskSpeed => row(
            name(*resource),
            RowStanding::Present,
            format!("{limit} is held; {}", usual(usual_disk_speed)),
            None,
            Strong,
        ),
        Standing::Enforced => row(name(*resource), RowStanding::Present, format!("{limit} is held"), None, Strong),
        Standing::Missing(why) => {
            let (standing, allows) = match resource {
                Resource::Memory | Resource::Processes | Resource::Cpu => (RowStanding::Missing, Reduced),
                Resource::DiskSpeed => (RowStanding::Partial, Strong),
            };
            row(name(*resource), standing, format!("{limit} is not held: {why}"), None, allows)
        }
    }
}

/// What an agent has whose manifest names no speed.
fn usual(bytes_per_second: Option<u64>) -> String {
    match bytes_per_second {
        Some(speed) => format!("an agent that names none has {speed} bytes a second (sandbox.disk_bytes_per_second)"),
        None => "an agent that names none has no bound (sandbox.disk_bytes_per_second is 0)".to_owned(),
    }
}

fn quota(driver: QuotaDriver, examined: &[Examined]) -> MachineRow {
    let detail = format!("{}: {}", driver.as_str(), driver.standing().1);
    let better = examined.iter().take_while(|row| row.driver != driver).filter(|row| !row.is_usable).last();
    let remedy =
        || better.map(|row| format!("{} needs: {}", row.driver.as_str(), row.remedy.clone().unwrap_or_default()));
    match driver {
        QuotaDriver::Project | QuotaDriver::Image => row("disk quota", RowStanding::Present, detail, None, Strong),
        // The bound is exact; that nothing lasts costs comfort, not safety.
        QuotaDriver::Tmpfs => row("disk quota", RowStanding::Present, detail, remedy(), Strong),
        QuotaDriver::Watchdog => {
            let why = better.map(|row| format!("; {} cannot be had: {}", row.driver.as_str(), row.detail));
            row("disk quota", RowStanding::Partial, detail + &why.unwrap_or_default(), remedy(), Reduced)
        }
    }
}

/// A second wall: agents cannot meet each other's processes and files anyway.
fn users(facts: &Facts) -> MachineRow {
    if let Some(Why { detail, remedy }) = no_users(facts) {
        return row("user for each agent", RowStanding::Partial, detail, Some(remedy), Strong);
    }
    if facts.is_root() {
        let detail = "every agent has a user number of its own on the host, from sandbox.first_host_id on";
        return row("user for each agent", RowStanding::Present, detail, None, Strong);
    }
    let detail = "agents share the number of the server's user; their namespaces alone keep them apart";
    row("user for each agent", RowStanding::Partial, detail, Some("run the server as root".to_owned()), Strong)
}

fn processes(facts: &Facts) -> MachineRow {
    let needed = AGENTS * TASKS_AN_AGENT;
    let max =
        ["kernel/pid_max", "kernel/threads-max"].iter().filter_map(|name| Some((facts.sysctl(name)?, *name))).min();
    match max {
        Some((max, name)) if max < needed * 2 => row(
            "room for processes",
            RowStanding::Partial,
            format!("{}: {max}, about {} agents", name.replace('/', "."), max / TASKS_AN_AGENT / 2),
            Some(format!("sysctl -w {}=4194304", name.replace('/', "."))),
            Strong,
        ),
        Some((max, _)) => row("room for processes", RowStanding::Present, format!("{max} tasks"), None, Strong),
        None => row("room for processes", RowStanding::Noted, "not known", None, Strong),
    }
}

fn open_files(facts: &Facts) -> MachineRow {
    let needed = AGENTS * DESCRIPTORS_AN_AGENT + DESCRIPTORS_BESIDE;
    match facts.open_files_max {
        Some(max) if max < needed => row(
            "room for open files",
            RowStanding::Partial,
            format!("{max}, about {} agents", max.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_AN_AGENT),
            Some("raise the limit: LimitNOFILE=65536 in the unit, ulimit -n in a shell".to_owned()),
            Strong,
        ),
        Some(max) => row("room for open files", RowStanding::Present, format!("{max}"), None, Strong),
        None => row("room for open files", RowStanding::Noted, "not known", None, Strong),
    }
}
