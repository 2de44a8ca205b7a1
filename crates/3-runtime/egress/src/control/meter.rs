//! Bytes of one sandbox over all lives of the proxy.

use std::sync::{Mutex, PoisonError};

/// From the sandbox, and to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    pub out: u64,
    pub r#in: u64,
}

impl Bytes {
    fn plus(self, other: Self) -> Self {
        Self { out: self.out.saturating_add(other.out), r#in: self.r#in.saturating_add(other.r#in) }
    }

    fn at_least(self, other: Self) -> Self {
        Self { out: self.out.max(other.out), r#in: self.r#in.max(other.r#in) }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { out: self.out.saturating_sub(before.out), r#in: self.r#in.saturating_sub(before.r#in) }
    }

    pub(super) fn sum(self) -> u64 {
        self.out.saturating_add(self.r#in)
    }
}

/// Two readings are told: running sums between times, and what each closed connection came to. Neither alone is complete
/// when a proxy dies, so the larger counts; and no sum ever goes back.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By proxies that have ended.
    ended: Bytes,
    closed: Bytes,
    moved: Bytes,
}

impl State {
    fn total(&self) -> Bytes {
        self.ended.plus(self.closed.at_least(self.moved))
    }
}

impl Meter {
    pub fn read(&self) -> Bytes {
        self.with(|state| state.total())
    }

    /// The sum since the sandbox was attached to this proxy. Returns what was not known before.
    pub fn moved(&self, sum: Bytes) -> Bytes {
        self.change(|state| state.moved = state.moved.at_least(sum))
    }

    /// One connection more has ended.
    pub fn closed(&self, bytes: Bytes) -> Bytes {
        self.change(|state| state.closed = state.closed.plus(bytes))
    }

    /// The proxy has ended; the next one counts from nothing.
    pub fn proxy_ended(&self) {
        self.with(|state| *state = State { ended: state.total(), ..State::default() });
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> Bytes {
        self.with(|state| {
            let before = state.total();
            change(state);
            state.total().since(before)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Plain numbers: whole after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(out: u64, r#in: u64) -> Bytes {
        Bytes { out, r#in }
    }

    #[test]
    fn sums_grow_over_the_lives_of_the_proxy_and_count_nothing_twice() {
        let meter = Meter::default();
        assert_eq!(meter.moved(bytes(10, 100)), bytes(10, 100));
        assert_eq!(meter.closed(bytes(8, 90)), bytes(0, 0), "it was in the running sum already");
        assert_eq!(meter.closed(bytes(7, 20)), bytes(5, 10));
        assert_eq!(meter.moved(bytes(3, 3)), bytes(0, 0), "a sum that goes back is none");
        assert_eq!(meter.read(), bytes(15, 110));
        meter.proxy_ended();
        meter.proxy_ended();
        assert_eq!(meter.read(), bytes(15, 110));
        assert_eq!(meter.moved(bytes(1, 2)), bytes(1, 2));
        assert_eq!(meter.read(), bytes(16, 112));
        assert_eq!(meter.closed(bytes(u64::MAX, 0)).r#in, 0);
        assert_eq!(meter.read().out, u64::MAX);
    }
}
