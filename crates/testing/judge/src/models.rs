//! Promises about calls of models: budgets that hold over every death, and answers that are recorded before anybody has them.

use std::collections::BTreeMap;

use crate::{Findings, History, Index, Record, Rule};

/// The unit in which providers bill.
const MONEY: &str = "nano-usd";

pub(crate) fn judge(history: &History, index: &Index<'_>, findings: &mut Findings) {
    budgets(history, index, findings);
    bills(history, index, findings);
    answers(history, findings);
    asks(history, index, findings);
    again(history, findings);
}

/// Where the budget of a count is set: that of a run, for all runs of its agent.
fn budgeted(scope: &str, index: &Index<'_>) -> String {
    let agent = scope.strip_prefix("run:").and_then(|task| index.tasks.get(task)).map(|task| &task.agent);
    agent.map_or_else(|| scope.to_owned(), |agent| format!("runs-of:{agent}"))
}

fn budgets(history: &History, index: &Index<'_>, findings: &mut Findings) {
    for count in &history.uses {
        let scope = budgeted(&count.scope, index);
        let same = history
            .budgets
            .iter()
            .filter(|budget| budget.scope == scope && budget.period == count.period && budget.unit == count.unit);
        for budget in same {
            findings.unless(count.used.saturating_add(count.leased) <= budget.amount, Rule::BudgetHolds, || {
                format!("{} has used {} and leases {} of {}", count.scope, count.used, count.leased, budget.amount)
            });
        }
    }
}

/// What was billed for certain counts against everybody who has a budget for it.
fn bills(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let mut billed: BTreeMap<String, i64> = BTreeMap::new();
    for ask in &history.asks {
        let task = index.by_key.get(ask.task_key.as_str());
        let scopes = task.map(|task| [format!("run:{}", task.id), format!("agent:{}", task.agent)]);
        for scope in scopes.into_iter().flatten().chain(ask.payer.clone()) {
            *billed.entry(scope).or_default() += ask.cost_nano_usd;
        }
    }
    for budget in history.budgets.iter().filter(|budget| budget.unit == MONEY && budget.period == "total") {
        for (scope, sum) in billed.iter().filter(|(scope, _)| budgeted(scope, index) == budget.scope) {
            let of = history
                .uses
                .iter()
                .find(|count| count.scope == *scope && count.unit == budget.unit && count.period == budget.period);
            let used = of.map_or(0, |count| count.used);
            findings.unless(*sum <= used, Rule::SpendIsCounted, || {
                format!("{scope} was billed {sum} and {used} count as used")
            });
        }
    }
}

fn answers(history: &History, findings: &mut Findings) {
    for answer in &history.answers {
        let mine = || history.log.iter().filter(|record| record.correlation.as_ref() == Some(answer));
        let ended = mine().any(|record| record.phase == "outcome" && record.decision == "succeeded");
        findings.unless(ended && mine().any(|record| record.phase == "intent"), Rule::AnswerIsLogged, || {
            format!("a client has the answer to {answer}, of which the log knows no good end")
        });
    }
}

/// A question of a task left only after its intent.
fn asks(history: &History, index: &Index<'_>, findings: &mut Findings) {
    let mut asked: BTreeMap<(&str, &str, bool), usize> = BTreeMap::new();
    for ask in history.asks.iter().filter(|ask| !ask.task_key.is_empty()) {
        let step = if ask.is_inside { "" } else { ask.step.as_str() };
        *asked.entry((&ask.task_key, step, ask.is_inside)).or_default() += 1;
    }
    for ((task_key, step, is_inside), times) in asked {
        let Some(task) = index.by_key.get(task_key) else {
            findings
                .add(Rule::EffectIsLogged, format!("a model was asked for {task_key}, which no task has as its key"));
            continue;
        };
        let is_its = |record: &&&Record| match is_inside {
            true => record.is_of_the_door(),
            false => record.correlation.as_deref() == Some(step),
        };
        let records = index.records_of(&task.id).iter().filter(|record| record.phase == "intent");
        let intents = records.filter(is_its).count();
        findings.unless(times <= intents, Rule::EffectIsLogged, || {
            format!("step {step} of {} asked a model {times} times with {intents} intents", task.id)
        });
    }
}

/// After an outcome that succeeded comes no intent for the same question of the same task. Equal questions of one attempt are two;
/// the load has none.
fn again(history: &History, findings: &mut Findings) {
    let mut answered: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for record in history.log.iter().filter(|record| record.action == "model.call") {
        let (Some(task), Some(correlation)) = (&record.task, &record.correlation) else { continue };
        let question = (task.as_str(), record.request_sha256().unwrap_or(correlation));
        match (record.phase.as_str(), answered.get(&question)) {
            ("intent", Some(before)) => findings.add(
                Rule::AnsweredIsNotAskedAgain,
                format!("{question:?} was answered by record {before} and asked for again by record {}", record.seq),
            ),
            ("outcome", _) if record.decision == "succeeded" => {
                answered.insert(question, record.seq);
            }
            _ => {}
        }
    }
}
