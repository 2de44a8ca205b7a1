//! Samples in rounds. A round that fell into a bad moment of a shared machine is one vote against several, so what is
//! reported is the median of the rounds' own quantiles.

/// Below this a round's own tail says nothing, and the rounds are pooled instead.
const ROUND_MIN: usize = 20;

/// Measurements of one kind, each round sorted.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    rounds: Vec<Vec<f64>>,
}

impl Rounds {
    /// Adds one round. An empty one is no round.
    pub fn push(&mut self, mut samples: Vec<f64>) {
        samples.retain(|sample| sample.is_finite());
        samples.sort_by(f64::total_cmp);
        if !samples.is_empty() {
            self.rounds.push(samples);
        }
    }

    pub fn count(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    pub fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Median over the rounds of each round's quantile; of all samples together when the rounds are small.
    pub fn quantile(&self, q: f64) -> f64 {
        if self.rounds.iter().all(|round| round.len() >= ROUND_MIN) {
            return median(self.rounds.iter().map(|round| nearest_rank(round, q)));
        }
        let mut pooled: Vec<f64> = self.rounds.concat();
        pooled.sort_by(f64::total_cmp);
        nearest_rank(&pooled, q)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn p95(&self) -> f64 {
        self.quantile(0.95)
    }
}

impl FromIterator<Vec<f64>> for Rounds {
    fn from_iter<I: IntoIterator<Item = Vec<f64>>>(rounds: I) -> Self {
        let mut all = Self::default();
        rounds.into_iter().for_each(|round| all.push(round));
        all
    }
}

/// NaN without a value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// The smallest sample that is not below a share `q` of all. NaN without a sample.
fn nearest_rank(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_large_rounds_are_voted_on() {
        let round = |shift: f64| (1..=100).map(|n| f64::from(n) + shift).collect::<Vec<_>>();
        let rounds: Rounds = [round(0.0), round(1_000.0), round(2.0)].into_iter().collect();
        assert_eq!((rounds.count(), rounds.rounds()), (300, 3));
        assert_eq!((rounds.median(), rounds.p95()), (52.0, 97.0));
    }

    #[test]
    fn small_rounds_are_pooled() {
        let rounds: Rounds = [vec![5.0, 1.0], vec![3.0], vec![]].into_iter().collect();
        assert_eq!((rounds.rounds(), rounds.median(), rounds.p95()), (2, 3.0, 5.0));
        assert!(Rounds::default().median().is_nan());
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
