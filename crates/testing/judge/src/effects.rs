//! Promises about the world outside, judged by what it received.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Findings, History, Index, Request, Rule};

/// Task key and step key.
type Step<'h> = (&'h str, &'h str);

pub(crate) fn judge(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let mut received: BTreeMap<Step<'_>, Vec<&Request>> = BTreeMap::new();
    for request in &history.requests {
        received.entry((&request.task_key, &request.step)).or_default().push(request);
    }
    repeats(&received, findings);
    was_sent(history, index, &received, findings);
    has_intent(index, &received, findings);
}

fn repeats(received: &BTreeMap<Step<'_>, Vec<&Request>>, findings: &mut Findings) {
    let mut owners: BTreeMap<&str, Step<'_>> = BTreeMap::new();
    for (step, requests) in received {
        let Some(first) = requests.first() else { continue };
        match first.safety.as_str() {
            "unsafe" => findings.unless(requests.len() == 1, Rule::UnsafeIsSentOnce, || {
                format!("step {} of {} arrived {} times", step.1, step.0, requests.len())
            }),
            "keyed" => {
                let keys: BTreeSet<&str> =
                    requests.iter().map(|request| request.key.as_deref().unwrap_or("")).collect();
                findings.unless(keys.len() == 1 && !keys.contains(""), Rule::KeyedRepeatsAgree, || {
                    format!("step {} of {} came with the keys {keys:?}", step.1, step.0)
                });
                for key in keys {
                    let owner = *owners.entry(key).or_insert(*step);
                    findings.unless(owner == *step, Rule::KeyedRepeatsAgree, || {
                        format!("key {key} stands for {owner:?} and for {step:?}")
                    });
                }
            }
            _ => {}
        }
    }
}

/// A step that is recorded as done has arrived; an unsafe one that was never begun has not.
fn was_sent(
    history: &History,
    index: &Index<'_>,
    received: &BTreeMap<Step<'_>, Vec<&Request>>,
    findings: &mut Findings,
) {
    let reaches_out = |syscall: &str| syscall == "net.fetch" || syscall == "notify.webhook";
    for step in history.steps.iter().filter(|step| step.status == "done" && reaches_out(&step.syscall)) {
        let key = index.tasks.get(step.task.as_str()).and_then(|task| task.idem_key.as_deref()).unwrap_or_default();
        let arrived = received.get(&(key, step.key.as_str())).map_or(0, Vec::len);
        findings.unless(arrived > 0, Rule::DoneWasSent, || {
            format!("step {} of {} ({key}) is done and never arrived", step.key, step.task)
        });
    }
}

fn has_intent(index: &Index<'_>, received: &BTreeMap<Step<'_>, Vec<&Request>>, findings: &mut Findings) {
    for ((task_key, step), requests) in received {
        let Some(task) = index.by_key.get(task_key) else {
            findings.add(Rule::EffectIsLogged, format!("a request came for {task_key}, which no task has as its key"));
            continue;
        };
        let of_step = |phase: &str| {
            let records = index.records_of(&task.id).iter();
            records.filter(|record| record.phase == phase && record.correlation.as_deref() == Some(*step)).count()
        };
        let intents = of_step("intent");
        findings.unless(intents >= requests.len(), Rule::EffectIsLogged, || {
            format!("step {step} of {} arrived {} times with {intents} intents", task.id, requests.len())
        });
    }
}
