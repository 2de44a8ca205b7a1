//! Calls of the last ten seconds, in ten parts.

use agentos_types::Timestamp;

const PARTS: usize = 10;
const PART_US: i64 = 1_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Which second the newest part is.
    newest: i64,
    /// By second, modulo their number.
    parts: [Part; PARTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    second: i64,
    calls: u32,
    failures: u32,
}

impl Window {
    pub fn count(&mut self, now: Timestamp, succeeded: bool) {
        let second = self.second(now);
        let place = usize::try_from(second.rem_euclid(PARTS as i64)).unwrap_or(0);
        let Some(part) = self.parts.get_mut(place) else { return };
        if part.second != second {
            *part = Part { second, ..Part::default() };
        }
        part.calls = part.calls.saturating_add(1);
        part.failures = part.failures.saturating_add(u32::from(!succeeded));
    }

    /// Calls, and how many of them failed.
    pub fn sums(&mut self, now: Timestamp) -> (u32, u32) {
        let second = self.second(now);
        let young = self.parts.iter().filter(|part| (second - PARTS as i64 + 1..=second).contains(&part.second));
        young.fold((0, 0), |(calls, failures), part| {
            (calls.saturating_add(part.calls), failures.saturating_add(part.failures))
        })
    }

    /// A clock that went back counts into the newest part; one that went back by more than a window begins anew.
    fn second(&mut self, now: Timestamp) -> i64 {
        let second = now.as_micros().div_euclid(PART_US);
        if self.newest.saturating_sub(second) > PARTS as i64 {
            *self = Self { newest: second, ..Self::default() };
        }
        self.newest = self.newest.max(second);
        self.newest
    }
}
