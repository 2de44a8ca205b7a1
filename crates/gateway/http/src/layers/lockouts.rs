//! Lockout of addresses that present wrong tokens.
//!
//! A token has 256 random bits, so nobody finds one by guessing; what this stops is the noise: look-ups, records, and
//! programs with a stale token that ask for ever. A valid token is looked up before the lockout applies, so nobody can be
//! locked out by a neighbour behind the same address.
//!
//! Memory is bounded. When it is full of active addresses, newcomers share one record; a record that still counts is never
//! thrown out, so a flood of addresses frees nobody.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentos_types::Timestamp;

use crate::layers::buckets::Peer;

/// The time in which wrong tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The first lockout; each one that follows is twice as long.
const FIRST: Duration = Duration::from_secs(60);
/// The longest lockout: who mends a program should not have to wait for tomorrow.
const LONGEST: Duration = Duration::from_secs(3_600);
/// After this long without a lockout the next one is short again.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// Addresses remembered at the same time; about 1 MiB.
const PEERS_MAX: usize = 10_000;
/// A full map is searched for old records at most this often, so that a flood stays cheap.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Lockouts {
    failures_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    peers: HashMap<Peer, Record>,
    overflow: Record,
    swept_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    counted_from: Timestamp,
    failures: u64,
    locked_until: Timestamp,
    /// Lockouts in a row.
    lockouts: u32,
}

impl Lockouts {
    pub fn new(failures_max: u64) -> Self {
        let state = State { peers: HashMap::new(), overflow: Record::NEW, swept_at: Timestamp::ZERO };
        Self { failures_max: failures_max.max(1), state: Mutex::new(state) }
    }

    /// `Err` with the time that is left while the address is locked out.
    pub fn check(&self, peer: &Peer, now: Timestamp) -> Result<(), Duration> {
        // A panic elsewhere cannot leave the map in a state that matters here.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = state.known(peer) else { return Ok(()) };
        record.follow(now);
        match record.locked_until.since(now) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Counts a wrong token. Returns the length of the lockout if this one began it.
    pub fn fail(&self, peer: &Peer, now: Timestamp) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failures_max = self.failures_max;
        let record = state.entry(peer, now);
        record.follow(now);
        if record.locked_until > now {
            // Requests that were under way when it began.
            return None;
        }
        if now.since(record.counted_from) >= WINDOW {
            (record.counted_from, record.failures) = (now, 0);
        }
        if now.since(record.locked_until) >= FORGET_AFTER {
            record.lockouts = 0;
        }
        record.failures += 1;
        if record.failures < failures_max {
            return None;
        }
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(record.lockouts)).min(LONGEST);
        *record = Record {
            counted_from: now,
            failures: 0,
            locked_until: now.after(wait),
            lockouts: record.lockouts.saturating_add(1),
        };
        Some(wait)
    }
}

impl State {
    /// The record that counts for the address. A stranger to a full map has the shared one.
    fn known(&mut self, peer: &Peer) -> Option<&mut Record> {
        if self.peers.contains_key(peer) {
            return self.peers.get_mut(peer);
        }
        (self.peers.len() >= PEERS_MAX).then_some(&mut self.overflow)
    }

    fn entry(&mut self, peer: &Peer, now: Timestamp) -> &mut Record {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            self.sweep(now);
        }
        let has_room = self.peers.len() < PEERS_MAX || self.peers.contains_key(peer);
        if has_room { self.peers.entry(*peer).or_insert(Record::NEW) } else { &mut self.overflow }
    }

    fn sweep(&mut self, now: Timestamp) {
        let due = self.swept_at.after(SWEEP_INTERVAL);
        if now >= due || now < self.swept_at {
            self.swept_at = now;
            self.peers.retain(|_, record| record.counts(now));
        }
    }
}

impl Record {
    const NEW: Record =
        Record { counted_from: Timestamp::ZERO, failures: 0, locked_until: Timestamp::ZERO, lockouts: 0 };

    /// A clock that was set back must not lock anybody out for the difference.
    fn follow(&mut self, now: Timestamp) {
        self.counted_from = self.counted_from.min(now);
        self.locked_until = self.locked_until.min(now.after(LONGEST));
    }

    /// It would answer differently from a new one.
    fn counts(&self, now: Timestamp) -> bool {
        now.since(self.counted_from) < WINDOW || (self.lockouts > 0 && now.since(self.locked_until) < FORGET_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const START: Timestamp = Timestamp(1_000_000_000_000);

    fn peer(number: usize) -> Peer {
        Peer::from(IpAddr::V4(Ipv4Addr::from_bits(number as u32)))
    }

    /// Wrong tokens until the lockout begins.
    fn lock(lockouts: &Lockouts, peer: &Peer, now: Timestamp) -> Duration {
        (0..3).find_map(|_| lockouts.fail(peer, now)).expect("three are enough")
    }

    #[test]
    fn each_lockout_is_twice_as_long_up_to_an_hour_and_a_quiet_hour_forgives() {
        let (lockouts, mut now) = (Lockouts::new(3), START);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = lock(&lockouts, &peer(1), now);
            assert_eq!(wait, Duration::from_secs(minutes * 60));
            assert_eq!(lockouts.check(&peer(1), now), Err(wait));
            assert_eq!(lockouts.check(&peer(2), now), Ok(()), "a neighbour is not concerned");
            assert_eq!(lockouts.fail(&peer(1), now), None, "one lockout begins once");
            now = now.after(wait);
            assert_eq!(lockouts.check(&peer(1), now), Ok(()));
        }
        assert_eq!(lock(&lockouts, &peer(1), now.after(FORGET_AFTER)), FIRST);
    }

    #[test]
    fn wrong_tokens_far_apart_lock_nobody_out() {
        let (lockouts, mut now) = (Lockouts::new(3), START);
        for _ in 0..100 {
            assert_eq!(lockouts.fail(&peer(1), now), None);
            now = now.after(Duration::from_secs(31));
        }
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out_for_the_difference() {
        let lockouts = Lockouts::new(3);
        lock(&lockouts, &peer(1), START.after(Duration::from_secs(10_000_000)));
        assert!(lockouts.check(&peer(1), START).unwrap_err() <= LONGEST);
    }

    #[test]
    fn a_flood_of_addresses_frees_nobody_and_takes_no_more_memory() {
        let lockouts = Lockouts::new(3);
        lock(&lockouts, &peer(0), START);
        for number in 1..3 * PEERS_MAX {
            lockouts.fail(&peer(number), START.after(Duration::from_micros(number as u64)));
        }
        let later = START.after(Duration::from_secs(30));
        assert!(lockouts.check(&peer(0), later).is_err(), "still locked out");
        assert_eq!(lockouts.check(&peer(1), later), Ok(()), "known, and not locked out");
        assert!(lockouts.check(&peer(5 * PEERS_MAX), later).is_err(), "newcomers share one record");
        let much_later = START.after(Duration::from_secs(5 * 3_600));
        lockouts.fail(&peer(7 * PEERS_MAX), much_later);
        assert_eq!(lockouts.state.lock().unwrap().peers.len(), 1, "old records were forgotten");
    }
}
