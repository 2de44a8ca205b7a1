//! Calls a minute, one token bucket an agent. Restarting the process does not refill it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentos_types::{AgentName, Timestamp};

const MINUTE_MICROS: i64 = 60_000_000;

/// One bucket for each deployed agent, so the map is as bounded as the agents are.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    buckets: Mutex<HashMap<AgentName, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Calls in stock, in micro-calls, so that refilling is exact in integers.
    stock: i64,
    refilled_at: Timestamp,
    /// Whether the present drought was reported already.
    reported: bool,
}

/// A refusal. `first` is true once per drought: a flood must not fill the audit log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    pub wait: Duration,
    pub first: bool,
}

impl RateLimiter {
    pub(crate) fn take(&self, agent: &AgentName, per_minute: u32, now: Timestamp) -> Result<(), Limited> {
        let rate = i64::from(per_minute);
        let full = rate.saturating_mul(MINUTE_MICROS);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(agent.clone()).or_insert(Bucket { stock: full, refilled_at: now, reported: false });
        let elapsed = i64::try_from(now.since(bucket.refilled_at).as_micros()).unwrap_or(i64::MAX);
        bucket.stock = bucket.stock.saturating_add(elapsed.saturating_mul(rate)).min(full);
        bucket.refilled_at = now;
        if bucket.stock >= MINUTE_MICROS {
            bucket.stock -= MINUTE_MICROS;
            bucket.reported = false;
            return Ok(());
        }
        let missing = MINUTE_MICROS - bucket.stock;
        let wait_micros = missing.checked_div(rate).unwrap_or(MINUTE_MICROS) + 1;
        let first = !std::mem::replace(&mut bucket.reported, true);
        Err(Limited { wait: Duration::from_micros(u64::try_from(wait_micros).unwrap_or(0)), first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_minute_then_the_steady_rate() {
        let limiter = RateLimiter::default();
        let agent: AgentName = "a".parse().unwrap();
        let start = Timestamp::from_millis(0);
        for _ in 0..60 {
            assert_eq!(limiter.take(&agent, 60, start), Ok(()));
        }
        let refused = limiter.take(&agent, 60, start).unwrap_err();
        assert!(refused.first && refused.wait <= Duration::from_millis(1_001), "{refused:?}");
        assert!(!limiter.take(&agent, 60, start).unwrap_err().first, "reported once per drought");
        let later = start.after(refused.wait);
        assert_eq!(limiter.take(&agent, 60, later), Ok(()));
        assert!(limiter.take(&agent, 60, later).unwrap_err().first, "a new drought is reported again");
        let other: AgentName = "b".parse().unwrap();
        assert_eq!(limiter.take(&other, 60, start), Ok(()), "agents do not share a bucket");
        assert!(
            limiter.take(&agent, 60, Timestamp::from_millis(-5)).is_err(),
            "a clock that goes back refills nothing"
        );
    }
}
