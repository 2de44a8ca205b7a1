//! The two clocks of a connection: how long nothing may happen on it, and how long it may live.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::guest::Guest;

#[derive(Debug)]
pub(super) struct Activity {
    idle: Duration,
    ends: Instant,
    last: Mutex<Instant>,
    /// Somebody waits for us, for the server or for a lookup: that is not idleness.
    holds: AtomicU32,
    guards: AtomicU32,
}

/// See [`Activity::guard`].
pub(super) struct Guard<'a>(&'a Activity);

/// While it lives the connection is not idle.
pub(super) struct Hold<'a>(&'a Activity);

impl Activity {
    pub fn new(guest: &Guest) -> Self {
        let now = Instant::now();
        Self {
            idle: Duration::from_millis(guest.limits.idle_ms),
            ends: now + Duration::from_millis(guest.limits.connection_ms.min(LIFE_MS_MAX)),
            last: Mutex::new(now),
            holds: AtomicU32::new(0),
            guards: AtomicU32::new(0),
        }
    }

    pub fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn hold(&self) -> Hold<'_> {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(self)
    }

    /// From here on a granted wish has its own eye on the clocks, so that the report of its end can tell what it was.
    pub fn guard(&self) -> Guard<'_> {
        self.guards.fetch_add(1, Ordering::Relaxed);
        Guard(self)
    }

    /// Ends when the connection must, and nothing is granted that would see that itself.
    pub async fn expired_unguarded(&self) {
        loop {
            self.expired().await;
            if self.guards.load(Ordering::Relaxed) == 0 {
                return;
            }
            sleep_until(Instant::now() + GUARDED).await;
        }
    }

    /// Ends when the connection must.
    pub async fn expired(&self) {
        loop {
            let now = Instant::now();
            let is_held = self.holds.load(Ordering::Relaxed) > 0;
            let last = if is_held { now } else { *self.last.lock().unwrap_or_else(PoisonError::into_inner) };
            let next = (last + self.idle).min(self.ends);
            if next <= now {
                return;
            }
            sleep_until(next).await;
        }
    }
}

/// Between two looks whether what was granted has ended.
const GUARDED: Duration = Duration::from_millis(100);
/// A year, so that no sum of instants overflows.
const LIFE_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.guards.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.touch();
        self.0.holds.fetch_sub(1, Ordering::Relaxed);
    }
}
