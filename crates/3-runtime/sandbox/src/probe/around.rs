//! The rows of what is around the server: containers and units that restrict it, security modules, the kernel's extras.

use agentos_types::machine::{IsolationLevel::Strong, MachineRow, RowStanding};

use super::{Trial, facts::Facts};

/// Numbers of linux/capability.h that a server as root uses.
const CAPABILITIES: &[(&str, u32)] =
    &[("CHOWN", 0), ("DAC_OVERRIDE", 1), ("FOWNER", 3), ("KILL", 5), ("SETGID", 6), ("SETUID", 7), ("SYS_ADMIN", 21)];

pub(super) fn rows(facts: &Facts, trial: &Trial) -> Vec<MachineRow> {
    vec![container(facts), restrictions(facts), apparmor(facts), memory_programs(trial), kvm(facts)]
}

/// None of these lowers the level by itself: what they forbid shows in the row of what was forbidden.
fn row(name: &str, standing: RowStanding, detail: impl Into<String>, remedy: Option<String>) -> MachineRow {
    MachineRow { name: name.to_owned(), standing, detail: detail.into(), remedy, allows: Strong }
}

fn container(facts: &Facts) -> MachineRow {
    match &facts.container {
        Some(found) => {
            row("container", RowStanding::Noted, format!("the server runs in {} ({})", found.kind, found.sign), None)
        }
        None => row("container", RowStanding::Noted, "none was recognised", None),
    }
}

fn restrictions(facts: &Facts) -> MachineRow {
    let mut found = Vec::new();
    if facts.no_new_privileges {
        found.push("no_new_privs is set: setuid programs (a setuid bwrap) do not work".to_owned());
    }
    if facts.seccomp_mode != 0 {
        found.push("a filter of system calls is on".to_owned());
    }
    if !facts.proc_masks.is_empty() {
        found.push(format!("parts of /proc are hidden: {}", facts.proc_masks.join(", ")));
    }
    if facts.is_root() {
        let missing: Vec<&str> =
            CAPABILITIES.iter().filter(|(_, number)| !facts.has_capability(*number)).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            found.push(format!("root without CAP_{}", missing.join(", CAP_")));
        }
    }
    match found.is_empty() {
        true => row("restrictions of the server", RowStanding::Present, "none", None),
        false => row("restrictions of the server", RowStanding::Noted, found.join("; "), None),
    }
}

fn apparmor(facts: &Facts) -> MachineRow {
    let name = "AppArmor";
    if !facts.apparmor_enabled {
        return row(name, RowStanding::Noted, "not on in this kernel; the other walls do not need it", None);
    }
    let ours: Vec<&str> =
        facts.apparmor_loaded.iter().map(String::as_str).filter(|profile| profile.starts_with("agent-os")).collect();
    if ours.is_empty() {
        let remedy = "copy deploy/apparmor/* to /etc/apparmor.d and run apparmor_parser -r on each".to_owned();
        return row(name, RowStanding::Partial, "on, but no profile of ours is seen to be loaded", Some(remedy));
    }
    row(name, RowStanding::Present, format!("on, with {}", ours.join(", ")), None)
}

fn memory_programs(trial: &Trial) -> MachineRow {
    let name = "lock on programs in memory";
    match trial.layer("memfd") {
        Some(layer) if layer.is_active => row(name, RowStanding::Present, layer.detail.clone(), None),
        Some(layer) => row(
            name,
            RowStanding::Partial,
            format!("{}: agents with sandbox.anonymous_programs = false do not start", layer.detail),
            Some("Linux 6.3 or later, with the server as root".to_owned()),
        ),
        None => row(name, RowStanding::Noted, "not tried", None),
    }
}

fn kvm(facts: &Facts) -> MachineRow {
    match &facts.kvm {
        None => row("KVM", RowStanding::Noted, "can be opened; nothing of this version uses it", None),
        Some(why) => {
            row("KVM", RowStanding::Noted, format!("cannot be opened ({why}); nothing of this version uses it"), None)
        }
    }
}
