//! Promises about tasks: kept, one a key, ended, moved along the allowed moves, counted.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{EventRow, Findings, History, Index, Rule, TaskRow};

const FINAL: [&str; 4] = ["completed", "failed", "canceled", "rejected"];

/// From, to. `working` to itself is the request to cancel.
const MOVES: [(&str, &str); 16] = [
    ("", "submitted"),
    ("submitted", "working"),
    ("submitted", "canceled"),
    ("submitted", "failed"),
    ("working", "working"),
    ("working", "submitted"),
    ("working", "completed"),
    ("working", "failed"),
    ("working", "canceled"),
    ("working", "input-required"),
    ("working", "auth-required"),
    ("input-required", "submitted"),
    ("input-required", "canceled"),
    ("input-required", "failed"),
    ("auth-required", "submitted"),
    // A person redrives a dead letter.
    ("failed", "submitted"),
];

pub(crate) fn judge(history: &History, index: &Index<'_>, findings: &mut Findings) {
    promises(history, index, findings);
    one_task_a_key(history, findings);
    for task in &history.tasks {
        findings.unless(FINAL.contains(&task.state.as_str()), Rule::ComesToRest, || {
            format!("{} ({:?}) is {}", task.id, task.idem_key, task.state)
        });
        let events = index.events.get(task.id.as_str()).map_or(&[][..], Vec::as_slice);
        numbers(task, events, findings);
        let mut walk = Walk { history, task, findings, state: String::new(), attempt: 0, claims: 0 };
        events.iter().for_each(|event| walk.on(event));
        walk.end();
    }
    for event in history.events.iter().filter(|event| !index.tasks.contains_key(event.task.as_str())) {
        findings.add(Rule::EventsHaveNoGap, format!("event {} is about {}, which is not there", event.seq, event.task));
    }
}

fn promises(history: &History, index: &Index<'_>, findings: &mut Findings) {
    for promise in &history.promises {
        let Some(id) = &promise.id else { continue };
        if let Some(other) = &promise.other_id {
            findings.add(Rule::KeyMakesOneTask, format!("key {} was answered with {id} and with {other}", promise.key));
        }
        let Some(task) = index.tasks.get(id.as_str()) else {
            findings.add(Rule::AcknowledgedIsKept, format!("{id} ({}) was acknowledged and is gone", promise.key));
            continue;
        };
        findings.unless(task.idem_key.as_ref() == Some(&promise.key), Rule::AcknowledgedIsKept, || {
            format!("{id} was acknowledged for {} and belongs to {:?}", promise.key, task.idem_key)
        });
        findings.unless(!promise.canceled || task.state == "canceled", Rule::AcknowledgedIsKept, || {
            format!("{id} was acknowledged as canceled and is {}", task.state)
        });
        let kept = promise.seen_final.as_ref().is_none_or(|seen| *seen == task.state);
        findings.unless(kept, Rule::AcknowledgedIsKept, || {
            format!("{id} was {} when it was read and is {}", promise.seen_final.as_deref().unwrap_or(""), task.state)
        });
    }
}

fn one_task_a_key(history: &History, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for task in history.tasks.iter().filter(|task| task.idem_key.is_some()) {
        findings.unless(seen.insert((&task.idem_scope, &task.idem_key)), Rule::KeyMakesOneTask, || {
            format!("{} is the second task of key {:?}", task.id, task.idem_key)
        });
    }
}

fn numbers(task: &TaskRow, events: &[&EventRow], findings: &mut Findings) {
    let found = events.iter().map(|event| event.seq);
    findings.unless(found.eq(1..=task.event_seq), Rule::EventsHaveNoGap, || {
        let found: Vec<i64> = events.iter().map(|event| event.seq).collect();
        format!("{} has events {found:?} and has counted {}", task.id, task.event_seq)
    });
}

/// Follows one task from event to event.
struct Walk<'w> {
    history: &'w History,
    task: &'w TaskRow,
    findings: &'w mut Findings,
    state: String,
    attempt: i64,
    claims: i64,
}

impl Walk<'_> {
    fn on(&mut self, event: &EventRow) {
        match event.kind.as_str() {
            "state" => self.moves(event),
            // What a worker reports, it may report only while it holds the task.
            "step" | "progress" | "notify" => {
                let (task, state, kind, seq) = (&self.task.id, &self.state, &event.kind, event.seq);
                self.findings.unless(state == "working", Rule::StaleHolderWritesNothing, || {
                    format!("event {seq} ({kind}) of {task} was written while it was {state}")
                });
            }
            other => self.findings.add(Rule::MovesAreAllowed, format!("{}: unknown event {other}", self.task.id)),
        }
    }

    fn moves(&mut self, event: &EventRow) {
        let to = event.get("state").as_str().unwrap_or_default().to_owned();
        let from = std::mem::replace(&mut self.state, to.clone());
        let asked = event.get("cancel_asked") == Value::Bool(true);
        let allowed = MOVES.contains(&(from.as_str(), to.as_str())) && (from != "working" || to != "working" || asked);
        self.findings.unless(allowed, Rule::MovesAreAllowed, || {
            format!("{} went from {from} to {to} with event {}", self.task.id, event.seq)
        });
        // The first event says no attempt yet.
        let told = event.get("attempt").as_i64().unwrap_or(0);
        let expected = match (from.as_str(), to.as_str()) {
            ("submitted", "working") => {
                self.claims += 1;
                told == self.attempt + 1
            }
            ("failed", "submitted") => told == 0,
            ("working", _) if told == self.attempt - 1 => self.history.orderly_stops > 0,
            _ => told == self.attempt,
        };
        self.findings.unless(expected, Rule::AttemptsAreCounted, || {
            format!("{}: attempt {told} after {} with event {} ({from} to {to})", self.task.id, self.attempt, event.seq)
        });
        self.attempt = told;
    }

    fn end(self) {
        let Self { task, findings, state, attempt, claims, .. } = self;
        findings.unless(state == task.state, Rule::MovesAreAllowed, || {
            format!("{} is {} and its last event says {state}", task.id, task.state)
        });
        findings.unless(attempt == task.attempt && attempt <= task.attempts_max, Rule::AttemptsAreCounted, || {
            format!("{}: attempt {} of {} where events say {attempt}", task.id, task.attempt, task.attempts_max)
        });
        // A deadline that passes while somebody works on the task takes one more fence.
        findings.unless((0..=1).contains(&(task.fence - claims)), Rule::StaleHolderWritesNothing, || {
            format!("{} was claimed {claims} times and has fence {}", task.id, task.fence)
        });
        let given_up = task.state == "failed" && task.failure_class.as_deref() == Some("crash");
        findings.unless(!given_up || task.attempt >= task.attempts_max, Rule::AttemptsAreCounted, || {
            format!("{} was given up after {} of {} attempts", task.id, task.attempt, task.attempts_max)
        });
    }
}
