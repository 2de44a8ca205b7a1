//! Groups end, whatever is in them, and leave nothing.

use std::{collections::BTreeSet, fs, path::PathBuf};

use agentos_limits::{Cgroups, GroupLimits, Resource};

use crate::harness::{Shell, cgroups, group, members, until};

/// What a base of ours has in it, in every tree.
fn below(directories: &[PathBuf]) -> BTreeSet<PathBuf> {
    let bases = directories.iter().map(|directory| directory.parent().unwrap());
    bases
        .flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn any(cgroups: &Cgroups) -> bool {
    let is_some = cgroups.version().is_some();
    if !is_some {
        println!("left out: {:?}", cgroups.standing());
    }
    is_some
}

#[test]
fn daemons_that_left_their_session_die_with_the_group() {
    let cgroups = Cgroups::probe("daemons");
    if !any(&cgroups) {
        return;
    }
    let doomed = group(&cgroups, "doomed", &GroupLimits::default());
    let tool = doomed.child("tool", &GroupLimits::default()).unwrap();
    let script =
        "(setsid sh -c '(sleep 1000 & sleep 1000 &) & wait' &) & (trap '' TERM HUP; sleep 1000) & echo ready; wait";
    let (mut first, mut second) = (Shell::start(&doomed, script), Shell::start(&tool, script));
    assert_eq!((first.line(), second.line()), ("ready".to_owned(), "ready".to_owned()));
    until("all daemons run", || members(&doomed).len() >= 8);
    doomed.kill();
    first.wait();
    second.wait();
    until("all daemons are gone", || members(&doomed).is_empty());
}

#[test]
fn a_group_that_is_dropped_takes_all_of_it_along() {
    let cgroups = Cgroups::probe("dropped");
    if !any(&cgroups) {
        return;
    }
    let doomed = group(&cgroups, "doomed", &GroupLimits::default());
    let tool = doomed.child("tool", &GroupLimits::default()).unwrap();
    let directories = doomed.directories().to_vec();
    let mut shell = Shell::start(&tool, "(setsid sleep 1000 &) & echo ready; wait");
    assert_eq!(shell.line(), "ready");
    drop(doomed);
    shell.wait();
    assert!(directories.iter().all(|directory| !directory.exists()), "{directories:?}");
    drop(tool);
}

#[test]
fn a_thousand_groups_leave_nothing() {
    let cgroups = Cgroups::probe("thousand");
    if !any(&cgroups) {
        return;
    }
    let first = group(&cgroups, "first", &GroupLimits::default());
    let before = below(first.directories());
    let limits = GroupLimits { processes: Some(8), ..GroupLimits::default() };
    for round in 0..1_000 {
        let some = cgroups.create("agent", &limits, agentos_types::manifest::LimitEnforcement::Degraded).unwrap();
        assert!(some.directories().iter().all(|directory| directory.is_dir()));
        if round % 100 == 0 {
            assert!(some.child("tool", &limits).unwrap().directories().iter().all(|directory| directory.is_dir()));
        }
    }
    assert_eq!(below(first.directories()), before);
    let bases: Vec<_> = first.directories().iter().map(|directory| directory.parent().unwrap().to_owned()).collect();
    drop((first, cgroups));
    // Under version 2 the server may be in a leaf of it, and then it stays until the next start.
    for base in bases {
        assert!(!base.exists() || base.join("server").exists(), "{}", base.display());
    }
}

#[test]
fn nothing_starts_in_a_group_that_was_killed() {
    let Some(cgroups) = cgroups("killed", &[Resource::Processes]) else { return };
    let doomed = group(&cgroups, "doomed", &GroupLimits { processes: Some(8), ..GroupLimits::default() });
    doomed.kill();
    let mut late = Shell::start(&doomed, "sleep 1000 & echo started");
    assert_eq!(late.line(), "");
    assert!(doomed.usage().processes.unwrap().refused >= 1);
}
