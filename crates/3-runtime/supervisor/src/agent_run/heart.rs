//! The heartbeat of one worker: one ping at a time, and the instant at which its answer is overdue. Pure; the caller has
//! the clock.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Heart {
    patience: Duration,
    sent: u64,
    waiting_since: Option<Instant>,
}

impl Heart {
    pub(crate) fn new(heartbeat_ms: u64) -> Self {
        Self { patience: Duration::from_millis(heartbeat_ms), sent: 0, waiting_since: None }
    }

    /// How often [`Heart::beat`] is to be asked.
    pub(crate) fn period(&self) -> Duration {
        (self.patience / 2).max(Duration::from_millis(1))
    }

    /// The number of the next ping, unless one is still unanswered.
    pub(crate) fn beat(&mut self, now: Instant) -> Option<u64> {
        if self.waiting_since.is_some() {
            return None;
        }
        self.sent += 1;
        self.waiting_since = Some(now);
        Some(self.sent)
    }

    /// False: nobody asked for this number.
    pub(crate) fn pong(&mut self, n: u64) -> bool {
        n == self.sent && self.waiting_since.take().is_some()
    }

    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.patience)
    }

    /// The delay is ours: the worker gets its time again.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.waiting_since = self.waiting_since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ping_at_a_time_and_only_its_number_answers_it() {
        let mut heart = Heart::new(1_000);
        let start = Instant::now();
        assert_eq!(heart.overdue_at(), None);
        assert!(!heart.pong(0), "nothing was asked");
        assert_eq!(heart.beat(start), Some(1));
        assert_eq!(heart.beat(start), None);
        assert_eq!(heart.overdue_at(), Some(start + Duration::from_secs(1)));
        assert!(!heart.pong(2), "from the future");
        assert!(heart.pong(1));
        assert!(!heart.pong(1), "twice");
        assert_eq!(heart.overdue_at(), None);
        assert_eq!(heart.beat(start), Some(2));
        heart.excuse(start + Duration::from_secs(5));
        assert_eq!(heart.overdue_at(), Some(start + Duration::from_secs(6)));
    }
}
