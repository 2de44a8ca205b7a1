//! Bodies of what is done to the audit log beside reading it: pruning, legal holds, a new key.

use agentos_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/v1/audit/prune`. How old a day must be is a setting of the server, so that no caller can take away more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneAudit {
    /// Say what would go, change nothing.
    pub dry_run: bool,
    /// Keep every record from this sequence number on, whatever its age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub keep_from: Option<i64>,
}

/// What was pruned, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPruned {
    pub dry_run: bool,
    /// Only days that ended before this time were looked at.
    pub before: Timestamp,
    pub days: u64,
    pub records: u64,
    /// Sequence number of the first record that is kept.
    pub first_kept: i64,
    /// Where the log began before.
    pub first_kept_before: i64,
    /// Legal holds without which more would go.
    pub held: Vec<String>,
}

/// `POST /api/v1/audit/holds`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAuditHold {
    /// Lower-case letters, digits and dashes.
    pub name: String,
    pub reason: String,
    /// Holds everything from the UTC day of this time on; absent: the whole log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
}

/// A legal hold: no day that it covers is pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHold {
    pub name: String,
    pub reason: String,
    /// Start of the first day that is held; absent: the whole log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    pub placed_by: String,
    pub placed_at: Timestamp,
}

/// `POST /api/v1/audit/rotate-key`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKeyRotated {
    /// The key that signed until now, in C2SP vkey form. Whoever trusts it is led on by the log itself.
    pub old_key: String,
    /// The key that signs from now on.
    pub new_key: String,
}
