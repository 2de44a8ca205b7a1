//! The clocks of a connection: how long it may take to say what it wants, how long nothing may happen on it, and how long
//! it may live.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::guest::Guest;

/// A connection to which nothing was granted yet says something within this time. Programs that want something say so at
/// once; one that says nothing holds a place that others wait for.
const SILENT: Duration = Duration::from_secs(5);
/// From its beginning to the first wish that is granted: time to say nothing and to read one head slowly, but not to make a
/// living of it. What the server takes for its answers is not counted.
const UNDECIDED: Duration = Duration::from_secs(15);
/// To be told why, after that.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Activity {
    idle: Duration,
    ends: Instant,
    /// When it has to have been granted something.
    decided_by: Mutex<Instant>,
    is_decided: AtomicBool,
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
            decided_by: Mutex::new(now + UNDECIDED),
            is_decided: AtomicBool::new(false),
            last: Mutex::new(now),
            holds: AtomicU32::new(0),
            guards: AtomicU32::new(0),
        }
    }

    pub fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Something was granted: from here on the limits of the sandbox hold.
    pub fn decide(&self) {
        self.is_decided.store(true, Ordering::Relaxed);
    }

    /// The server took so long for an answer.
    pub fn not_counted(&self, time: Duration) {
        *self.decided_by.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// How long something may be waited for that the program should do within `limit`.
    pub fn deadline(&self, limit: Duration) -> Instant {
        let until = Instant::now() + limit;
        self.undecided_until().map_or(until, |end| until.min(end))
    }

    /// How long the program may say nothing; without end for one that was granted something, whose idleness has a limit of
    /// its own.
    pub fn silent_until(&self) -> Option<Instant> {
        self.undecided_until().map(|_| self.deadline(SILENT))
    }

    fn undecided_until(&self) -> Option<Instant> {
        let is_decided = self.is_decided.load(Ordering::Relaxed);
        (!is_decided).then(|| *self.decided_by.lock().unwrap_or_else(PoisonError::into_inner))
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
            let mut next = (last + self.idle).min(self.ends);
            if let Some(end) = self.undecided_until().filter(|_| !is_held) {
                next = next.min(end + FAREWELL);
            }
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

#[cfg(test)]
mod tests {
    use agentos_protocol::egress::{Attachment, EgressLimits};
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn activity() -> Activity {
        let limits = EgressLimits {
            connections: 1,
            bytes: 0,
            bytes_per_second: 0,
            idle_ms: 3_600_000,
            connection_ms: 36_000_000,
        };
        let (listeners, terminated_hosts, names) = (Vec::new(), Vec::new(), Vec::new());
        let attachment = Attachment { sandbox: 1, listeners, limits, terminated_hosts, authority: None, names };
        Activity::new(&Guest::new(attachment, CancellationToken::new()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn steps_that_are_fast_enough_each_do_not_add_up_to_a_living() {
        let (activity, begun) = (activity(), Instant::now());
        assert_eq!(activity.silent_until(), Some(begun + SILENT));
        while activity.deadline(SILENT) > Instant::now() {
            sleep_until(activity.deadline(SILENT)).await;
            activity.touch();
        }
        assert_eq!(begun.elapsed(), UNDECIDED);
        activity.expired().await;
        assert_eq!(begun.elapsed().as_secs(), (UNDECIDED + FAREWELL).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn neither_the_time_of_the_server_counts_nor_what_follows_a_grant() {
        let (activity, begun) = (activity(), Instant::now());
        let hold = activity.hold();
        let thinking = Duration::from_secs(100);
        assert!(tokio::time::timeout(thinking, activity.expired()).await.is_err(), "it is the server's turn");
        activity.not_counted(thinking);
        drop(hold);
        assert_eq!(activity.deadline(thinking), begun + thinking + UNDECIDED);
        activity.decide();
        assert_eq!(activity.silent_until(), None);
        activity.expired().await;
        assert_eq!(begun.elapsed().as_secs(), 3_700);
    }
}
