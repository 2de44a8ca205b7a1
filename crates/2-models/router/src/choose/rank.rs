//! In which order targets are asked, by the policy of the route. Integers only: the same numbers give the same order on any
//! machine.

use super::{Candidate, Rules, Stop, draw, draw_below};
use crate::Policy;

/// Purposes of draws.
const PAIR: u64 = 2;
const TIE: u64 = 3;
const WEIGHT: u64 = 32;

/// A price is compared up to a thousand times the cheapest.
const RATIO_MAX: u128 = 100_000;

/// Indices of the candidates that `allowed` lets through, the best first.
pub fn ranking(rules: &Rules, seed: u64, candidates: &[Candidate], allowed: impl Fn(&Candidate) -> bool) -> Vec<usize> {
    let able: Vec<usize> =
        candidates.iter().enumerate().filter(|(_, candidate)| allowed(candidate)).map(|(index, _)| index).collect();
    match rules.policy {
        Policy::Order => able,
        Policy::Weight => by_weight(seed, candidates, able),
        Policy::Latency => by_score(rules, seed, candidates, able),
        Policy::Price => by_price(rules, seed, candidates, able),
    }
}

/// The best of those that pass `allowed` and `affordable`. If one passed but for the latter, that is the reason.
pub fn first_where(
    rules: &Rules,
    seed: u64,
    candidates: &[Candidate],
    allowed: impl Fn(&Candidate, usize) -> bool,
    affordable: impl Fn(&Candidate) -> bool,
) -> Result<usize, Stop> {
    let fits = |index: &usize| candidates.get(*index).is_some_and(|candidate| allowed(candidate, *index));
    let ranked: Vec<usize> =
        ranking(rules, seed, candidates, |candidate| candidate.excluded.is_none()).into_iter().filter(fits).collect();
    let paid = |index: &usize| candidates.get(*index).is_some_and(&affordable);
    match ranked.iter().copied().find(paid) {
        Some(index) => Ok(index),
        None if ranked.is_empty() => Err(Stop::Exhausted),
        None => Err(Stop::RetryBudget),
    }
}

/// Drawn one after the other, each in proportion to its weight among those that are left.
fn by_weight(seed: u64, candidates: &[Candidate], mut left: Vec<usize>) -> Vec<usize> {
    let weight = |index: usize| candidates.get(index).map_or(0, |candidate| u64::from(candidate.weight));
    let mut ranked = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let sum: u64 = left.iter().map(|index| weight(*index)).sum();
        let mut point = draw(seed, WEIGHT + ranked.len() as u64).checked_rem(sum).unwrap_or(0);
        let place = left.iter().position(|index| {
            let own = weight(*index);
            let here = point < own;
            point = point.saturating_sub(own);
            here
        });
        ranked.push(left.remove(place.unwrap_or(0)));
    }
    ranked
}

/// The better of two that were drawn; then the others by what they are worth.
fn by_score(rules: &Rules, seed: u64, candidates: &[Candidate], able: Vec<usize>) -> Vec<usize> {
    let scores = Scores::new(rules, candidates, &able);
    let mut ranked = able;
    let best = scores.better_of_two(seed, &ranked);
    ranked.sort_by_key(|index| (Some(*index) != best, scores.of(*index), *index));
    ranked
}

/// The cheapest; of several that cost the same, the better of two.
fn by_price(rules: &Rules, seed: u64, candidates: &[Candidate], able: Vec<usize>) -> Vec<usize> {
    let price = |index: usize| candidates.get(index).and_then(|candidate| candidate.worst_nano_usd).unwrap_or(i64::MAX);
    let scores = Scores::new(rules, candidates, &able);
    let least = able.iter().map(|index| price(*index)).min();
    let cheapest: Vec<usize> = able.iter().copied().filter(|index| Some(price(*index)) == least).collect();
    let best = scores.better_of_two(seed, &cheapest);
    let mut ranked = able;
    ranked.sort_by_key(|index| (Some(*index) != best, price(*index), scores.of(*index), *index));
    ranked
}

/// What it costs in time and money to ask each target: less is better.
struct Scores(Vec<u128>);

impl Scores {
    fn new(rules: &Rules, candidates: &[Candidate], able: &[usize]) -> Self {
        let of = |index: &usize| candidates.get(*index);
        // One that was never asked is taken for the quickest, so that it is; what is in flight there keeps it from being flooded.
        let quickest = able.iter().filter_map(of).filter_map(|candidate| candidate.first_byte_us).min().unwrap_or(1);
        let prices = able.iter().filter_map(of).filter_map(|candidate| candidate.worst_nano_usd);
        let cheapest = prices.filter(|price| *price > 0).min();
        let score = |candidate: &Candidate| {
            let time = u128::from(candidate.first_byte_us.unwrap_or(quickest).max(1));
            let queue = u128::from(candidate.in_flight) + 1;
            let errors = 1_000 + 9 * u128::from(candidate.errors_permille.min(1_000));
            time.saturating_mul(queue).saturating_mul(errors).saturating_mul(price_factor(rules, candidate, cheapest))
        };
        Self(candidates.iter().map(score).collect())
    }

    fn of(&self, index: usize) -> u128 {
        self.0.get(index).copied().unwrap_or(u128::MAX)
    }

    fn better_of_two(&self, seed: u64, able: &[usize]) -> Option<usize> {
        let first = draw_below(seed, PAIR, able.len());
        let step = 1 + draw_below(seed, PAIR + 6, able.len().saturating_sub(1));
        let one = able.get(first).copied()?;
        let other = able.get((first + step) % able.len()).copied()?;
        Some(match self.of(one).cmp(&self.of(other)) {
            std::cmp::Ordering::Less => one,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal if draw(seed, TIE).is_multiple_of(2) => one.min(other),
            std::cmp::Ordering::Equal => one.max(other),
        })
    }
}

/// In percent of the cheapest: 100, and more by the route's weight for what is dearer.
fn price_factor(rules: &Rules, candidate: &Candidate, cheapest: Option<i64>) -> u128 {
    let positive = |price: i64| u128::try_from(price).ok().filter(|price| *price > 0);
    let ratio = match (candidate.worst_nano_usd.and_then(positive), cheapest.and_then(positive)) {
        (Some(price), Some(cheapest)) => (price.saturating_mul(100) / cheapest).min(RATIO_MAX),
        _ => 100,
    };
    100 + ratio.saturating_sub(100) * u128::from(rules.price_weight) / 100
}
