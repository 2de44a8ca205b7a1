//! A computation of milliseconds beside threads that answer somebody.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two offers. So many take some 40 µs, and a call wakes somebody four times, who may each wait for the next offer.
const STEPS: u32 = 4;
/// Who answers somebody is done sooner.
const LONG: Duration = Duration::from_micros(500);

/// The kernel takes the processor from a thread that computes at its tick, up to 4 ms after somebody else has woken. So such a
/// thread offers it by itself after every few steps, which costs next to nothing while nobody waits. If somebody keeps it for long, he
/// computes too, and there is no further offer: else the kernel's tick would come between all of them.
#[derive(Debug, Default)]
pub struct Turns {
    steps: u32,
    is_over: bool,
}

impl Turns {
    /// One record, or what takes as long: some microseconds.
    pub fn step(&mut self) {
        self.step_offering(|| {
            let began = Instant::now();
            thread::yield_now();
            began.elapsed()
        });
    }

    fn step_offering(&mut self, offer: impl FnOnce() -> Duration) {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) && !self.is_over {
            self.is_over = offer() > LONG;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the processor is offered in so many steps, to somebody who keeps it for so long.
    fn offers(steps: u32, kept: Duration) -> usize {
        let (mut turns, mut count) = (Turns::default(), 0);
        for _ in 0..steps {
            turns.step_offering(|| {
                count += 1;
                kept
            });
        }
        count
    }

    #[test]
    fn who_takes_short_turns_is_offered_the_processor_again_and_again() {
        assert_eq!(offers(STEPS - 1, Duration::ZERO), 0, "few steps are over soon enough");
        assert_eq!(offers(1_024, LONG), 256);
    }

    #[test]
    fn who_computes_as_well_is_offered_it_once() {
        assert_eq!(offers(1_024, LONG + Duration::from_nanos(1)), 1);
        let mut turns = Turns::default();
        (0..2 * STEPS).for_each(|_| turns.step());
        assert_eq!(turns.steps, 2 * STEPS);
    }
}
