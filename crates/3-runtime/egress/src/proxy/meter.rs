//! How many bytes a sandbox has moved, how many it may, and how fast. All of its connections share one meter.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentos_protocol::egress::{EgressLimits, Refusal};
use tokio::time::{Instant, sleep_until};

use super::grant::Way;

/// What may go at once after a pause: so much of the rate. Less would cut every page into slices.
const BURST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Meter {
    bytes_max: u64,
    bytes_per_second: u64,
    out: AtomicU64,
    inward: AtomicU64,
    /// The sum that was told last.
    told: AtomicU64,
    /// When everything that has passed would have passed at the very rate.
    due: Mutex<Instant>,
}

impl Meter {
    pub fn new(limits: &EgressLimits) -> Self {
        let bounded = |value: u64| if value == 0 { u64::MAX } else { value };
        Self {
            bytes_max: bounded(limits.bytes),
            bytes_per_second: bounded(limits.bytes_per_second),
            out: AtomicU64::new(0),
            inward: AtomicU64::new(0),
            told: AtomicU64::new(0),
            due: Mutex::new(Instant::now()),
        }
    }

    /// Whether anything is left.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.used() < self.bytes_max { Ok(()) } else { Err(Refusal::ByteLimit) }
    }

    /// Out and in since the beginning, if that is more than what was told last.
    pub fn news(&self) -> Option<(u64, u64)> {
        let (out, inward) = (self.out.load(Ordering::Relaxed), self.inward.load(Ordering::Relaxed));
        let sum = out.saturating_add(inward);
        (self.told.swap(sum, Ordering::Relaxed) != sum).then_some((out, inward))
    }

    fn used(&self) -> u64 {
        self.out.load(Ordering::Relaxed).saturating_add(self.inward.load(Ordering::Relaxed))
    }

    /// Counts `bytes`, then waits as long as the rate asks for. Fails once more have passed than may.
    pub async fn pass(&self, way: Way, bytes: u64) -> Result<(), Refusal> {
        let counter = if way == Way::Out { &self.out } else { &self.inward };
        counter.fetch_add(bytes, Ordering::Relaxed);
        if self.used() > self.bytes_max {
            return Err(Refusal::ByteLimit);
        }
        let wait = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            // Rounded up, so that no piece is too small to cost something.
            let cost = match self.bytes_per_second {
                u64::MAX => 0,
                rate => bytes.saturating_mul(1_000_000_000).div_ceil(rate),
            };
            *due = (*due).max(earliest) + Duration::from_nanos(cost);
            (*due > now).then_some(*due)
        };
        if let Some(until) = wait {
            sleep_until(until).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(bytes: u64, bytes_per_second: u64) -> Meter {
        Meter::new(&EgressLimits { connections: 1, bytes, bytes_per_second, idle_ms: 1, connection_ms: 1 })
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_all_who_share_it() {
        let meter = meter(u64::MAX, 1_000);
        let started = Instant::now();
        let half = async {
            for _ in 0..50 {
                meter.pass(Way::Out, 100).await.unwrap();
            }
        };
        tokio::join!(half, async {
            for _ in 0..50 {
                meter.pass(Way::Out, 100).await.unwrap();
            }
        });
        let took = started.elapsed();
        // 10,000 bytes at 1,000 a second, the first quarter of a second for nothing.
        assert!(took >= Duration::from_millis(9_700) && took <= Duration::from_millis(10_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_sum_ends_it() {
        let meter = meter(1_000, 1_000_000);
        meter.pass(Way::Out, 999).await.unwrap();
        meter.check().unwrap();
        meter.pass(Way::In, 1).await.unwrap();
        assert_eq!(meter.check(), Err(Refusal::ByteLimit));
        assert_eq!(meter.pass(Way::In, 1).await, Err(Refusal::ByteLimit));
        assert_eq!((meter.news(), meter.news()), (Some((999, 2)), None));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_no_limit() {
        let meter = meter(0, 0);
        let started = Instant::now();
        for _ in 0..3 {
            meter.check().unwrap();
            meter.pass(Way::In, 1 << 40).await.unwrap();
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
