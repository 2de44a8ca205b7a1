//! When a target dies that carried much more than the one that would take its place, its traffic goes there by and by: a
//! tenth, a quarter, a half, all. Else the next one dies of it.

use std::time::Duration;

use agentos_types::Timestamp;

use super::{Candidate, LaneState, Rules, Situation, draw, rank};

/// Percent of the requests that go on, and until when after the breaker opened.
const STEPS: [(u64, Duration); 3] =
    [(10, Duration::from_secs(2)), (25, Duration::from_secs(4)), (50, Duration::from_secs(6))];

/// A target is large if so many calls went to it in ten seconds, and so many times as many as to its heir.
const LARGE_CALLS: u32 = 50;
const LARGE_TIMES: u32 = 2;

/// Purpose of a draw.
const SHARE: u64 = 4;

/// Until when this request is held back, if it is one that would have gone to a large target.
pub fn held_back(rules: &Rules, seed: u64, situation: &Situation, heir: usize) -> Option<Timestamp> {
    if !rules.ramp {
        return None;
    }
    let candidates = &situation.candidates;
    // While all are well, which is nearly always, nothing is computed.
    let (since, calls) = candidates.iter().filter_map(died).max_by_key(|(since, _)| *since)?;
    let preferred =
        rank::ranking(rules, seed, candidates, |candidate| candidate.excluded.is_none()).first().copied()?;
    let heirs_calls = candidates.get(heir)?.calls;
    if preferred == heir || died(candidates.get(preferred)?) != Some((since, calls)) {
        return None;
    }
    if calls < LARGE_CALLS || calls < heirs_calls.saturating_mul(LARGE_TIMES) {
        return None;
    }
    let age = situation.now.since(since);
    let (share, end) = STEPS.into_iter().find(|(_, end)| age < *end)?;
    (draw(seed, SHARE) % 100 >= share).then(|| since.after(end))
}

/// When all of its lanes were shut by a breaker: the last time, and how much went there before.
fn died(candidate: &Candidate) -> Option<(Timestamp, u32)> {
    let mut all = candidate.lanes.iter().map(|lane| match lane.state {
        LaneState::Open { since, calls, .. } => Some((since, calls)),
        _ => None,
    });
    let (first, first_calls) = all.next()??;
    all.try_fold((first, first_calls), |(latest, sum), lane| {
        let (since, calls) = lane?;
        Some((latest.max(since), sum.saturating_add(calls)))
    })
}
