//! What a model call through the gateway costs: the real server with a token, a provider and a budget, beside the provider
//! itself, the two least proxies that could be written, and LiteLLM. The provider is a mock that answers at once, so that
//! nothing is measured but what lies between.
//!
//! Rounds go over the loads and within a load over the targets, so that a bad moment of the machine hits all alike. A cell in
//! which a request failed is discarded, and said. All share the machine's cores with the load and the mock.

mod figures;
mod load;
mod ours;
mod peers;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::{
    figures::Measured,
    load::{Load, Target},
    ours::Ours,
    peers::Peer,
};
use crate::{figure::Figure, place::Place, probe::Syncs, progress::Progress};

const ROUNDS: usize = 3;
const LOADS: [Load; 7] = [
    Load::Whole(1),
    Load::Whole(16),
    Load::Whole(64),
    Load::Whole(1_024),
    Load::Stream(1),
    Load::Stream(16),
    Load::Paced(1_000),
];
/// A peer that does a hundred requests a second would only fill its queue in the others.
const SLOW_LOADS: [Load; 4] = [Load::Whole(1), Load::Whole(16), Load::Whole(64), Load::Stream(1)];
/// Both ends of each connection of the largest load, and what a process has open anyway.
const DESCRIPTORS: u64 = 4_096;
/// A cell of less is all warm-up; one of more takes an hour for the whole.
const SECONDS: std::ops::RangeInclusive<f64> = 0.2..=30.0;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The provider.
    Direct,
    PassThrough,
    Rewrite,
    /// Ours on a data directory in memory: its audit log waits for no disk. No budget.
    Memory,
    /// The same, with budgets of token and tenant.
    MemoryBudget,
    /// With budgets, and each call durable in the audit log before its answer: as it is used.
    Disk,
    LiteLlm,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PassThrough => "bare pass-through",
            Self::Rewrite => "bare parse-and-rewrite",
            Self::Memory => "ours, no fsync, no budget",
            Self::MemoryBudget => "ours, no fsync, budgets",
            Self::Disk => "ours, audit and budgets",
            Self::LiteLlm => "LiteLLM 1.82.6",
        }
    }
}

pub async fn measure(place: &Place, progress: Progress, seconds: f64) -> Result<Vec<Figure>> {
    ensure!(SECONDS.contains(&seconds), "--seconds takes {} to {}", SECONDS.start(), SECONDS.end());
    raise_descriptors()?;
    let mock = Peer::mock(place)?;
    let address = mock.target.address;
    let (pass_through, rewrite) = (Peer::pass_through(place, address)?, Peer::rewrite(place, address)?);
    progress.say("models: servers and peers");
    let litellm = Peer::litellm(place, address).await;
    let ours = [
        Ours::start(place, address, Who::Memory).await.context("ours in memory")?,
        Ours::start(place, address, Who::MemoryBudget).await.context("ours in memory, with budgets")?,
        Ours::start(place, address, Who::Disk).await.context("ours on the disk")?,
    ];
    let mut targets = vec![
        (Who::Direct, mock.target.clone()),
        (Who::PassThrough, pass_through.target.clone()),
        (Who::Rewrite, rewrite.target.clone()),
    ];
    targets.extend(ours.iter().map(|ours| (ours.who(), ours.target().clone())));
    targets.extend(litellm.iter().map(|peer| (Who::LiteLlm, peer.target.clone())));
    for (who, target) in &targets {
        load::check(target).await.with_context(|| who.name())?;
    }
    let disk = place.fresh("fsync-")?;
    let mut syncs = Syncs::on(disk.path());
    let measured = rounds(&targets, Duration::from_secs_f64(seconds), &mut syncs, progress).await?;

    let mut resident = vec![(Who::PassThrough, pass_through.resident()?), (Who::Rewrite, rewrite.resident()?)];
    for ours in &ours {
        resident.push((ours.who(), ours.resident()?));
    }
    if let Ok(peer) = &litellm {
        resident.push((Who::LiteLlm, peer.resident()?));
    }
    let left_out = litellm.err().map(|error| format!("{error:#}"));
    Ok(figures::all(&measured, &syncs, &resident, left_out.as_deref()))
}

async fn rounds(
    targets: &[(Who, Target)],
    window: Duration,
    syncs: &mut Syncs,
    progress: Progress,
) -> Result<BTreeMap<(Load, Who), Measured>> {
    let mut measured: BTreeMap<(Load, Who), Measured> = BTreeMap::new();
    for round in 1..=ROUNDS {
        for load in LOADS {
            progress.say(&format!("models, round {round} of {ROUNDS}, {}", load.name()));
            syncs.before_round()?;
            for (who, target) in targets.iter().filter(|(who, _)| *who != Who::LiteLlm || SLOW_LOADS.contains(&load)) {
                let cell = load::run(load, target, window).await.with_context(|| who.name())?;
                measured.entry((load, *who)).or_default().take(cell);
            }
        }
        syncs.after_round()?;
    }
    Ok(measured)
}

/// The peers inherit it.
fn raise_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        ensure!(
            limit.maximum.is_none_or(|most| most >= DESCRIPTORS),
            "1,024 connections need {DESCRIPTORS} open files; raise the hard limit (ulimit -Hn)"
        );
        limit.current = Some(DESCRIPTORS);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}
