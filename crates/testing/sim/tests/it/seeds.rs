//! Runs by seed. A seed that fails is named and can be repeated alone: `AGENTOS_SIM_FIRST_SEED`, `AGENTOS_SIM_SEEDS` and
//! `AGENTOS_SIM_SEEDS_ON_POSTGRES` choose which run.

use std::collections::BTreeMap;

use agentos_base::Ambient;
use agentos_scratch::Backend;

use crate::{deed::Deed, node::START, play::Play};

const DEEDS: usize = 70;
const SEEDS: u64 = 1_000;
const SEEDS_ON_POSTGRES: u64 = 8;

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Names the seed when its run fails.
struct Named(Backend, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "the simulation failed on {:?}: repeat with AGENTOS_SIM_FIRST_SEED={} and one seed (AGENTOS_SIM_SEEDS or AGENTOS_SIM_SEEDS_ON_POSTGRES)",
                self.0, self.1
            );
        }
    }
}

fn deeds(seed: u64) -> Vec<Deed> {
    let (dice, _) = Ambient::fake(seed ^ 0x5EED, START);
    let number = || u16::from_le_bytes(dice.random());
    (0..DEEDS).map(|_| Deed::of((dice.random_up_to(u64::from(Deed::KINDS) - 1)) as u8, number(), number())).collect()
}

async fn run(backend: Backend, seeds: std::ops::Range<u64>) -> BTreeMap<&'static str, u64> {
    let mut happened = BTreeMap::new();
    for seed in seeds {
        let _named = Named(backend, seed);
        let mut play = Play::begin(backend, seed).await;
        for deed in deeds(seed) {
            play.step(deed).await;
        }
        play.rest().await;
        for (what, times) in play.happened {
            *happened.entry(what).or_default() += times;
        }
    }
    happened
}

/// One half of the seeds, so that two cores share the work.
async fn half(which: u64) {
    let (first, count) = (setting("AGENTOS_SIM_FIRST_SEED", 0), setting("AGENTOS_SIM_SEEDS", SEEDS));
    let middle = first + count / 2;
    let seeds = if which == 0 { first..middle } else { middle..first + count };
    let count = seeds.end - seeds.start;
    println!("seeds {seeds:?}");
    let happened = run(Backend::Sqlite, seeds).await;
    println!("{happened:#?}");
    // Runs in which nothing happens keep every promise.
    for what in HAPPENS {
        let times = happened.get(what).copied().unwrap_or(0);
        assert!(count < 100 || times >= count / 10, "{what}: {times} times in {count} seeds");
    }
}

const HAPPENS: &[&str] = &[
    "call under a stale lease refused",
    "clock set back",
    "clock set forward",
    "commit refused",
    "died after a commit",
    "died at rest",
    "died inside a transaction",
    "died with a torn log",
    "key used again",
    "person decided",
    "recorded step answered",
    "schedule fired",
    "several in one commit",
    "stale write refused",
    "worker finished",
];

#[tokio::test]
async fn a_thousand_seeds_of_work_and_faults_keep_every_promise_first_half() {
    half(0).await;
}

#[tokio::test]
async fn a_thousand_seeds_of_work_and_faults_keep_every_promise_second_half() {
    half(1).await;
}

#[tokio::test]
async fn seeds_of_work_and_faults_keep_every_promise_on_postgres() {
    let first = setting("AGENTOS_SIM_FIRST_SEED", 0);
    run(Backend::Postgres, first..first + setting("AGENTOS_SIM_SEEDS_ON_POSTGRES", SEEDS_ON_POSTGRES)).await;
}
