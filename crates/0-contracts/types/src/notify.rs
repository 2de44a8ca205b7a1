//! What the store announces after a commit. Readers wake, then read by their own cursor; the announcement carries no data.

use crate::{AgentName, TaskId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// New events exist for the task.
    TaskEvents(TaskId),
    /// The agent has work that may be claimed.
    WorkFor(AgentName),
    /// A cancel was asked for; the supervisor must tell the worker.
    CancelAsked { agent: AgentName, task: TaskId },
    /// An agent's row changed.
    Agent(AgentName),
    /// Schedules changed; the scheduler recomputes when it next has to wake.
    Schedules,
    /// New audit records exist.
    Audit,
    /// Budgets were set or removed.
    Budgets,
    /// A token was revoked or got another end.
    Tokens,
    /// The document of providers and models has a new revision.
    Models,
    /// Announcements of other nodes may have been lost: like a receiver that lagged, read the state again.
    Missed,
}
