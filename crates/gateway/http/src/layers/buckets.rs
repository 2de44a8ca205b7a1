//! Rate limits as token buckets in their "virtual scheduling" form (GCRA): one instant per key, no refill timer.
//!
//! The map of keys is bounded. When it is full of busy keys, newcomers share one bucket, so that neither memory nor the
//! limit can be escaped by inventing keys.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentos_types::Timestamp;

/// Keys remembered at the same time; about 1 MiB.
const KEYS_MAX: usize = 10_000;
/// A full map is searched for idle keys at most this often, so that a flood of new keys stays cheap.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Events allowed per second and key, with a burst of one second's worth.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    interval: Duration,
    burst: Duration,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    /// Per key, the instant at which its bucket is full again.
    full_at: HashMap<K, Timestamp>,
    overflow_full_at: Timestamp,
    swept_at: Timestamp,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub fn new(per_second: u64) -> Self {
        let interval = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
        let interval = interval.max(Duration::from_micros(1));
        let state = State { full_at: HashMap::new(), overflow_full_at: Timestamp::ZERO, swept_at: Timestamp::ZERO };
        Self { interval, burst: Duration::from_secs(1), state: Mutex::new(state) }
    }

    /// Takes one token, or tells how long to wait for one.
    pub fn take(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        // A panic elsewhere cannot leave the map in a state that matters here.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.full_at.len() >= KEYS_MAX && !state.full_at.contains_key(key) {
            state.sweep(now);
        }
        let has_room = state.full_at.len() < KEYS_MAX || state.full_at.contains_key(key);
        let full_at =
            if has_room { state.full_at.entry(key.clone()).or_insert(now) } else { &mut state.overflow_full_at };
        // Clamped on both sides: a clock that was set back must not lock anybody out for the difference.
        let from = (*full_at).clamp(now, now.after(self.burst));
        let next = from.after(self.interval);
        let debt = next.since(now);
        if debt > self.burst {
            return Err(debt.saturating_sub(self.burst));
        }
        *full_at = next;
        Ok(())
    }
}

impl<K: Hash + Eq> State<K> {
    fn sweep(&mut self, now: Timestamp) {
        let due = self.swept_at.after(SWEEP_INTERVAL);
        if now >= due || now < self.swept_at {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
    }
}

/// A remote address as a key. One IPv6 subscriber owns a whole /64, so that is what counts as one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(u128);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn a_burst_then_the_rate() {
        let buckets = Buckets::new(10);
        for _ in 0..10 {
            assert_eq!(buckets.take(&1, START), Ok(()));
        }
        let wait = buckets.take(&1, START).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(buckets.take(&2, START), Ok(()), "another key is not touched");
        assert_eq!(buckets.take(&1, START.after(wait)), Ok(()));
        assert!(buckets.take(&1, START.after(wait)).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out_for_long() {
        let buckets = Buckets::new(1);
        assert_eq!(buckets.take(&1, START.after(Duration::from_secs(3600))), Ok(()));
        assert!(buckets.take(&1, START).unwrap_err() <= Duration::from_secs(1));
    }

    #[test]
    fn a_flood_of_keys_shares_one_bucket_and_idle_keys_make_room() {
        let buckets = Buckets::new(1);
        for key in 0..KEYS_MAX {
            assert_eq!(buckets.take(&key, START), Ok(()));
        }
        assert_eq!(buckets.take(&KEYS_MAX, START), Ok(()));
        assert!(buckets.take(&(KEYS_MAX + 1), START).is_err(), "the overflow bucket is shared");
        let later = START.after(Duration::from_secs(2));
        assert_eq!(buckets.take(&(KEYS_MAX + 1), later), Ok(()));
        assert_eq!(buckets.state.lock().unwrap().full_at.len(), 1, "idle keys were forgotten");
    }

    #[test]
    fn a_v6_subscriber_is_one_peer_and_a_mapped_address_is_v4() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
