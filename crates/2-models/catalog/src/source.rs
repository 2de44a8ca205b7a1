//! Where the facts come from, for whoever has to trust a bill.

use serde::{Deserialize, Serialize};

/// Of `data/models.json`; a test compares them. Who renews the file writes the new hash here, and so has seen it.
pub(crate) const SHA256: &str = "92cbab9af378ab121439cc9fcf2458df8b3bf845aa53c50f5c9646e4473333b4";

/// One package that the snapshot was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    pub version: String,
    /// Of the package as its index has it.
    pub sha256: String,
    pub licence: String,
}

/// Which prices these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The day on which it was taken, `2026-11-23`.
    pub date: String,
    pub sha256: String,
    pub sources: Vec<Source>,
}
