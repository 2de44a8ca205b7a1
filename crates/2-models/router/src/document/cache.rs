//! What of calls is kept: answers that are given again without asking anybody, for those whom the operator names, and how the
//! target of each call was chosen.

use std::time::Duration;

use agentos_types::budget::BudgetScope;
use serde::{Deserialize, Serialize};

/// Of `ttl_s`. What a model said a month ago is no answer of the cache.
pub(super) const TTL_S_MAX: u64 = 30 * 86_400;
/// Of `bytes_max`: it lies in the database beside everything else.
pub(super) const BYTES_MAX: u64 = 1 << 30;

/// The exact cache of one agent or token. Nobody has one that is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an answer is given again.
    pub ttl_s: u64,
    /// Of all kept answers of this caller; above it the oldest go.
    pub bytes_max: u64,
    /// Also where the model draws its words, so that the same question could have had another answer.
    pub any_temperature: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { ttl_s: 3_600, bytes_max: 16 << 20, any_temperature: false }
    }
}

/// What the document in force says about one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    pub ttl: Duration,
    pub bytes_max: u64,
    pub any_temperature: bool,
    /// Of the document: what was answered under another one is not given again.
    pub revision: u64,
}

impl Cache {
    pub(crate) fn under(self, revision: u64) -> Caching {
        let Self { ttl_s, bytes_max, any_temperature } = self;
        Caching { ttl: Duration::from_secs(ttl_s), bytes_max, any_temperature, revision }
    }
}

/// Whether the choices of a call are kept with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decisions {
    #[default]
    Keep,
    Drop,
}

impl Decisions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Only who is billed has answers of its own.
pub(super) fn is_owner(name: &str) -> bool {
    matches!(name.parse(), Ok(BudgetScope::Agent(_) | BudgetScope::Token(_)))
}
