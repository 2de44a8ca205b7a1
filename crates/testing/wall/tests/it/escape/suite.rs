//! The table holds: nothing is open in a whole sandbox, and each wall stops what the table says that it stops.

use std::collections::{BTreeMap, BTreeSet};

use agentos_prober::{Attempt, Verdict, Wall, catalogue};

use super::sandbox::{Launcher, probe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_escape_is_open_but_the_harmless_ones() {
    for launcher in Launcher::all() {
        let outcomes = probe(launcher, &[], &[]).await;
        let mut findings = Vec::new();
        for attempt in catalogue() {
            let Some(outcome) = outcomes.get(attempt.name) else {
                findings.push(format!("{}: was not tried", attempt.name));
                continue;
            };
            let is_as_said = match outcome.verdict {
                Verdict::Blocked => !attempt.walls.is_empty(),
                Verdict::Open => attempt.walls.is_empty(),
                Verdict::Absent => true,
                Verdict::Broken => false,
            };
            if !is_as_said {
                findings.push(format!("{}: {:?}, {}", attempt.name, outcome.verdict, outcome.detail));
            }
        }
        assert!(findings.is_empty(), "{launcher:?}:\n{}", findings.join("\n"));
        let blocked = outcomes.values().filter(|outcome| outcome.verdict == Verdict::Blocked).count();
        eprintln!("{launcher:?}: {blocked} of {} attempts were blocked", outcomes.len());
        assert!(blocked > 170, "{launcher:?}: only {blocked} attempts were blocked");
    }
}

/// What is expected of one sandbox with holes.
#[derive(Default)]
struct Expected {
    open: Vec<&'static str>,
    blocked: Vec<&'static str>,
}

/// For each attempt: without all of its walls it is open, and with any one of them it is blocked. What the kernel itself stops
/// stays blocked without all others.
fn plan() -> BTreeMap<BTreeSet<Wall>, Expected> {
    let mut plan: BTreeMap<BTreeSet<Wall>, Expected> = BTreeMap::new();
    for Attempt { name, walls, .. } in catalogue() {
        let walls: BTreeSet<Wall> = walls.iter().copied().collect();
        let removable: BTreeSet<Wall> = walls.iter().copied().filter(Wall::can_be_left_out).collect();
        if removable.is_empty() {
            continue;
        }
        let all = plan.entry(removable.clone()).or_default();
        match (removable == walls, walls.contains(&Wall::Machine)) {
            (true, _) => all.open.push(name),
            (false, false) => all.blocked.push(name),
            // Nobody knows.
            (false, true) => {}
        }
        if removable.len() > 1 {
            for kept in &removable {
                let without = removable.iter().copied().filter(|wall| wall != kept).collect();
                plan.entry(without).or_default().blocked.push(name);
            }
        }
    }
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wall_stops_what_the_table_says() {
    let mut findings = Vec::new();
    for launcher in Launcher::all() {
        for (without, expected) in plan() {
            let names: Vec<&str> = expected.open.iter().chain(&expected.blocked).copied().collect();
            let walls: Vec<Wall> = without.into_iter().collect();
            let outcomes = probe(launcher, &walls, &names).await;
            let expected = [(Verdict::Open, expected.open), (Verdict::Blocked, expected.blocked)];
            for (verdict, name) in
                expected.iter().flat_map(|(verdict, names)| names.iter().map(move |name| (verdict, name)))
            {
                let seen = outcomes.get(*name).unwrap();
                if seen.verdict != *verdict && seen.verdict != Verdict::Absent {
                    findings
                        .push(format!("{launcher:?} without {walls:?}: {name}: {:?}, {}", seen.verdict, seen.detail));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} differ:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_wall_has_an_attempt_that_it_alone_stops() {
    for wall in Wall::ALL.iter().filter(|wall| wall.can_be_left_out()) {
        let alone = catalogue().filter(|attempt| attempt.walls == [*wall]).count();
        assert!(alone > 0, "{wall:?}");
    }
    let names: BTreeSet<&str> = catalogue().map(|attempt| attempt.name).collect();
    assert_eq!(names.len(), catalogue().count(), "two attempts have the same name");
}
