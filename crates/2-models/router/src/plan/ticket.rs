//! What an attempt holds: a place among those in flight, and perhaps that of a probe. Given back however it ends.

use std::sync::Arc;

use agentos_types::Timestamp;
use agentos_wire::Failure;

use crate::{Change, Observed, Tried, config::Member, health::TargetHealth};

#[derive(Debug)]
pub(crate) struct Ticket {
    pub member: usize,
    lane: usize,
    group: String,
    key: String,
    health: Arc<TargetHealth>,
    is_probe: bool,
    /// Its failure is known already.
    has_failed: bool,
    is_over: bool,
}

impl Ticket {
    /// `None` if the breaker of the lane lets nobody through.
    pub fn take(
        member: &Member,
        health: &Arc<TargetHealth>,
        index: usize,
        lane: usize,
        now: Timestamp,
    ) -> Option<Self> {
        let (group, key) = member.place.keys.get(lane)?;
        let mut state = health.state();
        let breaker = state.breaker(group);
        if !breaker.pass(now) {
            return None;
        }
        let is_probe = breaker.is_probing();
        state.in_flight = state.in_flight.saturating_add(1);
        drop(state);
        Some(Self {
            member: index,
            lane,
            group: group.clone(),
            key: key.as_ref().map_or_else(String::new, |key| key.as_str().to_owned()),
            health: health.clone(),
            is_probe,
            has_failed: false,
            is_over: false,
        })
    }

    pub fn observe(&mut self, observed: Observed<'_>, now: Timestamp) -> Option<Change> {
        if let Observed::Failed(_) = observed {
            if self.has_failed {
                return None;
            }
            self.has_failed = true;
        }
        let mut state = self.health.state();
        let change = state.observe(&self.group, &self.key, observed, now);
        if self.is_probe && !matches!(observed, Observed::Nothing) {
            state.breaker(&self.group).release();
            drop(state);
            self.is_probe = false;
        }
        change
    }

    /// The attempt failed; it gives its places back. `None` if it had ended before.
    pub fn end(&mut self, failure: &Failure, now: Timestamp) -> Option<Tried> {
        if self.is_over {
            return None;
        }
        self.observe(Observed::Failed(failure), now);
        self.leave();
        let retry_after_ms = failure.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Some(Tried { target: self.member, lane: self.lane, class: failure.class, retry_after_ms })
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let mut state = self.health.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if self.is_probe {
            state.breaker(&self.group).release();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}
