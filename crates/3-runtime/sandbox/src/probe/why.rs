//! Why a sandbox cannot be made here, from what the kernel's files say, and what an operator changes.

use super::facts::Facts;

/// A reason and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) detail: String,
    pub(super) remedy: String,
}

fn why(detail: impl Into<String>, remedy: impl Into<String>) -> Option<Why> {
    Some(Why { detail: detail.into(), remedy: remedy.into() })
}

/// What forbids namespaces of one kind. The checks stand in the order of the kernel's: the first that holds is the one that a
/// person meets first.
pub(super) fn no_namespace(facts: &Facts, file: &str, sysctl: &str) -> Option<Why> {
    if !facts.namespaces.contains(file) {
        return why(
            format!("the kernel has no {file} namespaces (no /proc/self/ns/{file})"),
            "use a kernel that was built with them; every distribution's is",
        );
    }
    if facts.sysctl(sysctl) == Some(0) {
        let name = sysctl.replace('/', ".");
        return why(format!("{name} is 0"), format!("sysctl -w {name}=15000, and the same line in /etc/sysctl.d"));
    }
    None
}

/// What forbids user namespaces to this process in particular. Only asked when the attempt has failed.
pub(super) fn no_user_namespace(facts: &Facts) -> Option<Why> {
    no_namespace(facts, "user", "user/max_user_namespaces")
        .or_else(|| debian(facts))
        .or_else(|| ubuntu(facts))
        .or_else(|| filter(facts))
}

fn debian(facts: &Facts) -> Option<Why> {
    if facts.is_root() || facts.sysctl("kernel/unprivileged_userns_clone") != Some(0) {
        return None;
    }
    why(
        "kernel.unprivileged_userns_clone is 0: ordinary users may not make user namespaces",
        "sysctl -w kernel.unprivileged_userns_clone=1, and the same line in /etc/sysctl.d; or run the server as root",
    )
}

/// Ubuntu from 23.10 on lets an unconfined program make a user namespace that has no rights in it.
fn ubuntu(facts: &Facts) -> Option<Why> {
    if facts.is_root() || facts.sysctl("kernel/apparmor_restrict_unprivileged_userns") != Some(1) {
        return None;
    }
    why(
        "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor gives programs without a profile of their own no rights in a \
         user namespace",
        "install the profiles of deploy/apparmor and load them with apparmor_parser -r; or run the server as root",
    )
}

/// A filter of system calls that a container or a unit has put on this process.
fn filter(facts: &Facts) -> Option<Why> {
    if facts.seccomp_mode == 0 {
        return confined(facts);
    }
    match &facts.container {
        Some(container) => why(
            format!("{} runs this process under a filter of system calls, which refuses namespaces", container.kind),
            container_remedy(&container.kind),
        ),
        None => why(
            "this process runs under a filter of system calls, as a hardened unit of systemd has it",
            "in the unit: RestrictNamespaces=no, and neither SystemCallFilter=~@mount nor PrivateUsers=yes",
        ),
    }
}

fn confined(facts: &Facts) -> Option<Why> {
    let profile = facts.apparmor_profile.as_deref().filter(|profile| !profile.starts_with("unconfined"))?;
    why(
        format!("the AppArmor profile {profile} confines this process"),
        "use a profile that allows userns, mount and pivot_root; docker: --security-opt apparmor=unconfined",
    )
}

/// What the person who starts the container changes.
pub(super) fn container_remedy(kind: &str) -> &'static str {
    match kind {
        "Docker" => {
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
             systempaths=unconfined; or run the server outside of the container"
        }
        "Podman" | "podman" => {
            "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL; or run the server outside of the container"
        }
        "Kubernetes" => {
            "in the pod: hostUsers: false, securityContext.procMount: Unmasked and seccompProfile.type: Unconfined; or run the \
             server on the node"
        }
        "LXC" | "lxc" | "lxc-libvirt" => {
            "lxc.include = /usr/share/lxc/config/nesting.conf; Incus: security.nesting=true"
        }
        _ => "allow namespaces and mounts in the container, or run the server outside of it",
    }
}

/// The kernel shows a new /proc only to who sees all of the present one.
pub(super) fn no_proc(facts: &Facts) -> Option<Why> {
    if facts.proc_masks.is_empty() {
        return None;
    }
    let remedy =
        facts.container.as_ref().map_or("mount a whole /proc for the server", |found| container_remedy(&found.kind));
    why(
        format!("parts of /proc are hidden ({}), so that the kernel refuses a new one", facts.proc_masks.join(", ")),
        remedy,
    )
}

/// Agents of a server that is root have users of their own.
const USERS_MIN: u64 = 10_000;

/// Root of a container may have few user numbers to give away.
pub(super) fn no_users(facts: &Facts) -> Option<Why> {
    let counts = facts.user_map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let count: u64 = counts.sum();
    if !facts.is_root() || count == 0 || count >= USERS_MIN {
        return None;
    }
    why(
        format!("the server is root of a user namespace with {count} user numbers, and every agent needs one"),
        "give the container at least 20,000 user numbers and set sandbox.first_host_id to the first that nobody uses; or run the \
         server as an ordinary user",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{super::facts::Container, *};

    fn open() -> Facts {
        Facts { user: 1000, namespaces: BTreeSet::from(["user".to_owned()]), ..Facts::default() }
    }

    fn with_sysctl(name: &str, value: u64) -> Facts {
        Facts { sysctls: BTreeMap::from([(name.to_owned(), value)]), ..open() }
    }

    fn inside(kind: &str) -> Facts {
        let container = Some(Container { kind: kind.to_owned(), sign: "/sign".to_owned() });
        Facts { container, seccomp_mode: 2, proc_masks: vec!["/proc/kcore".to_owned()], ..open() }
    }

    fn check(facts: &Facts, detail: &str, remedy: &str) {
        let found = no_user_namespace(facts).expect(detail);
        assert!(found.detail.contains(detail), "{found:?}");
        assert!(found.remedy.contains(remedy), "{found:?}");
    }

    #[test]
    fn each_ban_is_told_apart_and_has_its_own_remedy() {
        check(&Facts { namespaces: BTreeSet::new(), ..open() }, "no user namespaces", "use a kernel");
        check(
            &with_sysctl("user/max_user_namespaces", 0),
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces",
        );
        check(&with_sysctl("kernel/unprivileged_userns_clone", 0), "unprivileged_userns_clone", "=1");
        check(&with_sysctl("kernel/apparmor_restrict_unprivileged_userns", 1), "AppArmor", "deploy/apparmor");
        check(&Facts { seccomp_mode: 2, ..open() }, "unit of systemd", "RestrictNamespaces=no");
        check(&inside("Docker"), "Docker runs", "docker run --security-opt seccomp");
        check(&inside("Podman"), "Podman runs", "unmask=ALL");
        check(&inside("Kubernetes"), "Kubernetes runs", "procMount: Unmasked");
        check(&inside("lxc"), "lxc runs", "nesting");
        let confined = Facts { apparmor_profile: Some("docker-default (enforce)".to_owned()), ..open() };
        check(&confined, "docker-default", "apparmor=unconfined");
    }

    #[test]
    fn what_binds_ordinary_users_does_not_bind_root_and_an_open_machine_has_no_reason() {
        for name in ["kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"] {
            let value = u64::from(name.contains("apparmor"));
            assert_eq!(no_user_namespace(&Facts { user: 0, ..with_sysctl(name, value) }), None);
        }
        assert_eq!(no_user_namespace(&with_sysctl("user/max_user_namespaces", 1)), None);
        assert_eq!(no_user_namespace(&with_sysctl("kernel/unprivileged_userns_clone", 1)), None);
        assert_eq!(no_user_namespace(&with_sysctl("kernel/apparmor_restrict_unprivileged_userns", 0)), None);
        assert_eq!(no_user_namespace(&Facts { apparmor_profile: Some("unconfined".to_owned()), ..open() }), None);
        assert_eq!(no_user_namespace(&open()), None);
        assert_eq!(no_proc(&open()), None);
        assert!(no_proc(&inside("Docker")).unwrap().remedy.contains("systempaths=unconfined"));
    }
}
