//! Witnesses of audit logs: what two nodes say to each other, and what an operator sees of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Code, LogName, Timestamp};

/// `POST /api/v1/witness/checkpoints`: the newest checkpoint of a log, and the proof that it continues an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitCheckpoint {
    /// Signed note in C2SP checkpoint form.
    pub note: String,
    /// Size from which the proof starts: the one that the witness holds, or 0.
    #[serde(default)]
    pub old_size: u64,
    /// Consistency proof of RFC 6962, hashes in base64.
    #[serde(default)]
    pub proof: Vec<String>,
    /// Statements by which the log's keys followed one another, oldest first; each is signed by the old key and the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
}

/// The newest checkpoint that a witness holds of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCheckpoint {
    /// Id of the log.
    pub log: LogName,
    /// Records under it.
    pub size: u64,
    pub seen_at: Timestamp,
    /// The note as it was signed, with the witness's cosignature.
    pub note: String,
    /// Changes of the log's key that the witness has followed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
}

/// `POST /api/v1/witness/logs`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWitnessedLog {
    pub name: LogName,
    /// The log's verifier key, `keys/audit.vkey` of the other node.
    pub public_key: String,
}

/// A log of another node that this node witnesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WitnessedLog {
    /// As the operator named it.
    pub name: LogName,
    /// Id of the log, as its checkpoints name it.
    pub log: LogName,
    /// As it was registered; the keys after it follow from `rotations`.
    pub public_key: String,
    /// Changes of the log's key that were followed since, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<String>,
    pub added_by: String,
    pub added_at: Timestamp,
    /// Size under the newest checkpoint that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// When the log first contradicted what is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "AOS-1924")]
    pub refused_code: Option<Code>,
    /// The checkpoint that did: beside the held one it is the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_note: Option<String>,
    /// Refused checkpoints since then.
    pub refusals: u64,
}

/// `GET /api/v1/witness/logs/{name}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WitnessedLogDetail {
    #[serde(flatten)]
    pub log: WitnessedLog,
    /// The newest held checkpoints, oldest first.
    pub checkpoints: Vec<HeldCheckpoint>,
}

/// `GET /api/v1/audit/witnesses`: one place to which this node's own checkpoints go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WitnessTarget {
    /// `file`, `webhook:HOST:PORT` or `node:HOST:PORT`; never a path or a query, which may hold a secret.
    pub target: String,
    /// Size under the newest checkpoint that has arrived there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Failed attempts since the last good one.
    pub failures: u64,
    /// Failed attempts since the server started.
    pub failures_total: u64,
    /// The code under which the witness refuses the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "AOS-1924")]
    pub refused: Option<Code>,
    /// What the last attempt failed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The checkpoint that has arrived, with the cosignature of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
