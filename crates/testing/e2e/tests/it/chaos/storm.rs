//! The storm: agents started, killed, stopped, hung, paused, resumed, restarted, redeployed and terminated at random,
//! under work. No task is lost or done twice, no transition leaves the table, no process is left, and an agent that
//! nobody touches notices nothing.

mod aftermath;
mod agents;
pub(super) mod canary;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use agentos_kit::{Package, TestOs};
use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use serde_json::json;

use super::{
    chance::{Chance, setting},
    processes::{self, Process},
};
use agents::Storm;
use canary::Canary;

/// Enough for every pair of actions to meet, and little enough for every day.
const AGENTS: u64 = 30;
const ACTIONS_PER_AGENT: usize = 8;
/// Actions under way at the same time, also on the same agent.
const ABREAST: usize = 8;
/// What the server may hold open more than before: readers of its store that it opened under load.
const DESCRIPTORS_SLACK: usize = 12;
/// Without the limit of a client that behaves.
const CONFIG: &str = "[gateway]\nrequests_per_second = 1000000\n[tasks]\nlease_ms = 5000\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Work,
    Misbehave(&'static str),
    Strike(Blow),
    Pause,
    Resume,
    Restart,
    Redeploy,
    Terminate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Kill,
    Stop,
}

impl Blow {
    fn signal(self) -> Signal {
        match self {
            Blow::Kill => Signal::KILL,
            Blow::Stop => Signal::STOP,
        }
    }
}

/// Each as often as it stands here.
const ACTIONS: &[Action] = &[
    Action::Work,
    Action::Work,
    Action::Work,
    Action::Misbehave("hang"),
    Action::Misbehave("spin"),
    Action::Misbehave("exit"),
    Action::Misbehave("garbage"),
    Action::Misbehave("late"),
    Action::Strike(Blow::Kill),
    Action::Strike(Blow::Kill),
    Action::Strike(Blow::Kill),
    Action::Strike(Blow::Stop),
    Action::Pause,
    Action::Pause,
    Action::Resume,
    Action::Resume,
    Action::Restart,
    Action::Restart,
    Action::Redeploy,
    Action::Terminate,
];

/// What was in the process table while the storm blew.
#[derive(Default)]
struct Census {
    seen: BTreeSet<Process>,
    peak_kib: u64,
}

impl Census {
    fn take(&mut self, server: u32) {
        self.seen.extend(processes::workers(server).into_iter().map(|seen| seen.process));
        self.peak_kib = self.peak_kib.max(processes::resident_kib(server));
    }
}

#[tokio::test]
async fn agents_come_and_go_in_every_way_and_nothing_is_lost() {
    let seed = setting("AGENTOS_CHAOS_SEED", 1);
    let agents = usize::try_from(setting("AGENTOS_CHAOS_AGENTS", AGENTS)).unwrap();
    println!("repeat with AGENTOS_CHAOS_SEED={seed} AGENTOS_CHAOS_AGENTS={agents}");
    let begun = Instant::now();
    let mut os = TestOs::start_with(CONFIG).await;
    let server = os.server_pid();
    let canary = Canary::deploy(&os).await;
    let descriptors_before = processes::descriptors(server);

    let storm = Storm::gather(&os, seed, agents).await;
    println!("{agents} agents deployed after {:.1} s", begun.elapsed().as_secs_f64());
    let plan = plan(seed, agents);
    let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
    plan.iter().for_each(|(_, action)| *counts.entry(*action).or_default() += 1);
    println!("{counts:?}");
    let is_over = AtomicBool::new(false);
    let mut census = Census::default();
    let blow = async {
        stream::iter(plan.iter().enumerate())
            .for_each_concurrent(ABREAST, |(number, (agent, action))| storm.perform(number, *agent, *action))
            .await;
        println!("{} actions after {:.1} s", plan.len(), begun.elapsed().as_secs_f64());
        storm.settle().await;
        is_over.store(true, Ordering::Relaxed);
    };
    let watch = async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        while !is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            census.take(server);
        }
    };
    let ((), latencies, ()) = tokio::join!(blow, canary.sing(&os, &is_over), watch);
    println!("settled after {:.1} s; {} workers lived", begun.elapsed().as_secs_f64(), census.seen.len());

    aftermath::every_task_is_done_once(&storm).await;
    canary.is_unharmed(&latencies).await;
    storm.terminate_all().await;
    drop(storm);
    aftermath::only_the_canary_lives(server, canary.pid(), &census).await;
    aftermath::descriptors_return(server, descriptors_before + DESCRIPTORS_SLACK).await;
    aftermath::the_log_tells_a_lawful_story(&os).await;
    assert_eq!(os.down().await, 0, "the server ends in order");
    assert!(!census.seen.iter().any(|process| process.exists()), "and leaves nobody behind");
    println!("peak memory of the server {} MiB; {:.1} s", census.peak_kib / 1024, begun.elapsed().as_secs_f64());
}

/// What happens to which agent, all of it from the seed.
fn plan(seed: u64, agents: usize) -> Vec<(usize, Action)> {
    let mut chance = Chance::new(seed);
    (0..agents * ACTIONS_PER_AGENT).map(|_| (chance.below(agents), chance.pick(ACTIONS))).collect()
}

#[test]
fn a_seed_is_a_plan() {
    assert_eq!(plan(7, 20), plan(7, 20));
    assert_ne!(plan(7, 20), plan(8, 20));
    let actions: BTreeSet<_> = plan(1, 30).into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, ACTIONS.iter().copied().collect(), "the run of every day does everything");
}

/// A package of the storm's worker.
fn package(name: &str, version: u32) -> Package {
    let rest = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n\
                [health]\nheartbeat_ms = 1000\nfailures_max = 3\n[limits]\nconcurrent_tasks = 2\n";
    Package::python(name, include_str!("worker.py"), rest).with_version(&format!("1.0.{version}"))
}

/// What a task of the storm is told.
fn order(action: &str, first: Option<&str>) -> serde_json::Value {
    match first {
        Some(first) => json!({"action": action, "first": first}),
        None => json!({"action": action}),
    }
}
