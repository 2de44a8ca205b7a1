//! Promises about schedules: one task for each instant, at instants of the cadence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Findings, History, Rule};

pub(crate) fn judge(history: &History, findings: &mut Findings) {
    let mut instants: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for record in history.log.iter().filter(|record| record.action == "schedule.fire") {
        let fire_at = record.facts.get("fire_at").and_then(Value::as_i64).unwrap_or_default();
        findings.unless(instants.entry(&record.resource).or_default().insert(fire_at), Rule::FiresOnce, || {
            format!("{} fired twice for {fire_at}", record.resource)
        });
    }
    let mut tasks: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for task in &history.tasks {
        if let Some(schedule) = &task.schedule {
            *tasks.entry((schedule, task.idem_key.clone().unwrap_or_default())).or_default() += 1;
        }
    }
    for ((schedule, instant), count) in &tasks {
        let recorded = instant.parse().is_ok_and(|at| instants.get(schedule).is_some_and(|all| all.contains(&at)));
        findings.unless(*count == 1 && recorded, Rule::FiresOnce, || {
            format!("{schedule} has {count} tasks for {instant}, in the log: {recorded}")
        });
    }
    for schedule in &history.schedules {
        let all: Vec<i64> = instants.get(schedule.id.as_str()).into_iter().flatten().copied().collect();
        let made = tasks.keys().filter(|(of, _)| *of == schedule.id).count();
        let guards = history.fires.iter().filter(|row| row.schedule == schedule.id).count();
        let agree =
            [made, guards, usize::try_from(schedule.fired).unwrap_or(usize::MAX)].iter().all(|n| *n == all.len());
        findings.unless(agree, Rule::FiresOnce, || {
            format!(
                "{} fired {} times by the log, {} by its row, has {guards} guard rows and {made} tasks",
                schedule.id,
                all.len(),
                schedule.fired
            )
        });
        on_cadence(&schedule.id, &schedule.cadence, &all, findings);
    }
}

fn on_cadence(id: &str, cadence: &str, instants: &[i64], findings: &mut Findings) {
    let cadence: Value = serde_json::from_str(cadence).unwrap_or_default();
    let Some(every_s) = cadence.get("every_s").and_then(Value::as_i64) else { return };
    for pair in instants.windows(2) {
        let apart = pair[1] - pair[0];
        findings.unless(apart % (every_s * 1_000_000) == 0, Rule::FiresOnce, || {
            format!("{id} fired {apart} us apart, its interval is {every_s} s")
        });
    }
}
