//! The choice, as a pure function: rules, a seed and a situation in, one act out. Nothing here looks at a clock or at state, so
//! that a record of the situation gives the same act for ever.

use std::{collections::BTreeMap, time::Duration};

use agentos_types::Timestamp;
use agentos_wire::Class;
use serde::{Deserialize, Serialize};

use crate::{FailureClass, Policy, Rule};

mod candidate;
mod moves;
mod ramp;
mod rank;

pub use candidate::{Candidate, Exclusion, Lane, LaneState};
use moves::Move;

/// Attempts of one request, the first included; so at most two targets beyond the first.
pub const ATTEMPTS_MAX: usize = 3;

/// A limit of the rate is waited for at the same key, if it is this short.
const WAIT_MAX_MS: u64 = 5_000;

/// What of a route decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub policy: Policy,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallback: BTreeMap<FailureClass, Rule>,
    pub content_filter_fallback: bool,
    pub continuation: bool,
    pub price_weight: u8,
    pub ramp: bool,
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Index of the candidate, and of its lane.
    pub target: usize,
    pub lane: usize,
    pub class: Class,
    pub retry_after_ms: Option<u64>,
}

/// All that a choice depends on, beside rules and seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    pub now: Timestamp,
    pub deadline: Timestamp,
    /// That were begun, with those that are still under way.
    pub attempts: usize,
    pub tried: Vec<Tried>,
    /// Targets that are slow: another one is wanted beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<usize>,
    pub candidates: Vec<Candidate>,
}

impl Situation {
    fn times_tried(&self, target: usize) -> usize {
        self.tried.iter().filter(|tried| tried.target == target).count()
    }

    fn has_tried(&self, target: usize) -> bool {
        self.times_tried(target) > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Ask {
        target: usize,
        lane: usize,
        pause_ms: u64,
        /// With what was passed on as prefill.
        continuation: bool,
    },
    Stop(Stop),
}

/// Why nothing more is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// No target can do what is asked.
    NotCapable,
    /// Some could, and all of them are shut until then.
    Shut { until: Timestamp },
    /// A large target died, and its traffic is let onto the others by and by.
    Ramp { until: Timestamp },
    /// The class of the failure is final, or a rule says so.
    Final,
    /// Three attempts.
    Attempts,
    /// No time is left.
    Deadline,
    /// The provider has had its share of retries.
    RetryBudget,
    /// There is nobody else.
    Exhausted,
}

/// What is done in a situation.
pub(crate) fn decide(rules: &Rules, seed: u64, situation: &Situation) -> Act {
    if situation.now >= situation.deadline {
        return Act::Stop(Stop::Deadline);
    }
    if situation.attempts >= ATTEMPTS_MAX {
        return Act::Stop(Stop::Attempts);
    }
    match situation.tried.last() {
        _ if !situation.under_way.is_empty() => beside(rules, seed, situation),
        None => first(rules, seed, situation),
        Some(last) => again(rules, seed, situation, last),
    }
}

/// A hedge: the best of those that were not asked yet.
fn beside(rules: &Rules, seed: u64, situation: &Situation) -> Act {
    let fresh = |candidate: &Candidate, index: usize| {
        let asked = situation.under_way.contains(&index) || situation.has_tried(index);
        !asked && candidate.is_open_for_business()
    };
    let slow = |index: &usize| situation.candidates.get(*index).map(Candidate::provider);
    let affordable = |candidate: &Candidate| {
        let stays = situation.under_way.iter().filter_map(slow).any(|provider| provider == candidate.provider());
        candidate.may_hedge && (!stays || candidate.may_retry)
    };
    rank::first_where(rules, seed, &situation.candidates, fresh, affordable)
        .and_then(|target| ask(seed, situation, target).ok_or(Stop::Exhausted))
        .unwrap_or_else(Act::Stop)
}

fn first(rules: &Rules, seed: u64, situation: &Situation) -> Act {
    let candidates = &situation.candidates;
    if candidates.iter().all(|candidate| candidate.excluded.is_some()) {
        return Act::Stop(Stop::NotCapable);
    }
    let ranking = rank::ranking(rules, seed, candidates, Candidate::is_open_for_business);
    let Some(&target) = ranking.first() else {
        return Act::Stop(Stop::Shut { until: reopening(situation) });
    };
    if let Some(until) = ramp::held_back(rules, seed, situation, target) {
        return Act::Stop(Stop::Ramp { until });
    }
    ask(seed, situation, target).unwrap_or(Act::Stop(Stop::Exhausted))
}

/// The earliest instant at which one of those that could answer may be asked again.
fn reopening(situation: &Situation) -> Timestamp {
    let able = situation.candidates.iter().filter(|candidate| candidate.excluded.is_none());
    let instants = able.flat_map(|candidate| &candidate.lanes).filter_map(|lane| lane.state.until(situation.now));
    instants.min().unwrap_or(situation.now)
}

fn again(rules: &Rules, seed: u64, situation: &Situation, last: &Tried) -> Act {
    let moves = moves::after(rules, last.class);
    if moves.is_empty() {
        return Act::Stop(Stop::Final);
    }
    let mut stop = Stop::Exhausted;
    for step in moves {
        match take(rules, seed, situation, last, *step) {
            Ok(act) => return act,
            // The first reason that is more than "nobody" is told.
            Err(reason) if stop == Stop::Exhausted => stop = reason,
            Err(_) => {}
        }
    }
    Act::Stop(stop)
}

/// The act of one move, or why it cannot be made.
fn take(rules: &Rules, seed: u64, situation: &Situation, last: &Tried, step: Move) -> Result<Act, Stop> {
    let same = situation.candidates.get(last.target).ok_or(Stop::Exhausted)?;
    let (lane, pause_ms) = match step {
        Move::Same => {
            let wait = last.retry_after_ms.unwrap_or(0);
            if situation.times_tried(last.target) > 1 || wait > WAIT_MAX_MS {
                return Err(Stop::Exhausted);
            }
            let pause = moves::backoff_ms(seed, situation.tried.len()).max(wait);
            (same.ready_after(situation.now, pause, seed), pause)
        }
        Move::Wait => {
            let wait = last.retry_after_ms.filter(|wait| *wait <= WAIT_MAX_MS).ok_or(Stop::Exhausted)?;
            let lane = same.lanes.get(last.lane).filter(|lane| lane.is_ready_after(situation.now, wait));
            (lane.map(|_| last.lane), wait)
        }
        Move::OtherKey { once } if once && situation.times_tried(last.target) > 1 => return Err(Stop::Exhausted),
        Move::OtherKey { .. } => {
            let used = |lane: usize| situation.tried.iter().any(|t| t.target == last.target && t.lane == lane);
            (same.ready_lane(seed, |index, _| !used(index)), 0)
        }
        Move::Next | Move::Elsewhere | Move::Larger | Move::Continue => {
            return other_target(rules, seed, situation, same, step);
        }
    };
    let lane = lane.ok_or(Stop::Exhausted)?;
    if !same.may_retry {
        return Err(Stop::RetryBudget);
    }
    if situation.now.after(Duration::from_millis(pause_ms)) >= situation.deadline {
        return Err(Stop::Deadline);
    }
    Ok(Act::Ask { target: last.target, lane, pause_ms, continuation: false })
}

/// The best that the move allows. What goes to another provider multiplies nobody's load, so that only what stays costs a retry.
fn other_target(rules: &Rules, seed: u64, situation: &Situation, same: &Candidate, step: Move) -> Result<Act, Stop> {
    let wanted = |candidate: &Candidate, index: usize| {
        let fits = match step {
            Move::Larger => same.context.is_some() && candidate.context > same.context,
            Move::Elsewhere => candidate.provider() != same.provider(),
            // The model that broke off may write on by itself.
            Move::Continue => return candidate.can_prefill && candidate.is_open_for_business(),
            _ => true,
        };
        fits && candidate.is_open_for_business() && !situation.has_tried(index)
    };
    let affordable = |candidate: &Candidate| candidate.may_retry || candidate.provider() != same.provider();
    let target = rank::first_where(rules, seed, &situation.candidates, wanted, affordable)?;
    let lane = situation.candidates.get(target).and_then(|candidate| candidate.ready_lane(seed, |_, _| true));
    let continuation = step == Move::Continue;
    Ok(Act::Ask { target, lane: lane.ok_or(Stop::Exhausted)?, pause_ms: 0, continuation })
}

fn ask(seed: u64, situation: &Situation, target: usize) -> Option<Act> {
    let lane = situation.candidates.get(target)?.ready_lane(seed, |_, _| true)?;
    Some(Act::Ask { target, lane, pause_ms: 0, continuation: false })
}

/// A number of this request for this purpose (Steele's SplitMix64).
fn draw(seed: u64, purpose: u64) -> u64 {
    let mut z = seed.wrapping_add(purpose.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Below `count`; 0 of none.
fn draw_below(seed: u64, purpose: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let drawn = draw(seed, purpose).checked_rem(count).unwrap_or(0);
    usize::try_from(drawn).unwrap_or(0)
}

#[cfg(test)]
mod tests;
