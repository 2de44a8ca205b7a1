//! What an attempt holds: a place among those in flight, and perhaps that of a probe. Given back however it ends.

use std::sync::Arc;

use agentos_types::Timestamp;
use agentos_wire::Failure;

use crate::{
    Change, Observed, Tried,
    config::Member,
    health::{TargetHealth, Way},
};

#[derive(Debug)]
pub(crate) struct Ticket {
    pub member: usize,
    lane: usize,
    group: String,
    key: String,
    health: Arc<TargetHealth>,
    is_stream: bool,
    is_probe: bool,
    /// It still has the place of the probe, and its place among those in flight.
    holds_probe: bool,
    holds_place: bool,
    /// It ended and says nothing about its target.
    is_over: bool,
    /// Once its failure is known.
    pub failed: Option<Tried>,
}

impl Ticket {
    /// `None` if the breaker of the lane lets nobody through.
    pub fn take(
        member: &Member,
        health: &Arc<TargetHealth>,
        index: usize,
        lane: usize,
        is_stream: bool,
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
            is_stream,
            is_probe,
            holds_probe: is_probe,
            holds_place: true,
            is_over: false,
            failed: None,
        })
    }

    pub fn is_under_way(&self) -> bool {
        self.failed.is_none() && !self.is_over
    }

    /// A failure ends it, and so does that there is nothing to be said. Later ones say nothing new.
    pub fn observe(&mut self, observed: Observed<'_>, now: Timestamp) -> Option<Change> {
        if !self.is_under_way() {
            return None;
        }
        let way = Way { group: &self.group, key: &self.key, is_stream: self.is_stream, is_probe: self.is_probe };
        let change = self.health.state().observe(way, observed, now);
        match observed {
            Observed::Nothing => {
                self.is_over = true;
                self.leave();
            }
            Observed::Answered { .. } => self.release_probe(),
            Observed::Failed(failure) => {
                self.failed = Some(self.tried(failure));
                self.leave();
            }
        }
        change
    }

    fn tried(&self, failure: &Failure) -> Tried {
        let retry_after_ms = failure.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Tried { target: self.member, lane: self.lane, class: failure.class, retry_after_ms }
    }

    fn release_probe(&mut self) {
        if std::mem::take(&mut self.holds_probe) {
            self.health.state().breaker(&self.group).release();
        }
    }

    fn leave(&mut self) {
        self.release_probe();
        if std::mem::take(&mut self.holds_place) {
            let mut state = self.health.state();
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}
