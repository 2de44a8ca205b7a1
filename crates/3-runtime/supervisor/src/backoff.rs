//! How long to wait before an agent is started again. Pure: failures and a draw in, a wait out.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(30);
/// A worker that lived this long ready has proven itself: what failed before no longer counts.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Width of the jitter in thousandths: the wait is 80 % to 120 % of its nominal length.
pub const JITTER_PERMILLE: u64 = 400;

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// Counts a failure of a worker that was ready for `healthy`.
    pub fn fail(&mut self, healthy: Duration) {
        let before = if healthy >= HEALTHY_AFTER { 0 } else { self.failures };
        self.failures = before.saturating_add(1);
    }

    /// The wait after the failures so far; `draw` is uniform in `0..=JITTER_PERMILLE`. The first failure waits not at all:
    /// one crash says little, and its tasks are waiting.
    pub fn wait(self, draw: u64) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else { return Duration::ZERO };
        jittered(FIRST.saturating_mul(1 << doublings.min(16)).min(CAP), draw)
    }

    /// An operator has stepped in: begin anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `draw` is uniform in `0..=JITTER_PERMILLE`.
pub(crate) fn jittered(nominal: Duration, draw: u64) -> Duration {
    let permille = 1_000 - JITTER_PERMILLE / 2 + draw.min(JITTER_PERMILLE);
    // At most 1,200: the conversion is exact.
    nominal.saturating_mul(u32::try_from(permille).unwrap_or(1_000)) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_second_failure_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..13 {
            backoff.fail(Duration::ZERO);
            waits.push(backoff.wait(JITTER_PERMILLE / 2).as_millis());
        }
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000],
            "nominal waits"
        );
    }

    #[test]
    fn jitter_is_a_fifth_to_both_sides_and_a_wild_draw_is_no_wait_for_ever() {
        let mut backoff = Backoff::default();
        backoff.fail(Duration::ZERO);
        backoff.fail(Duration::ZERO);
        assert_eq!(backoff.wait(0), Duration::from_millis(80));
        assert_eq!(backoff.wait(JITTER_PERMILLE), Duration::from_millis(120));
        assert_eq!(backoff.wait(u64::MAX), Duration::from_millis(120));
        backoff.failures = u32::MAX;
        assert_eq!(backoff.wait(JITTER_PERMILLE), Duration::from_secs(36));
    }

    #[test]
    fn a_minute_of_health_forgives_everything() {
        let mut backoff = Backoff { failures: 7 };
        backoff.fail(HEALTHY_AFTER - Duration::from_millis(1));
        assert_eq!(backoff.failures(), 8);
        backoff.fail(HEALTHY_AFTER);
        assert_eq!(backoff.failures(), 1);
        assert_eq!(backoff.wait(JITTER_PERMILLE), Duration::ZERO);
    }
}
