//! Promises about the audit log: whole, an intent and an outcome for every effect, a record for every change and none
//! without one, and nobody who writes after the end of the server that he belonged to.

use std::collections::BTreeMap;

use crate::{Findings, History, Index, Record, Rule};

pub(crate) fn judge(history: &History, index: &Index<'_>, findings: &mut Findings) {
    findings.unless(history.log_verifies, Rule::LogVerifies, || "the verifier refuses the exported log".to_owned());
    let places = history.log.iter().map(|record| record.seq);
    findings.unless(places.eq(0..history.log.len() as u64), Rule::LogVerifies, || {
        "the records of the exported log do not count from 0 without a gap".to_owned()
    });
    pairs(history, findings);
    epochs(history, findings);
    step_records(history, index, findings);
    task_records(history, index, findings);
}

/// After an intent comes its outcome, unless the server that wrote it came to its end.
fn pairs(history: &History, findings: &mut Findings) {
    let mut open: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut last_start = 0;
    let name =
        |record: &Record| (record.task.clone().unwrap_or_default(), record.correlation.clone().unwrap_or_default());
    for record in &history.log {
        match (record.action.as_str(), record.phase.as_str()) {
            ("server.start", _) => last_start = record.seq,
            (_, "intent") => {
                if let Some(earlier) = open.insert(name(record), record.seq) {
                    findings.unless(earlier < last_start, Rule::EffectIsLogged, || {
                        format!(
                            "intents {earlier} and {} of {:?} with no end of the server between",
                            record.seq,
                            name(record)
                        )
                    });
                }
            }
            (_, "outcome") => {
                let intent = open.remove(&name(record));
                findings.unless(intent.is_some_and(|intent| intent > last_start), Rule::EffectIsLogged, || {
                    format!("outcome {} of {:?} has no intent of the same server", record.seq, name(record))
                });
            }
            _ => {}
        }
    }
    for (step, intent) in open {
        findings.unless(intent < last_start, Rule::EffectIsLogged, || {
            format!("intent {intent} of {step:?} has no outcome, and the server lived on")
        });
    }
}

/// A process of an agent belongs to one start of the server.
fn epochs(history: &History, findings: &mut Findings) {
    let mut born: BTreeMap<&str, usize> = BTreeMap::new();
    let mut epoch = 0;
    for record in &history.log {
        if record.action == "server.start" {
            epoch += 1;
        }
        if let Some(instance) = record.instance() {
            let first = *born.entry(instance).or_insert(epoch);
            findings.unless(first == epoch, Rule::StaleHolderWritesNothing, || {
                format!("record {} is by {instance}, whose server had ended", record.seq)
            });
        }
    }
}

fn step_records(history: &History, index: &Index<'_>, findings: &mut Findings) {
    for step in &history.steps {
        let records = index.records_of(&step.task).iter();
        let mine = records.filter(|record| match step.asked_inside() {
            Some(hash) => record.request_sha256().is_some_and(|whole| whole.starts_with(hash)),
            None => record.correlation.as_deref() == Some(step.key.as_str()),
        });
        let succeeded = |phase: &str| mine.clone().filter(|r| r.phase == phase && r.decision == "succeeded").count();
        let holds = match (step.is_outward(), step.status.as_str()) {
            (true, "done") if step.safety == "unsafe" => succeeded("outcome") == 1,
            (true, "done") => succeeded("outcome") >= 1,
            (true, _) => succeeded("intent") == 0 && mine.clone().any(|record| record.phase == "intent"),
            (false, "done") => succeeded("fact") == 1,
            // A change of our own store is done with its first record or was never there.
            (false, _) => false,
        };
        findings.unless(holds, Rule::EffectIsLogged, || {
            format!("step {} ({}, {}) of {} does not fit its records", step.key, step.syscall, step.status, step.task)
        });
    }
}

/// A task and its record, an end and its record: both or neither.
fn task_records(history: &History, index: &Index<'_>, findings: &mut Findings) {
    for task in &history.tasks {
        let records = index.records_of(&task.id);
        let submits = records.iter().filter(|record| record.action == "task.submit").count();
        findings.unless(submits == 1, Rule::ChangeIsLogged, || {
            format!("{} has {submits} records of its submission", task.id)
        });
        let is_final = |state: &str| ["completed", "failed", "canceled"].contains(&state);
        let ended = |record: &&&Record| {
            ["task.finish", "task.cancel"].contains(&record.action.as_str())
                && record.facts.get("state").and_then(|state| state.as_str()).is_some_and(is_final)
        };
        let ends = records.iter().filter(ended).count();
        let events = index.events.get(task.id.as_str()).map_or(&[][..], Vec::as_slice).iter();
        let told =
            events.filter(|event| event.kind == "state" && event.get("state").as_str().is_some_and(is_final)).count();
        findings.unless(ends == told, Rule::ChangeIsLogged, || {
            format!("{} ended {told} times by its events and {ends} times by the log", task.id)
        });
    }
    for record in history.log.iter().filter(|record| record.action == "task.submit") {
        let known = record.task.as_deref().is_some_and(|task| index.tasks.contains_key(task));
        findings.unless(known, Rule::ChangeIsLogged, || {
            format!("record {} is about {}, which is not there", record.seq, record.resource)
        });
    }
}
