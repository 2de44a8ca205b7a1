//! The attempts of one request: what is asked first, what after each failure, and how each went.

use std::{sync::Arc, time::Duration};

use agentos_catalog::{Capabilities, Capability, Terms};
use agentos_types::Timestamp;
use agentos_wire::Failure;

use crate::{
    Act, Asked, Candidate, Change, DecisionRecord, Exclusion, Lane, LaneState, NoTarget, Observed, Situation, Step,
    Stop, Target, Tried,
    choose::{ATTEMPTS_MAX, decide},
    config::{Config, Fit, Group, Member},
    health::{BreakerState, Healths, State},
};

mod ticket;

use ticket::Ticket;

/// Times that a choice is made again because another request took the place of a probe in between.
const RACES_MAX: usize = 4;

/// Output of a request that names no limit, for comparing prices only.
const OUTPUT_USUAL: u64 = 4_096;

/// Of one request. Dropping it gives back what it holds.
#[derive(Debug)]
pub struct Plan {
    healths: Arc<Healths>,
    config: Arc<Config>,
    group: Arc<Group>,
    /// For each member.
    fits: Vec<Result<Fit, Exclusion>>,
    worst: Vec<Option<i64>>,
    deadline: Timestamp,
    seed: u64,
    tried: Vec<Tried>,
    tickets: Vec<Ticket>,
    first: Option<Target>,
    stop: Option<Stop>,
    record: DecisionRecord,
}

impl Plan {
    pub(crate) fn begin(
        config: Arc<Config>,
        group: Arc<Group>,
        healths: Arc<Healths>,
        asked: &Asked<'_>,
    ) -> Result<Self, NoTarget> {
        let mut plan = Self::new(config, group, healths, asked);
        let act = plan.choose(asked.now, true);
        match act {
            Act::Ask { .. } => {
                plan.first = plan.go(act);
                Ok(plan)
            }
            Act::Stop(stop) => Err(plan.refusal(stop, asked)),
        }
    }

    /// The choice alone: nothing is held and nobody is asked.
    pub(crate) fn dry(
        config: Arc<Config>,
        group: Arc<Group>,
        healths: Arc<Healths>,
        asked: &Asked<'_>,
    ) -> DecisionRecord {
        let mut plan = Self::new(config, group, healths, asked);
        plan.choose(asked.now, false);
        plan.record
    }

    fn new(config: Arc<Config>, group: Arc<Group>, healths: Arc<Healths>, asked: &Asked<'_>) -> Self {
        let assumed = config.assumed_price.is_some();
        let fits: Vec<_> = group.members.iter().map(|member| member.fit(asked, &group, assumed)).collect();
        let output = asked.max_output_tokens.unwrap_or(OUTPUT_USUAL);
        let terms = Terms { at: Some(asked.now), ..Terms::default() };
        let worst = group.members.iter().map(|member| {
            let price = member.facts.price.as_ref().or(config.assumed_price.as_ref())?;
            Some(price.worst_on(asked.input_tokens, output, &terms))
        });
        let record = DecisionRecord {
            at: asked.now,
            revision: config.revision,
            model: asked.model.to_owned(),
            operation: asked.operation,
            needs: Capabilities::needed(&asked.needs).map(|need| need.as_str().to_owned()).collect(),
            input_tokens: asked.input_tokens,
            max_output_tokens: asked.max_output_tokens,
            budgeted: asked.budgeted,
            seed: asked.seed,
            rules: group.rules.clone(),
            steps: Vec::with_capacity(1),
        };
        Self {
            worst: worst.collect(),
            healths,
            config,
            group,
            fits,
            deadline: asked.deadline,
            seed: asked.seed,
            tried: Vec::new(),
            tickets: Vec::new(),
            first: None,
            stop: None,
            record,
        }
    }

    /// What is tried next: first with `None`, then with the failure of the last target. `None` is the end, and that failure is
    /// what the client is told.
    pub fn next(&mut self, last: Option<&Failure>, now: Timestamp) -> Option<Target> {
        let Some(failure) = last else { return self.first.take() };
        let ticket = self.tickets.last_mut()?;
        let tried = ticket.end(failure, now)?;
        self.tried.push(tried);
        let act = self.choose(now, true);
        self.go(act)
    }

    /// How an attempt goes: its first byte, its failure, or nothing to be said. What comes after the first byte may be reported
    /// too; a failure that [`Plan::next`] is told of needs no report of its own.
    pub fn report(&mut self, target: &Target, observed: Observed<'_>, now: Timestamp) -> Option<Change> {
        let index = usize::try_from(target.attempt).ok()?.checked_sub(1)?;
        self.tickets.get_mut(index)?.observe(observed, now)
    }

    /// Why it ended, once `next` has said that it did.
    pub fn stopped(&self) -> Option<Stop> {
        self.stop
    }

    /// Of all choices so far.
    pub fn record(&self) -> &DecisionRecord {
        &self.record
    }

    /// Another target beside the one that is slow: if the route wants it, if it is not one that was asked, and if its provider
    /// has had no more than its share of such requests. The attempt counts; who loses is dropped and settled by its caller.
    pub fn hedge(&mut self, now: Timestamp) -> Option<Target> {
        if !self.group.hedge || self.tickets.len() >= ATTEMPTS_MAX || now >= self.deadline {
            return None;
        }
        let asked: Vec<usize> = self.tickets.iter().map(|ticket| ticket.member).collect();
        let candidates = self.candidates(now);
        let other = candidates.iter().enumerate().find_map(|(index, candidate)| {
            let lane = candidate.ready_lane(self.seed, |_, _| true)?;
            (!asked.contains(&index) && candidate.excluded.is_none()).then_some((index, lane))
        });
        let (index, lane) = other?;
        if !self.group.members.get(index)?.place.buckets(&self.healths).hedges.spend() {
            return None;
        }
        self.hold(index, lane, now).then(|| self.target(index, lane, Duration::ZERO, false))?
    }

    fn refusal(&self, stop: Stop, asked: &Asked<'_>) -> NoTarget {
        let model = asked.model.to_owned();
        match stop {
            Stop::Shut { until } | Stop::Ramp { until } => NoTarget::Unavailable { model, until, now: asked.now, stop },
            Stop::Deadline => NoTarget::Late,
            _ => {
                let reasons = self.group.members.iter().zip(&self.fits);
                let reasons = reasons.filter_map(|(member, fit)| Some((member.id.clone(), (*fit).err()?)));
                NoTarget::NotCapable { model, reasons: reasons.collect() }
            }
        }
    }

    /// Decides, and holds what it decided on. Another request may have taken the place in between; then it is decided anew, with
    /// that place taken.
    fn choose(&mut self, now: Timestamp, hold: bool) -> Act {
        let mut act = Act::Stop(Stop::Exhausted);
        for _ in 0..RACES_MAX {
            let situation =
                Situation { now, deadline: self.deadline, tried: self.tried.clone(), candidates: self.candidates(now) };
            act = decide(&self.group.rules, self.seed, &situation);
            let held = match act {
                Act::Ask { target, lane, .. } if hold => self.pay(target) && self.hold(target, lane, now),
                _ => true,
            };
            if held {
                self.record.steps.push(Step { situation, act });
                return act;
            }
            act = Act::Stop(Stop::Exhausted);
        }
        act
    }

    /// An ordinary request earns its provider a part of a retry; a retry costs one.
    fn pay(&self, target: usize) -> bool {
        let Some(member) = self.group.members.get(target) else { return false };
        let buckets = member.place.buckets(&self.healths);
        if self.tickets.is_empty() {
            buckets.retries.earn();
            buckets.hedges.earn();
            return true;
        }
        buckets.retries.spend()
    }

    fn hold(&mut self, target: usize, lane: usize, now: Timestamp) -> bool {
        let Some(member) = self.group.members.get(target) else { return false };
        let Some(ticket) = Ticket::take(member, member.health(&self.healths), target, lane, now) else { return false };
        self.tickets.push(ticket);
        true
    }

    fn go(&mut self, act: Act) -> Option<Target> {
        match act {
            Act::Ask { target, lane, pause_ms, continuation } => {
                self.target(target, lane, Duration::from_millis(pause_ms), continuation)
            }
            Act::Stop(stop) => {
                self.stop = Some(stop);
                None
            }
        }
    }

    fn candidates(&self, now: Timestamp) -> Vec<Candidate> {
        let members = self.group.members.iter().enumerate();
        members.map(|(index, member)| self.candidate(index, member, now)).collect()
    }

    fn candidate(&self, index: usize, member: &Member, now: Timestamp) -> Candidate {
        let mut state = member.health(&self.healths).state();
        let keys = member.place.keys.iter();
        let lanes = keys.map(|(group, key)| {
            let key = key.as_ref().map_or("", |key| key.as_str());
            Lane { group: group.clone(), key: key.to_owned(), state: lane_state(&mut state, group, key, now) }
        });
        let lanes = lanes.collect();
        Candidate {
            target: member.id.clone(),
            weight: member.weight,
            excluded: self.fits.get(index).and_then(|fit| (*fit).err()),
            lanes,
            first_byte_us: state.latency.first_byte_us(),
            errors_permille: state.latency.errors_permille(),
            in_flight: state.in_flight,
            calls: state.window.sums(now).0,
            worst_nano_usd: self.worst.get(index).copied().flatten(),
            context: member.facts.context.or(member.facts.input_max),
            can_prefill: member.facts.capabilities.get(Capability::Prefill) == Some(true),
            may_retry: member.place.buckets(&self.healths).retries.has(),
        }
    }

    fn target(&self, index: usize, lane: usize, pause: Duration, is_continuation: bool) -> Option<Target> {
        let member = self.group.members.get(index)?;
        let fit = self.fits.get(index)?.as_ref().ok()?;
        let place = &member.place;
        let (key_group, key) = place.keys.get(lane)?;
        let price_is_assumed = member.facts.price.is_none() && self.config.assumed_price.is_some();
        let hedge_after = if self.group.hedge { member.health(&self.healths).state().latency.p95() } else { None };
        Some(Target {
            id: member.id.clone(),
            route: self.group.alias.clone(),
            provider: place.name.clone(),
            kind: place.kind,
            base_url: place.base_url.clone(),
            model: member.upstream.clone(),
            protocol: fit.protocol,
            api_version: place.said.api_version.clone(),
            key: key.clone(),
            key_group: key_group.clone(),
            headers: place.headers.clone(),
            price: member.facts.price.clone().or_else(|| self.config.assumed_price.clone()),
            price_is_assumed,
            context: member.facts.context,
            output_max: member.facts.output_max,
            emulate: fit.emulate,
            drop_fields: member.drop_fields.clone(),
            is_whole_only: member.is_whole_only,
            waits: member.waits,
            attempt: u32::try_from(self.tickets.len()).unwrap_or(u32::MAX),
            pause,
            is_continuation,
            hedge_after,
        })
    }
}

/// What shuts it for longest counts.
fn lane_state(state: &mut State, group: &str, key: &str, now: Timestamp) -> LaneState {
    let shut = state.keys.get(key).and_then(|key| key.shut(now));
    if let Some((until, true)) = shut {
        return LaneState::Refused { until };
    }
    let breaker = state.breaker(group);
    match (breaker.look(now), shut) {
        ((BreakerState::Open, until), cooling) => {
            let (age, calls) = breaker.opened(now).unwrap_or_default();
            let until = until.unwrap_or(now).max(cooling.map_or(now, |(until, _)| until));
            LaneState::Open { until, since: now.before(age), calls }
        }
        (_, Some((until, _))) => LaneState::Cooling { until },
        _ if breaker.is_probing() => LaneState::Probing,
        _ => LaneState::Ready,
    }
}

#[cfg(test)]
mod tests;
