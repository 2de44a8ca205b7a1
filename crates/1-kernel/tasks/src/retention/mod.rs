//! Retention: what is kept for how long, and the run that takes the rest away.
//!
//! A run is a list of pruners. Each takes its rows in batches that are short transactions of their own, so that live
//! writes never wait long, and so that a run which dies goes on where it was: nothing is remembered but what is in the
//! rows. The task's row goes first and its steps and events after it: there is no moment at which a task that could still
//! be brought back has lost a part of its journal.
//!
//! Never pruned, whatever its age: a task that is not finished, a dead letter with a step in doubt, a task whose
//! idempotency key is still promised.
//!
//! Not here: the audit log, which has rules of its own, and the tables of other components, which bring their pruners.

mod days;
mod events;
mod finished;
mod pages;
mod pass;
mod published;
mod remains;
mod run;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use agentos_types::{Timestamp, task::TaskState};
use async_trait::async_trait;

pub use pass::{Pass, Rows, Taken};
pub use run::Retention;
pub use state::{Count, Run, Status};

use agentos_store::Store;
use agentos_types::Result;

/// A kind of rows, in what is shown, recorded and measured.
pub type Kind = &'static str;

/// Days that each kind is kept; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Completed, canceled and rejected tasks, from their end.
    pub task_days: u64,
    /// Failed tasks, which can be brought back until then.
    pub dead_letter_days: u64,
    /// Events of finished tasks, from the task's end, and notifications.
    pub event_days: u64,
    /// A task with an idempotency key is kept at least this long from its submission.
    pub idempotency_days: u64,
    /// Rows of ended tokens and of replaced versions of secrets.
    pub credential_days: u64,
    /// Hour of the day (UTC) in which the daily run begins.
    pub hour_utc: u64,
}

/// Takes one kind of rows away. A component that has something to prune implements this, or makes a [`Rows`].
#[async_trait]
pub trait Pruner: Send + Sync {
    /// Rows that a run would take now, by kind. Reads only.
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>>;

    /// Takes the next batch of a pass away, at most [`Pass::rows_max`] rows. True as long as there may be more.
    async fn batch(&self, pass: &Pass) -> Result<bool>;
}

/// Everything that belongs to tasks, in the order in which it has to go.
pub fn pruners(policy: &Policy) -> Vec<Box<dyn Pruner>> {
    let mut list: Vec<Box<dyn Pruner>> = Vec::new();
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        list.push(Box::new(finished::Finished::new(state, policy)));
    }
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        list.push(Box::new(events::Events::new(state, policy)));
    }
    // Whole days before single rows: a day that is dropped leaves nothing to delete.
    list.push(Box::new(days::Days));
    list.push(Box::new(remains::Remains));
    list.push(Box::new(published::notifications(policy)));
    list.push(Box::new(published::firings()));
    list
}

/// What comes after all other pruners: pages that they freed go back to the file system.
pub fn last() -> Box<dyn Pruner> {
    Box::new(pages::Pages)
}

const DAY: Duration = Duration::from_secs(86_400);

/// The instant before which something is too old; `None` if it is kept for ever.
fn horizon(now: Timestamp, days: u64) -> Option<Timestamp> {
    let days = u32::try_from(days).ok().filter(|days| *days > 0)?;
    Some(now.before(DAY.saturating_mul(days)))
}
