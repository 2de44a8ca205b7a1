//! Adaptive busy polling: whether a loop that has nothing to do looks for what comes next, or sleeps.
//!
//! Who sleeps has to be woken, which costs more than most requests compute, and finds its caches cold. So a loop whose last waits
//! were short looks by itself, for a bounded time after something has come, and between two looks gives its processor to whoever
//! wants it. A loop that waits for long, as for a provider far away, does not begin to look; one that serves nobody sleeps.

use std::{
    cell::Cell,
    sync::{Mutex, OnceLock, PoisonError},
    task::Waker,
    thread,
    time::{Duration, Instant},
};

/// So many short waits are ahead of long ones before a loop begins to look.
const SHORT_MIN: u32 = 4;
/// What was counted long ago does not count.
const SHORT_MAX: u32 = 16;

thread_local! {
    static HEARD: Cell<u64> = const { Cell::new(0) };
}

/// Tells the loop of this thread that bytes have come for somebody whom it serves. Without it a loop never looks.
pub fn heard() {
    HEARD.set(HEARD.get().wrapping_add(1));
}

/// Of one loop, called where its runtime is about to sleep and where it goes on.
pub(super) struct BusyPoll {
    /// Of what the loop is blocked on: woken, it keeps the runtime from sleeping, which then only looks.
    waker: OnceLock<Waker>,
    pace: Mutex<Pace>,
}

impl BusyPoll {
    pub(super) fn new(most: Duration) -> Self {
        Self { waker: OnceLock::new(), pace: Mutex::new(Pace::new(most, Instant::now())) }
    }

    pub(super) fn keep(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    pub(super) fn idle(&self) {
        let Some(waker) = self.waker.get() else { return };
        let is_looking = self.pace().idle(HEARD.get(), Instant::now());
        if is_looking {
            waker.wake_by_ref();
            thread::yield_now();
        }
    }

    pub(super) fn resumed(&self) {
        self.pace().resumed(Instant::now());
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the decision rests on.
struct Pace {
    /// How long after the last arrival a loop looks.
    most: Duration,
    heard: u64,
    /// There has been nothing to do since.
    since: Instant,
    is_looking: bool,
    /// Waits that ended within `most`; half of them are forgotten with each that did not.
    short: u32,
}

impl Pace {
    fn new(most: Duration, now: Instant) -> Self {
        Self { most, heard: 0, since: now, is_looking: false, short: 0 }
    }

    /// There is nothing to do. True: look again.
    fn idle(&mut self, heard: u64, now: Instant) -> bool {
        if heard != self.heard {
            if self.is_looking {
                self.waited(true);
            }
            (self.heard, self.since) = (heard, now);
        }
        self.is_looking = self.short >= SHORT_MIN && now.saturating_duration_since(self.since) < self.most;
        self.is_looking
    }

    /// A look or a sleep has ended.
    fn resumed(&mut self, now: Instant) {
        if !self.is_looking {
            self.waited(now.saturating_duration_since(self.since) <= self.most);
        }
    }

    fn waited(&mut self, is_short: bool) {
        self.short = if is_short { (self.short + 1).min(SHORT_MAX) } else { self.short / 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(100);

    /// A loop in a world where time passes only when it is told so.
    struct World {
        pace: Pace,
        now: Instant,
        heard: u64,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self { pace: Pace::new(MOST, now), now, heard: 0 }
        }

        /// Something comes `after` the loop had nothing to do any more. Returns how many looks, of 10 µs each, were taken meanwhile.
        fn arrival(&mut self, after: Duration) -> u32 {
            let (mut looks, due) = (0, self.now + after);
            while self.now < due {
                let is_looking = self.pace.idle(self.heard, self.now);
                looks += u32::from(is_looking);
                self.now = if is_looking { due.min(self.now + Duration::from_micros(10)) } else { due };
                self.pace.resumed(self.now);
            }
            self.heard += 1;
            looks
        }

        fn is_answered_soon(&mut self) {
            for _ in 0..SHORT_MAX {
                self.arrival(Duration::from_micros(40));
            }
        }
    }

    #[test]
    fn whoever_is_answered_soon_again_and_again_is_looked_for() {
        let mut world = World::new();
        let soon = Duration::from_micros(40);
        let looks: Vec<u32> = (0..8).map(|_| world.arrival(soon)).collect();
        assert_eq!(looks, [0, 0, 0, 0, 4, 4, 4, 4]);
        // One that is late costs no more than the most, and is forgiven.
        assert_eq!(world.arrival(Duration::from_millis(50)), 10);
        assert_eq!(world.arrival(soon), 4);
    }

    #[test]
    fn who_waits_for_long_does_not_look() {
        let mut world = World::new();
        world.is_answered_soon();
        let far: u32 = (0..1_000).map(|_| world.arrival(Duration::from_millis(200))).sum();
        assert!(far <= 30, "three waits are enough to tell: {far} looks");
        // Every other one is not often enough.
        let mixed: u32 =
            (0..1_000).map(|turn| world.arrival(Duration::from_micros(if turn % 2 == 0 { 40 } else { 400 }))).sum();
        assert_eq!(mixed, 0);
    }

    #[test]
    fn a_loop_that_nothing_comes_to_sleeps() {
        let mut world = World::new();
        world.is_answered_soon();
        world.arrival(Duration::from_micros(40));
        // From now on it is woken by its own clock alone.
        let looks = (0..1_000).filter(|_| {
            let is_looking = world.pace.idle(world.heard, world.now);
            world.now += Duration::from_micros(if is_looking { 10 } else { 500_000 });
            world.pace.resumed(world.now);
            is_looking
        });
        assert_eq!(looks.count(), 10);
    }
}
