//! A breaker: after too many failures nothing is sent for a while, then one request at a time finds out whether it is over.

use std::time::Duration;

use agentos_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::Window;

/// It opens at half of the calls of the window, if there are enough of them to mean anything, or after so many in a row.
const CALLS_MIN: u32 = 10;
const ROW_MAX: u32 = 5;
const OPEN_MIN: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(60);
/// Probes that must succeed, one after the other.
const PROBES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    window: Window,
    in_a_row: u32,
    phase: Phase,
    /// Looks without a request that failed, one after the other.
    looked_in_vain: u32,
    /// Calls of the window in which it opened: how much traffic has to go elsewhere.
    flow: u32,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Closed,
    Open {
        since: Timestamp,
        length: Duration,
    },
    HalfOpen {
        length: Duration,
        probing: bool,
        succeeded: u32,
    },
}

impl Breaker {
    /// Moves on with the time. A clock that went back begins the wait anew instead of lengthening it.
    pub fn look(&mut self, now: Timestamp) -> (BreakerState, Option<Timestamp>) {
        if let Phase::Open { since, length } = &mut self.phase {
            *since = (*since).min(now);
            let until = since.after(*length);
            if now < until {
                return (BreakerState::Open, Some(until));
            }
            self.phase = Phase::HalfOpen { length: *length, probing: false, succeeded: 0 };
        }
        match self.phase {
            Phase::HalfOpen { .. } => (BreakerState::HalfOpen, None),
            _ => (BreakerState::Closed, None),
        }
    }

    /// Half open, and its one probe is under way.
    pub fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { probing: true, .. })
    }

    /// How long it has been open, and how much went through it before.
    pub fn opened(&self, now: Timestamp) -> Option<(Duration, u32)> {
        match self.phase {
            Phase::Open { since, .. } => Some((now.since(since), self.flow)),
            _ => None,
        }
    }

    /// Whether a request may go; takes the place of the probe if it is one.
    pub fn pass(&mut self, now: Timestamp) -> bool {
        self.look(now);
        match &mut self.phase {
            Phase::Closed => true,
            Phase::Open { .. } => false,
            Phase::HalfOpen { probing, .. } => !std::mem::replace(probing, true),
        }
    }

    /// The request that took the place of the probe is over.
    pub fn release(&mut self) {
        if let Phase::HalfOpen { probing, .. } = &mut self.phase {
            *probing = false;
        }
    }

    /// Whether it closed. Half open, only its probe says something: others were sent before.
    pub fn succeeded(&mut self, now: Timestamp, is_probe: bool) -> bool {
        self.look(now);
        self.in_a_row = 0;
        self.window.count(now, true);
        match &mut self.phase {
            Phase::HalfOpen { succeeded, .. } if is_probe => {
                *succeeded += 1;
                if *succeeded < PROBES {
                    return false;
                }
                *self = Self::default();
                true
            }
            _ => false,
        }
    }

    /// What a look without a request has seen. It never makes the last step to closed, and leaves a half-open one alone that a request
    /// is trying. Whether it opened.
    pub fn looked(&mut self, now: Timestamp, answered: bool) -> bool {
        self.look(now);
        self.looked_in_vain = if answered { 0 } else { self.looked_in_vain.saturating_add(1) };
        let length = match &mut self.phase {
            Phase::HalfOpen { probing: false, succeeded, .. } if answered => {
                *succeeded = (*succeeded + 1).min(PROBES - 1);
                return false;
            }
            Phase::HalfOpen { probing: false, length, .. } => (*length * 2).min(OPEN_MAX),
            Phase::Closed if self.looked_in_vain >= ROW_MAX => OPEN_MIN,
            _ => return false,
        };
        // Nobody was asking.
        (self.flow, self.looked_in_vain) = (0, 0);
        self.phase = Phase::Open { since: now, length };
        true
    }

    /// Whether it opened.
    pub fn failed(&mut self, now: Timestamp, is_probe: bool) -> bool {
        self.look(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.window.count(now, false);
        let length = match self.phase {
            Phase::HalfOpen { length, .. } if is_probe => {
                // Its traffic went elsewhere long ago.
                self.flow = 0;
                (length * 2).min(OPEN_MAX)
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => return false,
            Phase::Closed => {
                let (calls, failures) = self.window.sums(now);
                let many = calls >= CALLS_MIN && failures * 2 >= calls;
                if !many && self.in_a_row < ROW_MAX {
                    return false;
                }
                self.flow = calls;
                OPEN_MIN
            }
        };
        self.phase = Phase::Open { since: now, length };
        true
    }
}
