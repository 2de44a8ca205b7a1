//! Promises about steps and about changes of our own store: once, by whoever holds the task, and exactly as recorded.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Findings, History, Index, Rule};

pub(crate) fn judge(history: &History, index: &Index<'_>, findings: &mut Findings) {
    done_events(history, index, findings);
    rows(history, index, findings);
    plans(history, index, findings);
    counters(history, index, findings);
    notifications(history, findings);
}

/// Each step that is done says so in exactly one event.
fn done_events(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let mut told: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for event in history.events.iter().filter(|event| event.kind == "step" && event.get("status") == "done") {
        let key = event.get("key").as_str().unwrap_or_default().to_owned();
        *told.entry((&event.task, key)).or_default() += 1;
    }
    for ((task, key), times) in &told {
        let is_done = index.steps_of(task).iter().any(|step| step.key == *key && step.status == "done");
        findings.unless(*times == 1 && is_done, Rule::StepIsDoneOnce, || {
            format!("step {key} of {task} was reported done {times} times, its row says done: {is_done}")
        });
    }
    for step in history.steps.iter().filter(|step| step.status == "done") {
        findings.unless(told.contains_key(&(step.task.as_str(), step.key.clone())), Rule::StepIsDoneOnce, || {
            format!("step {} of {} is done and no event says so", step.key, step.task)
        });
    }
}

fn rows(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let (mut keys, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for step in &history.steps {
        let unique = keys.insert((&step.task, &step.key)) && numbers.insert((&step.task, step.seq));
        findings.unless(unique, Rule::StepIsDoneOnce, || format!("step {} of {} is there twice", step.key, step.task));
        let fence = index.tasks.get(step.task.as_str()).map_or(0, |task| task.fence);
        findings.unless((1..=fence).contains(&step.fence), Rule::StaleHolderWritesNothing, || {
            format!("step {} of {} names fence {} of {fence}", step.key, step.task, step.fence)
        });
    }
}

/// Completed means that everything asked for was done.
fn plans(history: &History, index: &Index<'_>, findings: &mut Findings) {
    for promise in &history.promises {
        let Some(task) = index.by_key.get(promise.key.as_str()).filter(|task| task.state == "completed") else {
            continue;
        };
        let done: BTreeSet<&str> = index
            .steps_of(&task.id)
            .iter()
            .filter(|step| step.status == "done")
            .map(|step| step.key.as_str())
            .collect();
        for key in promise.steps.iter().filter(|key| !done.contains(key.as_str())) {
            findings.add(Rule::CompletedIsDone, format!("{} is completed and its step {key} is not done", task.id));
        }
    }
}

/// The counter of an agent was raised once by each step that says so, neither more nor less.
fn counters(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let mut raised: BTreeMap<&str, i64> = BTreeMap::new();
    for step in history.steps.iter().filter(|step| step.syscall == "kv.put" && step.status == "done") {
        if let Some(task) = index.tasks.get(step.task.as_str()) {
            *raised.entry(&task.agent).or_default() += 1;
        }
    }
    for row in &history.kv {
        let times = raised.remove(row.agent.as_str()).unwrap_or(0);
        let value: i64 = row.value.parse().unwrap_or(-1);
        findings.unless(times == row.version && times == value, Rule::LocalEffectIsExact, || {
            format!("{} of {} is {value} in version {} after {times} steps", row.key, row.agent, row.version)
        });
    }
    for (agent, times) in raised {
        findings.add(Rule::LocalEffectIsExact, format!("{agent} raised a counter {times} times and has none"));
    }
}

/// One notification for each step that published one.
fn notifications(history: &History, findings: &mut Findings) {
    let mut published: BTreeMap<&str, i64> = BTreeMap::new();
    for step in history.steps.iter().filter(|step| step.syscall == "notify.event" && step.status == "done") {
        *published.entry(&step.task).or_default() += 1;
    }
    for row in &history.notifications {
        *published.entry(&row.task).or_default() -= 1;
    }
    for (task, balance) in published.into_iter().filter(|(_, balance)| *balance != 0) {
        findings.add(Rule::LocalEffectIsExact, format!("{task} has {balance} more steps than notifications"));
    }
}
