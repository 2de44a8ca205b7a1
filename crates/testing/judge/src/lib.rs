//! The independent checker: given what clients were told, what the outside world received, what the database holds and
//! what the audit log says, it names every broken promise.
//!
//! It shares no code and no SQL with the product. Its rules, its table of allowed moves and its idea of a task are written
//! here a second time on purpose. It says nothing about speed, and nothing about a run that has not come to rest.

#![expect(clippy::expect_used, reason = "a history that cannot be read must stop the test with a message")]

mod effects;
mod fires;
mod history;
mod log;
mod models;
mod read;
mod steps;
mod tasks;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

pub use history::{
    Ask, BudgetRow, EventRow, FireRow, History, KvRow, NotificationRow, Promise, Record, Request, ScheduleRow, StepRow,
    TaskRow, UseRow,
};
pub use read::{parse_segment, read_postgres, read_sqlite};

/// What was promised. Each is tested with a history that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// What a client was told is there: the task, its cancel, its end.
    AcknowledgedIsKept,
    /// One task an idempotency key.
    KeyMakesOneTask,
    /// Everything has come to an end.
    ComesToRest,
    /// A task moves only along the allowed moves, and its row is where its last event says.
    MovesAreAllowed,
    /// Event numbers of a task have no gap and no duplicate.
    EventsHaveNoGap,
    /// Every claim is counted, and no more claims than allowed.
    AttemptsAreCounted,
    /// A completed task has done all of its steps.
    CompletedIsDone,
    /// A step is recorded once.
    StepIsDoneOnce,
    /// Nothing is written for a task by somebody who does not hold it.
    StaleHolderWritesNothing,
    /// A change of our own store happened as often as its steps say.
    LocalEffectIsExact,
    /// A request that may not be repeated arrived at most once.
    UnsafeIsSentOnce,
    /// Repeats of a keyed request carry one key, which nobody else uses.
    KeyedRepeatsAgree,
    /// A step that is done has reached the world.
    DoneWasSent,
    /// Each instant of a schedule has one task.
    FiresOnce,
    /// The log is whole.
    LogVerifies,
    /// An effect has its intent before it, and an outcome unless the server died.
    EffectIsLogged,
    /// A change and its record are there together or not at all.
    ChangeIsLogged,
    /// No more is used of a budget than there is.
    BudgetHolds,
    /// What a provider has billed counts as used.
    SpendIsCounted,
    /// Nobody has an answer of a model that the log does not know of.
    AnswerIsLogged,
    /// What a task was answered by a model is not asked for again.
    AnsweredIsNotAskedAgain,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub what: String,
}

impl Rule {
    pub const ALL: [Rule; 21] = [
        Rule::AcknowledgedIsKept,
        Rule::KeyMakesOneTask,
        Rule::ComesToRest,
        Rule::MovesAreAllowed,
        Rule::EventsHaveNoGap,
        Rule::AttemptsAreCounted,
        Rule::CompletedIsDone,
        Rule::StepIsDoneOnce,
        Rule::StaleHolderWritesNothing,
        Rule::LocalEffectIsExact,
        Rule::UnsafeIsSentOnce,
        Rule::KeyedRepeatsAgree,
        Rule::DoneWasSent,
        Rule::FiresOnce,
        Rule::LogVerifies,
        Rule::EffectIsLogged,
        Rule::ChangeIsLogged,
        Rule::BudgetHolds,
        Rule::SpendIsCounted,
        Rule::AnswerIsLogged,
        Rule::AnsweredIsNotAskedAgain,
    ];
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// All findings.
pub fn judge(history: &History) -> Vec<Finding> {
    let index = Index::of(history);
    let mut findings = Findings::default();
    tasks::judge(history, &index, &mut findings);
    steps::judge(history, &index, &mut findings);
    effects::judge(history, &index, &mut findings);
    fires::judge(history, &mut findings);
    log::judge(history, &index, &mut findings);
    models::judge(history, &index, &mut findings);
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.0.push(Finding { rule, what: what.into() });
    }

    fn unless(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, what());
        }
    }
}

/// The history by what the rules look things up with.
struct Index<'h> {
    tasks: BTreeMap<&'h str, &'h TaskRow>,
    /// Tasks of clients by their idempotency key.
    by_key: BTreeMap<&'h str, &'h TaskRow>,
    events: BTreeMap<&'h str, Vec<&'h EventRow>>,
    steps: BTreeMap<&'h str, Vec<&'h StepRow>>,
    /// Records about a task.
    records: BTreeMap<&'h str, Vec<&'h Record>>,
}

impl<'h> Index<'h> {
    fn of(history: &'h History) -> Self {
        let mut index = Self {
            tasks: history.tasks.iter().map(|task| (task.id.as_str(), task)).collect(),
            by_key: BTreeMap::new(),
            events: BTreeMap::new(),
            steps: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        for task in history.tasks.iter().filter(|task| task.schedule.is_none()) {
            if let Some(key) = &task.idem_key {
                index.by_key.insert(key, task);
            }
        }
        for event in &history.events {
            index.events.entry(&event.task).or_default().push(event);
        }
        index.events.values_mut().for_each(|events| events.sort_by_key(|event| event.seq));
        for step in &history.steps {
            index.steps.entry(&step.task).or_default().push(step);
        }
        for record in &history.log {
            if let Some(task) = &record.task {
                index.records.entry(task).or_default().push(record);
            }
        }
        index
    }

    fn steps_of(&self, task: &str) -> &[&'h StepRow] {
        self.steps.get(task).map_or(&[], Vec::as_slice)
    }

    fn records_of(&self, task: &str) -> &[&'h Record] {
        self.records.get(task).map_or(&[], Vec::as_slice)
    }
}
