//! Retention: what is kept for how long, and what the last run took.

use agentos_types::{Code, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Days that each kind is kept; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionPolicy {
    /// Completed, canceled and rejected tasks with their steps.
    pub task_days: u64,
    /// Failed tasks.
    pub dead_letter_days: u64,
    /// Notifications and the events of finished tasks.
    pub event_days: u64,
    /// A task with an idempotency key is kept at least this long.
    pub idempotency_days: u64,
    /// Ended tokens and replaced versions of secrets.
    pub credential_days: u64,
    /// Hour of the day, in UTC, in which the daily run begins.
    pub hour_utc: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionRun {
    /// Actor label: `system` for the daily run.
    pub asked_by: String,
    pub started_at: Timestamp,
    /// Absent while the run is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Error that kept a part of the run from being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub failure: Option<Code>,
}

/// Rows of one kind that were taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionCount {
    pub kind: String,
    pub rows_last: u64,
    pub rows_total: u64,
}

/// `GET /api/v1/retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionStatus {
    pub policy: RetentionPolicy,
    pub running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RetentionRun>,
    /// When the next daily run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    pub counts: Vec<RetentionCount>,
}

/// `GET /api/v1/retention/preview`: rows of one kind that a run would take away now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionRows {
    pub kind: String,
    pub rows: u64,
}
