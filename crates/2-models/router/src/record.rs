//! A choice written down, so that it can be made again.

use std::fmt;

use agentos_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Act, Operation, Rules, Situation,
    choose::{ATTEMPTS_MAX, decide},
};

/// Everything that the choices of one request depended on, and what they were. Of the request only its measures are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    pub at: Timestamp,
    /// Of the document.
    pub revision: u64,
    /// As the client named it.
    pub model: String,
    pub operation: Operation,
    /// What it needs: `tools`, `images`.
    pub needs: Vec<String>,
    pub input_tokens: u64,
    pub max_output_tokens: Option<u64>,
    pub budgeted: bool,
    pub seed: u64,
    pub rules: Rules,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub situation: Situation,
    pub act: Act,
}

/// A step that would go otherwise today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub step: usize,
    pub recorded: Act,
    pub replayed: Act,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, recorded, replayed } = self;
        let number = step + 1;
        write!(f, "step {number} was {recorded:?} and would be {replayed:?} with this program")
    }
}

impl std::error::Error for Mismatch {}

/// Makes each choice of the record again. An error if one differs: the record was changed, or the rules of the program were.
pub fn replay(record: &DecisionRecord) -> Result<(), Mismatch> {
    // A request has no more steps than attempts, and one in which it stops.
    for (index, step) in record.steps.iter().enumerate().take(ATTEMPTS_MAX + 2) {
        let replayed = decide(&record.rules, record.seed, &step.situation);
        if replayed != step.act {
            return Err(Mismatch { step: index, recorded: step.act, replayed });
        }
    }
    Ok(())
}
