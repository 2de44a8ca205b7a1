//! When an agent stands behind everybody else for the processor. Pure: kills for want of memory in, a time out.
//!
//! A program that has just been begun keeps its processor until the kernel looks again, up to 4 ms later, and whoever the disk's
//! interrupt wakes there waits as long. One that grows until it is killed and is begun anew, over and over, does that each time.

use std::time::Duration;

use tokio::time::Instant;

/// Two kills within this time are no accident, and it is how long their agent stands back.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Of one agent, over all of its lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behind {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Behind {
    /// A process was killed. True if the agent has to stand back from now on.
    pub(crate) fn killed(&mut self, now: Instant) -> bool {
        let is_again = self.last.is_some_and(|last| now.duration_since(last) < WINDOW);
        self.last = Some(now);
        if !is_again {
            return false;
        }
        self.until.replace(now + WINDOW).is_none()
    }

    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// True once, when its time is over.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_kill_within_a_minute_counts_and_each_later_one_prolongs_it() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(!behind.killed(at(0)), "once is an accident");
        assert!(!behind.killed(at(60)), "so is once a minute");
        assert!(behind.killed(at(61)));
        assert!(!behind.killed(at(100)), "it stands back already");
        assert!(!behind.is_over(at(159)));
        assert_eq!(behind.until(), Some(at(160)));
        assert!(behind.is_over(at(160)));
        assert!(!behind.is_over(at(161)), "it is told once");
        assert!(!behind.killed(at(170)), "the last one is too long ago");
        assert!(behind.killed(at(171)));
    }
}
