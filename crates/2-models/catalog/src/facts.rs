//! All that is known of one model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Capabilities, Price};

/// What is asked of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Chat,
    Embedding,
}

/// `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    pub mode: Mode,
    /// Tokens of the window, input and output together.
    pub context: Option<u64>,
    /// Tokens that a request may have, where that is less than the window.
    pub input_max: Option<u64>,
    pub output_max: Option<u64>,
    pub capabilities: Capabilities,
    pub price: Option<Arc<Price>>,
}

impl ModelFacts {
    /// The most that a request may have.
    pub fn input_limit(&self) -> Option<u64> {
        match (self.input_max, self.context) {
            (Some(input), Some(context)) => Some(input.min(context)),
            (one, other) => one.or(other),
        }
    }

    /// The most that an answer may have.
    pub fn output_limit(&self) -> Option<u64> {
        self.output_max.or(self.context)
    }
}
