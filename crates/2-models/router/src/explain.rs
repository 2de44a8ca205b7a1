//! A record in words.

use std::fmt;

use agentos_types::Timestamp;

use crate::{Act, Candidate, DecisionRecord, LaneState, Policy, Situation, Step, Stop};

/// One line for the request, then for each step what was known of each target and what was done.
impl fmt::Display for DecisionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = if self.needs.is_empty() { "nothing special".to_owned() } else { self.needs.join(", ") };
        writeln!(
            f,
            "'{}' at {}, document {}, policy {}: {} tokens at most, needs {needs}",
            self.model,
            self.at,
            self.revision,
            policy(self.rules.policy),
            self.input_tokens
        )?;
        self.steps.iter().enumerate().try_for_each(|(index, step)| step_lines(f, index + 1, step))
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Order => "order",
        Policy::Weight => "weight",
        Policy::Latency => "latency",
        Policy::Price => "price",
    }
}

fn step_lines(f: &mut fmt::Formatter<'_>, number: usize, step: &Step) -> fmt::Result {
    let situation = &step.situation;
    if let Some(tried) = situation.tried.last() {
        let name = situation.candidates.get(tried.target).map_or("?", |candidate| &candidate.target);
        writeln!(f, "{name} failed: {}", tried.class)?;
    }
    for (index, candidate) in situation.candidates.iter().enumerate() {
        writeln!(f, "{number}. {}: {}", candidate.target, standing(candidate, index, step))?;
    }
    if let Act::Stop(stop) = step.act {
        writeln!(f, "{number}. nobody: {}", why_stopped(stop, situation))?;
    }
    Ok(())
}

/// Why one was chosen, or was not.
fn standing(candidate: &Candidate, index: usize, step: &Step) -> String {
    let now = step.situation.now;
    if let Act::Ask { target, lane, pause_ms, continuation } = step.act
        && target == index
    {
        let key = candidate.lanes.get(lane).map_or("", |lane| &lane.key);
        let key = if key.is_empty() { String::new() } else { format!(" with the key '{key}'") };
        let pause = if pause_ms > 0 { format!(" after {pause_ms} ms") } else { String::new() };
        let continuation = if continuation { ", writing on" } else { "" };
        return format!("chosen{key}{pause}{continuation}; {}", figures(candidate));
    }
    if let Some(reason) = candidate.excluded {
        return format!("not possible: {reason}");
    }
    if !candidate.is_open_for_business() {
        let lanes: Vec<String> = candidate.lanes.iter().map(|lane| shut(&lane.key, lane.state, now)).collect();
        return format!("shut: {}", lanes.join(", "));
    }
    if step.situation.tried.iter().any(|tried| tried.target == index) {
        return format!("asked already; {}", figures(candidate));
    }
    format!("possible; {}", figures(candidate))
}

fn shut(key: &str, state: LaneState, now: Timestamp) -> String {
    let left = |until: Timestamp| until.since(now).as_millis();
    let what = match state {
        LaneState::Ready => "ready".to_owned(),
        LaneState::Open { until, .. } => format!("its breaker is open for {} ms", left(until)),
        LaneState::Probing => "another request tries whether it works again".to_owned(),
        LaneState::Cooling { until } => format!("its rate is limited for {} ms", left(until)),
        LaneState::Refused { until } => format!("its key was not accepted, tried again in {} ms", left(until)),
    };
    if key.is_empty() { what } else { format!("{key}: {what}") }
}

fn figures(candidate: &Candidate) -> String {
    let time = candidate.first_byte_us.map_or("no answer yet".to_owned(), |us| format!("first byte {} ms", us / 1_000));
    let cost = candidate.worst_nano_usd.map_or("price unknown".to_owned(), |nano| format!("at most {}", usd(nano)));
    let errors = candidate.errors_permille;
    format!("{time}, {errors} ‰ errors, {} in flight, {cost}, weight {}", candidate.in_flight, candidate.weight)
}

/// Exactly, without the zeros at the end.
fn usd(nano: i64) -> String {
    let nano = nano.max(0);
    let digits = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    format!("${}", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn why_stopped(stop: Stop, situation: &Situation) -> String {
    let left = |until: Timestamp| until.since(situation.now).as_millis();
    match stop {
        Stop::NotCapable => "no target can do what is asked".to_owned(),
        Stop::Shut { until } => format!("all targets are shut; the first opens in {} ms", left(until)),
        Stop::Ramp { until } => format!("a large target died, the next share goes on in {} ms", left(until)),
        Stop::Final => "this failure goes to the client".to_owned(),
        Stop::Attempts => "three attempts were made".to_owned(),
        Stop::Deadline => "no time is left".to_owned(),
        Stop::RetryBudget => "the provider has had its share of retries".to_owned(),
        Stop::Exhausted => "there is nobody else to ask".to_owned(),
    }
}
