//! The attempts of one request: what is asked first, what after each failure, and how each went.

use std::{mem::take, sync::Arc, time::Duration};

use agentos_catalog::{Capabilities, Capability, Terms};
use agentos_types::Timestamp;
use agentos_wire::{Failure, Protocol};

use crate::{
    Act, Asked, Candidate, Change, DecisionRecord, Decisions, Exclusion, Lane, LaneState, NoTarget, Observed,
    Situation, Step, Stop, Target,
    choose::decide,
    config::{Config, Fit, Group, Hedge, Member},
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
    is_stream: bool,
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
        let act = plan.choose(asked.now, &[]);
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
        let step = plan.step(asked.now, &[]);
        plan.record.steps.push(step);
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
            is_stream: asked.stream,
            tickets: Vec::new(),
            first: None,
            stop: None,
            record,
        }
    }

    /// What is tried next: first with `None`, then with the failure of what was asked last. `None` is the end, and that failure is
    /// what the client is told.
    pub fn next(&mut self, last: Option<&Failure>, now: Timestamp) -> Option<Target> {
        let Some(failure) = last else { return self.first.take() };
        if let Some(ticket) = self.tickets.iter_mut().rfind(|ticket| ticket.is_under_way()) {
            ticket.observe(Observed::Failed(failure), now);
        }
        let act = self.choose(now, &[]);
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

    /// Of a plan that is over: what is left says nothing of its choices any more.
    pub fn take_record(&mut self) -> DecisionRecord {
        let record = &mut self.record;
        DecisionRecord {
            model: take(&mut record.model),
            needs: take(&mut record.needs),
            rules: take(&mut record.rules),
            steps: take(&mut record.steps),
            ..*record
        }
    }

    /// The operator wants it kept with the call.
    pub fn is_kept(&self) -> bool {
        self.config.document().decisions == Decisions::Keep
    }

    /// Another target beside the one that is slow: if the route wants it, if it is not one that was asked, and if its provider
    /// has had no more than its share of such requests. It counts as an attempt; who loses is dropped and settled by its caller.
    pub fn hedge(&mut self, now: Timestamp) -> Option<Target> {
        self.group.hedge?;
        let under_way: Vec<usize> =
            self.tickets.iter().filter(|ticket| ticket.is_under_way()).map(|ticket| ticket.member).collect();
        if under_way.is_empty() {
            return None;
        }
        match self.choose(now, &under_way) {
            Act::Ask { target, lane, .. } => self.target(target, lane, Duration::ZERO, false),
            Act::Stop(_) => None,
        }
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
    fn choose(&mut self, now: Timestamp, under_way: &[usize]) -> Act {
        for _ in 0..RACES_MAX {
            let step = self.step(now, under_way);
            let held = match step.act {
                Act::Ask { target, lane, .. } => self.hold(target, lane, !under_way.is_empty(), now),
                Act::Stop(_) => true,
            };
            if held {
                let act = step.act;
                self.record.steps.push(step);
                return act;
            }
        }
        // Others took every place in between, so that soon there are some again.
        Act::Stop(Stop::Shut { until: now.after(Duration::from_secs(1)) })
    }

    fn step(&self, now: Timestamp, under_way: &[usize]) -> Step {
        let situation = Situation {
            now,
            deadline: self.deadline,
            attempts: self.tickets.len(),
            tried: self.tickets.iter().filter_map(|ticket| ticket.failed).collect(),
            under_way: under_way.to_vec(),
            candidates: self.candidates(now),
        };
        let act = decide(&self.group.rules, self.seed, &situation);
        Step { situation, act }
    }

    /// Takes the places of an attempt and pays for it. An ordinary request earns its provider a part of a retry; a retry that
    /// stays with the provider costs one.
    fn hold(&mut self, target: usize, lane: usize, is_hedge: bool, now: Timestamp) -> bool {
        let Some(member) = self.group.members.get(target) else { return false };
        let health = member.health(&self.healths);
        let Some(ticket) = Ticket::take(member, health, target, lane, self.is_stream, now) else { return false };
        let buckets = member.place.buckets(&self.healths);
        let last = self.tickets.last().and_then(|ticket| self.group.members.get(ticket.member));
        let stays = last.is_some_and(|last| Arc::ptr_eq(&last.place, &member.place));
        let paid = match (is_hedge, stays) {
            // Beside another target of the same provider it is a retry as well.
            (true, true) => buckets.retries.has() && buckets.hedges.spend() && buckets.retries.spend(),
            (true, false) => buckets.hedges.spend(),
            (false, true) => buckets.retries.spend(),
            (false, false) => {
                buckets.retries.earn();
                buckets.hedges.earn();
                true
            }
        };
        if paid {
            self.tickets.push(ticket);
        }
        paid
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
        let buckets = member.place.buckets(&self.healths);
        Candidate {
            target: member.id.clone(),
            weight: member.weight,
            excluded: self.fits.get(index).and_then(|fit| (*fit).err()),
            lanes,
            first_byte_us: state.latency_of(self.is_stream).first_byte_us(),
            errors_permille: state.errors.permille(),
            in_flight: state.in_flight,
            calls: state.window.sums(now).0,
            worst_nano_usd: self.worst.get(index).copied().flatten(),
            context: member.facts.context.or(member.facts.input_max),
            can_prefill: self.can_prefill(index, member),
            may_retry: buckets.retries.has(),
            may_hedge: buckets.hedges.has(),
        }
    }

    /// Of the protocols that are spoken here only Messages says what an answer's beginning at the end of a request means. In the others
    /// a server may take it for a turn that is over, and begin another answer.
    fn can_prefill(&self, index: usize, member: &Member) -> bool {
        let fit = self.fits.get(index).and_then(|fit| fit.as_ref().ok());
        let is_said = member.facts.capabilities.get(Capability::Prefill) == Some(true);
        is_said && !member.is_whole_only && fit.is_some_and(|fit| fit.protocol == Protocol::Messages)
    }

    fn p95(&self, member: &Member) -> Option<Duration> {
        member.health(&self.healths).state().latency_of(self.is_stream).p95()
    }

    fn target(&self, index: usize, lane: usize, pause: Duration, is_continuation: bool) -> Option<Target> {
        let member = self.group.members.get(index)?;
        let fit = self.fits.get(index)?.as_ref().ok()?;
        let place = &member.place;
        let (key_group, key) = place.keys.get(lane)?;
        let price_is_assumed = member.facts.price.is_none() && self.config.assumed_price.is_some();
        let hedge_after = match self.group.hedge {
            None => None,
            Some(Hedge::Slow) => self.p95(member),
            Some(Hedge::After(after)) => Some(after),
        };
        Some(Target {
            id: member.id.clone(),
            route: self.group.alias.clone(),
            provider: place.name.clone(),
            kind: place.kind,
            base_url: place.base_url.clone(),
            model: member.upstream.clone(),
            protocol: fit.protocol,
            api_version: place.said.api_version.clone(),
            sigv4_region: place.said.sigv4_region.clone(),
            key: key.clone(),
            key_group: key_group.clone(),
            headers: place.headers.clone(),
            price: member.facts.price.clone().or_else(|| self.config.assumed_price.clone()),
            price_is_assumed,
            context: member.facts.context,
            output_max: member.facts.output_max,
            image_tokens: member.image_tokens,
            emulate: fit.emulate,
            drop_fields: member.drop_fields.clone(),
            is_whole_only: member.is_whole_only,
            waits: member.waits,
            attempt: u32::try_from(self.tickets.len()).unwrap_or(u32::MAX),
            pause,
            is_continuation,
            may_continue: self.group.rules.continuation,
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
