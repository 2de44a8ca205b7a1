//! The table holds: nothing is open in a whole sandbox, and each wall stops what the table says that it stops.

use std::collections::{BTreeMap, BTreeSet};

use agentos_prober::{Attempt, Outcome, Verdict, Wall, catalogue};
use agentos_protocol::sandbox::{ProcView, Profile};

use agentos_sandbox::Backend;

use super::sandbox::{Launcher, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_escape_is_open_but_the_harmless_ones() {
    nothing_is_open_by(Backend::Native).await;
}

/// `make test` installs it, or leaves this out by its name and counts it: nothing passes without having run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_escape_is_open_in_sandboxes_made_by_bwrap() {
    nothing_is_open_by(Backend::Bwrap).await;
}

/// As root and without rights.
async fn nothing_is_open_by(backend: Backend) {
    for launcher in Launcher::all() {
        let outcomes = Trial { backend, ..Trial::new(launcher) }.run().await;
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
        assert!(findings.is_empty(), "{launcher:?} by {backend:?}:\n{}", findings.join("\n"));
        let blocked = outcomes.values().filter(|outcome| outcome.verdict == Verdict::Blocked).count();
        println!("{launcher:?} by {backend:?}: {blocked} of {} attempts were blocked", outcomes.len());
        assert!(blocked > 170, "{launcher:?} by {backend:?}: only {blocked} attempts were blocked");
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
            let walls: Vec<Wall> = without.into_iter().collect();
            let names: Vec<&str> = expected.open.iter().chain(&expected.blocked).copied().collect();
            let (alone, together): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| is_bomb(name));
            let mut outcomes = BTreeMap::new();
            for names in alone.chunks(1).chain([together.as_slice()]).filter(|names| !names.is_empty()) {
                outcomes.extend(Trial { without: &walls, names, ..Trial::new(launcher) }.run().await);
            }
            for (verdict, names) in [(Verdict::Open, expected.open), (Verdict::Blocked, expected.blocked)] {
                for name in names {
                    let seen = outcomes.get(name).unwrap();
                    if seen.verdict != verdict && seen.verdict != Verdict::Absent {
                        let detail = format!("{:?}, {}", seen.verdict, seen.detail);
                        findings.push(format!("{launcher:?} without {walls:?}: {name}: {detail}"));
                    }
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} differ:\n{}", findings.len(), findings.join("\n"));
}

/// What may take the whole sandbox with it.
fn is_bomb(name: &str) -> bool {
    catalogue().any(|attempt| attempt.name == name && attempt.walls.contains(&Wall::Cgroup))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_of_memory_stay_within_the_cgroup() {
    for launcher in Launcher::all() {
        for attempt in catalogue().filter(|attempt| is_bomb(attempt.name)) {
            let outcomes = Trial { names: &[attempt.name], ..Trial::new(launcher) }.run().await;
            let seen = &outcomes[attempt.name];
            match seen.verdict {
                Verdict::Blocked => {}
                // Only root makes groups; `make test` leaves this out where not even root can bound memory.
                Verdict::Absent if launcher == Launcher::Plain => {}
                _ => panic!("{launcher:?}: {}: {seen:?}", attempt.name),
            }
        }
    }
}

/// What `/proc` of a container shows besides, so that run-times count processors and memory.
const SHOWN_IN_FULL: [&str; 4] = ["read-host-memory", "read-boot-id", "read-uptime", "read-config"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_larger_view_of_proc_opens_nothing_but_what_it_is_for() {
    for launcher in Launcher::all() {
        let outcomes = Trial { proc: ProcView::MaskedFull, ..Trial::new(launcher) }.run().await;
        let harmless = |name: &str| catalogue().any(|attempt| attempt.name == name && attempt.walls.is_empty());
        let is_wrong = |name: &str, seen: &Outcome| match seen.verdict {
            Verdict::Open => !harmless(name) && !SHOWN_IN_FULL.contains(&name),
            Verdict::Broken => true,
            Verdict::Blocked | Verdict::Absent => false,
        };
        let findings: Vec<_> = outcomes.iter().filter(|(name, seen)| is_wrong(name, seen)).collect();
        assert!(findings.is_empty(), "{launcher:?}: {findings:#?}");
    }
}

/// The tighter profile begins no process, so the prober cannot even isolate its attempts: that is the proof. The looser one
/// adds looking into own processes, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_differ_as_they_say() {
    const TRACING: [&str; 5] =
        ["trace-me", "trace-other", "read-other-memory", "write-other-memory", "compare-processes"];
    for launcher in Launcher::all() {
        let strict = Trial { profile: Profile::Strict, ..Trial::new(launcher) }.run().await;
        for (name, seen) in &strict {
            assert_eq!(seen.detail, "no process for it: EPERM", "{launcher:?}: {name}");
        }
        let dev = Trial { profile: Profile::Dev, ..Trial::new(launcher) }.run().await;
        let harmless = |name: &str| catalogue().any(|attempt| attempt.name == name && attempt.walls.is_empty());
        let opened: Vec<_> =
            dev.iter().filter(|(_, seen)| seen.verdict == Verdict::Open).map(|(name, _)| name).collect();
        let more: Vec<_> = opened.iter().filter(|name| !harmless(name) && !TRACING.contains(&name.as_str())).collect();
        assert!(more.is_empty(), "{launcher:?}: {more:?}");
        assert!(TRACING.iter().all(|name| opened.iter().any(|open| open == name)), "{launcher:?}: {opened:?}");
    }
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
