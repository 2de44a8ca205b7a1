//! What cannot be enforced is refused or marked, never dropped.

use std::os::fd::AsRawFd;

use agentos_limits::{Cgroups, CgroupsOptions, GroupLimits, GroupUsage, Resource, Standing};
use agentos_protocol::sandbox::Descriptor;
use agentos_types::{Code, manifest::LimitEnforcement};

fn everything() -> GroupLimits {
    GroupLimits {
        memory_bytes: Some(1 << 30),
        cpu_percent: Some(100),
        processes: Some(64),
        disk_bytes_per_second: Some(1 << 20),
        disk: None,
    }
}

#[test]
fn a_limit_without_its_means_refuses_the_strict_and_marks_the_degraded() {
    // No directory of workspaces: there is no disk to limit, on any machine.
    let cgroups = Cgroups::probe("refusals");
    let limits = GroupLimits { disk_bytes_per_second: Some(1 << 20), ..GroupLimits::default() };
    let fault = cgroups.create("agent", &limits, LimitEnforcement::Strict).unwrap_err();
    assert_eq!(fault.code, Code::LIMIT_UNENFORCEABLE);
    assert!(fault.message.contains("limits.disk_bytes_per_second"), "{}", fault.message);
    assert!(fault.hint.unwrap().contains("sandbox.enforcement"));
    let group = cgroups.create("agent", &limits, LimitEnforcement::Degraded).unwrap();
    let missing: Vec<_> = group.missing().iter().map(|(resource, _)| *resource).collect();
    assert_eq!(missing, [Resource::DiskSpeed]);
    // A tool of a strict agent is refused as the agent would be.
    let strict = cgroups.create("agent", &GroupLimits::default(), LimitEnforcement::Strict).unwrap();
    assert_eq!(strict.child("tool", &limits).unwrap_err().code, Code::LIMIT_UNENFORCEABLE);
}

#[test]
fn without_cgroups_everything_is_missing_and_nothing_breaks() {
    let cgroups = Cgroups::open(&CgroupsOptions { subtree: Some("/proc/self".into()), ..CgroupsOptions::default() });
    let is_hidden = cgroups.standing().iter().all(|(_, standing)| matches!(standing, Standing::Missing(_)));
    assert!(is_hidden, "{:?}", cgroups.standing());
    assert_eq!(cgroups.version(), None);
    let fault = cgroups.create("agent", &everything(), LimitEnforcement::Strict).unwrap_err();
    for resource in Resource::ALL {
        assert!(fault.message.contains(resource.limit()), "{}", fault.message);
    }
    let group = cgroups.create("agent", &everything(), LimitEnforcement::Degraded).unwrap();
    assert_eq!(group.missing().len(), 4);
    assert_eq!(group.usage(), GroupUsage::default());
    assert!(group.descriptors().unwrap().is_empty());
    group.kill();
    drop(group.child("tool", &everything()).unwrap());
}

#[test]
fn every_resource_has_one_standing_with_a_reason() {
    let standing = Cgroups::probe("standing").standing();
    let mut resources: Vec<_> = standing.iter().map(|(resource, _)| *resource).collect();
    resources.sort();
    assert_eq!(resources, Resource::ALL);
    let empty = |(_, standing): &(Resource, Standing)| matches!(standing, Standing::Missing(why) if why.len() < 10);
    assert!(!standing.iter().any(empty), "{standing:?}");
}

#[test]
fn descriptors_are_what_the_launcher_expects() {
    let cgroups = Cgroups::probe("descriptors");
    let group = cgroups.create("agent", &GroupLimits::default(), LimitEnforcement::Strict).unwrap();
    let descriptors = group.descriptors().unwrap();
    let kinds: Vec<_> = descriptors.iter().map(|(kind, _)| *kind).collect();
    match cgroups.version() {
        Some(2) => assert_eq!(kinds, [Descriptor::Cgroup]),
        Some(_) => assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == Descriptor::CgroupProcs)),
        None => assert!(kinds.is_empty()),
    }
    for (_, descriptor) in descriptors {
        let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{}", descriptor.as_raw_fd());
    }
}

#[test]
fn names_of_agents_cannot_lead_out_of_the_base() {
    let cgroups = Cgroups::probe("../names");
    let group = cgroups.create("../../agent", &GroupLimits::default(), LimitEnforcement::Strict).unwrap();
    let twin = cgroups.create("../../agent", &GroupLimits::default(), LimitEnforcement::Strict).unwrap();
    for directory in group.directories() {
        let base = directory.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert!(base.starts_with("agentos.___names."), "{base}");
    }
    assert!(cgroups.version().is_none() || group.directories() != twin.directories());
}

#[test]
#[ignore = "needs a group of version 2 in which somebody else is too; make test-vm makes one"]
fn a_group_with_others_in_it_is_told_and_left_as_it_was() {
    let own = || std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let before = own();
    let cgroups = Cgroups::probe("others");
    for (resource, standing) in cgroups.standing() {
        let Standing::Missing(why) = standing else { panic!("{resource:?} is enforced") };
        assert!(why.contains("other processes (") && why.contains("Delegate=yes"), "{why}");
    }
    assert_eq!(own(), before);
}
