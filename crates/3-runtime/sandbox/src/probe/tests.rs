//! Each row can be both answers, and the level follows from the rows as the table says.

use std::collections::{BTreeMap, BTreeSet};

use agentos_types::machine::{IsolationLevel, RowStanding};

use super::*;

use IsolationLevel::{None as NoLevel, Reduced, Strong};

/// A machine that has everything, as an ordinary user sees it.
struct Case {
    facts: Facts,
    backend: Backend,
    trial: Trial,
    bounds: Bounds,
}

const NAMES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn whole() -> Case {
    let layer = |name: &str, detail: &str| Layer { name: name.to_owned(), is_active: true, detail: detail.to_owned() };
    let names = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup", "proc", "rights", "memfd"];
    let mut layers: Vec<Layer> = names.iter().map(|name| layer(name, "one for each sandbox")).collect();
    layers.push(layer("landlock", "ABI 7: files, TCP, scopes"));
    layers.push(layer("seccomp", "414 instructions"));
    Case {
        facts: Facts {
            user: 0,
            kernel: "6.18".to_owned(),
            namespaces: NAMES.iter().map(|name| (*name).to_owned()).collect(),
            sysctls: BTreeMap::from([("kernel/pid_max".into(), 4_194_304)]),
            capabilities: u64::MAX,
            seccomp_actions: "kill_process errno allow".to_owned(),
            apparmor_enabled: true,
            apparmor_loaded: vec!["agent-os-launch".to_owned()],
            open_files_max: Some(1 << 20),
            ..Facts::default()
        },
        backend: Backend::Native,
        trial: Trial { layers, refused: None },
        bounds: Bounds {
            groups_version: Some(2),
            resources: Resource::ALL.map(|resource| (resource, Standing::Enforced)).to_vec(),
            disk_bytes_per_second: Some(32 << 20),
            quota: QuotaDriver::Image,
            examined: QuotaDriver::ALL
                .map(|driver| Examined { driver, is_usable: true, detail: "found".into(), remedy: None })
                .to_vec(),
        },
    }
}

impl Case {
    fn judge(&self) -> Machine {
        judge(&self.facts, self.backend, &self.trial, &self.bounds)
    }

    fn layer(&mut self, name: &str) -> &mut Layer {
        self.trial.layers.iter_mut().find(|layer| layer.name == name).unwrap()
    }

    fn lacks(&mut self, resource: Resource) {
        for (held, standing) in &mut self.bounds.resources {
            if *held == resource {
                *standing = Standing::Missing("no controller".to_owned());
            }
        }
    }

    fn quota(&mut self, driver: QuotaDriver) {
        self.bounds.quota = driver;
        for row in self.bounds.examined.iter_mut().filter(|row| row.driver != driver) {
            (row.is_usable, row.detail, row.remedy) = (false, "no loop devices".into(), Some("load loop".into()));
        }
    }
}

/// `change` makes one row worse: its standing, the level of the machine, and whether there is a remedy.
fn check(row: &str, change: impl Fn(&mut Case), standing: RowStanding, level: IsolationLevel, has_remedy: bool) {
    let good = whole().judge();
    let before = good.row(row).unwrap_or_else(|| panic!("no row {row}"));
    assert!([RowStanding::Present, RowStanding::Noted].contains(&before.standing), "{before:?}");
    let mut case = whole();
    change(&mut case);
    let machine = case.judge();
    let after = machine.row(row).unwrap();
    assert_eq!((after.standing, machine.level), (standing, level), "{after:?}");
    assert_eq!(after.remedy.is_some(), has_remedy, "{after:?}");
    assert_ne!(before, after);
    if level < Strong {
        // What was only not tried is not what is missing.
        let named = if after.allows < Strong { row } else { "sandboxes" };
        assert!(machine.below(Strong).iter().any(|found| found.name == named), "{named} is named as what is missing");
    }
}

#[test]
fn a_whole_machine_is_strong_and_every_row_is_named_once() {
    let machine = whole().judge();
    assert_eq!(machine.level, Strong);
    assert!(machine.below(Strong).is_empty());
    let names: BTreeSet<_> = machine.rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), machine.rows.len());
    assert!(machine.rows.iter().all(|row| !row.detail.is_empty()));
}

#[test]
fn each_wall_can_be_missing() {
    use RowStanding::Missing;
    for (row, layer, level) in [
        ("user namespaces", "user", NoLevel),
        ("mount namespaces", "mount", NoLevel),
        ("process namespaces", "pid", NoLevel),
        ("network namespaces", "network", NoLevel),
        ("own /proc", "proc", NoLevel),
        ("no new privileges", "rights", NoLevel),
        ("IPC namespaces", "ipc", Reduced),
        ("host name namespaces", "uts", Reduced),
        ("cgroup namespaces", "cgroup", Reduced),
    ] {
        let gone = |case: &mut Case| (case.layer(layer).is_active, case.layer(layer).detail) = (false, "EPERM".into());
        check(row, gone, Missing, level, false);
    }
    let gone = |case: &mut Case| case.layer("landlock").is_active = false;
    check("Landlock", gone, Missing, Reduced, true);
    let filter = |case: &mut Case| {
        case.layer("seccomp").is_active = false;
        case.facts.seccomp_actions.clear();
    };
    check("system call filter", filter, Missing, NoLevel, true);
    let old = |case: &mut Case| case.layer("landlock").detail = "ABI 2: files".into();
    check("Landlock", old, RowStanding::Partial, Strong, true);
}

#[test]
fn a_namespace_that_is_forbidden_has_its_number_as_the_reason() {
    for (row, file, sysctl, level) in [
        ("user namespaces", "user", "user/max_user_namespaces", NoLevel),
        ("mount namespaces", "mnt", "user/max_mnt_namespaces", NoLevel),
        ("process namespaces", "pid", "user/max_pid_namespaces", NoLevel),
        ("network namespaces", "net", "user/max_net_namespaces", NoLevel),
        ("IPC namespaces", "ipc", "user/max_ipc_namespaces", NoLevel),
        ("host name namespaces", "uts", "user/max_uts_namespaces", NoLevel),
        ("cgroup namespaces", "cgroup", "user/max_cgroup_namespaces", NoLevel),
    ] {
        let refuse = |case: &mut Case| case.trial = Trial { layers: Vec::new(), refused: Some("clone: EPERM".into()) };
        let forbidden = |case: &mut Case| {
            refuse(case);
            case.facts.sysctls.insert(sysctl.to_owned(), 0);
        };
        check(row, forbidden, RowStanding::Missing, level, true);
        let absent = |case: &mut Case| {
            refuse(case);
            case.facts.namespaces.remove(file);
        };
        check(row, absent, RowStanding::Missing, level, true);
        let innocent = |case: &mut Case| refuse(case);
        check(row, innocent, RowStanding::Partial, NoLevel, false);
    }
}

#[test]
fn what_goes_down_with_the_others_is_not_called_missing() {
    let down = |case: &mut Case| {
        case.trial.refused = Some("mounts: EPERM".into());
        for name in ["user", "proc", "seccomp"] {
            (case.layer(name).is_active, case.layer(name).detail) =
                (false, "could be, but no sandbox starts: x".into());
        }
    };
    for row in ["user namespaces", "own /proc", "system call filter"] {
        check(row, down, RowStanding::Partial, NoLevel, false);
    }
    let few = |case: &mut Case| {
        case.trial.refused = Some("order: no user".into());
        case.facts.user_map = "         0       1000          1\n".into();
    };
    let mut case = whole();
    few(&mut case);
    let machine = case.judge();
    let row = machine.row("sandboxes").unwrap();
    assert!(row.detail.contains("1 user number") && row.remedy.as_ref().unwrap().contains("first_host_id"), "{row:?}");
}

#[test]
fn no_sandbox_is_no_level_whatever_the_reason() {
    let refused = |case: &mut Case| case.trial.refused = Some("mounts: EPERM".into());
    check("sandboxes", refused, RowStanding::Missing, NoLevel, true);
    check("sandboxes", |case| case.backend = Backend::None, RowStanding::Missing, NoLevel, true);
    let mut case = whole();
    case.backend = Backend::None;
    let machine = case.judge();
    for name in ["user namespaces", "network namespaces", "system call filter", "Landlock"] {
        assert_eq!(machine.row(name).unwrap().standing, RowStanding::Missing, "without walls none is claimed");
    }
    let mut case = whole();
    case.trial.refused = Some("proc: EPERM".into());
    case.facts.proc_masks.push("/proc/kcore".into());
    case.facts.container = Some(Container { kind: "Docker".into(), sign: "/.dockerenv".into() });
    let machine = case.judge();
    let row = machine.row("sandboxes").unwrap();
    assert!(row.detail.contains("proc: EPERM") && row.detail.contains("/proc/kcore"), "{row:?}");
    assert!(row.remedy.as_ref().unwrap().contains("docker run"), "{row:?}");
}

#[test]
fn each_bound_can_be_missing() {
    use RowStanding::{Missing, Partial};
    check("memory limit", |case| case.lacks(Resource::Memory), Missing, Reduced, false);
    check("CPU limit", |case| case.lacks(Resource::Cpu), Missing, Reduced, false);
    check("process limit", |case| case.lacks(Resource::Processes), Missing, Reduced, false);
    check("disk speed limit", |case| case.lacks(Resource::DiskSpeed), Partial, Strong, false);
    check("control groups", |case| case.bounds.groups_version = Some(1), Partial, Strong, true);
    check("control groups", |case| case.bounds.groups_version = None, Missing, Strong, true);
    check("disk quota", |case| case.quota(QuotaDriver::Watchdog), Partial, Reduced, true);
    check("disk quota", |case| case.quota(QuotaDriver::Tmpfs), RowStanding::Present, Strong, true);
    check("user for each agent", |case| case.facts.user = 1000, Partial, Strong, true);
    check("user for each agent", |case| case.facts.user_map = "0 100000 65".into(), Partial, Strong, true);
    let few = |case: &mut Case| _ = case.facts.sysctls.insert("kernel/pid_max".into(), 4096);
    check("room for processes", few, Partial, Strong, true);
    check("room for open files", |case| case.facts.open_files_max = Some(1024), Partial, Strong, true);
}

#[test]
fn the_usual_speed_of_the_disk_is_told_where_it_is_held() {
    let told = |change: fn(&mut Case)| {
        let mut case = whole();
        change(&mut case);
        case.judge().row("disk speed limit").unwrap().detail.clone()
    };
    assert!(told(|_| {}).contains("has 33554432 bytes a second (sandbox.disk_bytes_per_second)"));
    assert!(told(|case| case.bounds.disk_bytes_per_second = None).contains("has no bound"));
    let missing = told(|case| case.lacks(Resource::DiskSpeed));
    assert!(missing.contains("is not held") && !missing.contains("33554432"), "{missing}");
}

#[test]
fn what_is_around_is_told_and_changes_no_level() {
    use RowStanding::{Noted, Partial};
    let container = |case: &mut Case| case.facts.container = Some(Container { kind: "lxc".into(), sign: "/s".into() });
    check("container", container, Noted, Strong, false);
    check("restrictions of the server", |case| case.facts.no_new_privileges = true, Noted, Strong, false);
    check("restrictions of the server", |case| case.facts.seccomp_mode = 2, Noted, Strong, false);
    check("restrictions of the server", |case| case.facts.capabilities = 0, Noted, Strong, false);
    check("restrictions of the server", |case| case.facts.proc_masks = vec!["/proc/keys".into()], Noted, Strong, false);
    check("AppArmor", |case| case.facts.apparmor_enabled = false, Noted, Strong, false);
    check("AppArmor", |case| case.facts.apparmor_loaded.clear(), Partial, Strong, true);
    let old = |case: &mut Case| {
        (case.layer("memfd").is_active, case.layer("memfd").detail) = (false, "vm.memfd_noexec needs Linux 6.3".into());
    };
    check("lock on programs in memory", old, Partial, Strong, true);
    check("KVM", |case| case.facts.kvm = Some("Permission denied".into()), Noted, Strong, false);
}
