//! What a request asks of its target.

use agentos_types::Timestamp;
use agentos_wire::{Needs, Protocol};
use serde::{Deserialize, Serialize};

/// Which route of the client's protocol was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Chat,
    Responses,
    Messages,
    Gemini,
    Embeddings,
    CountTokens,
}

impl Operation {
    /// In which the client speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Operation::Chat | Operation::Embeddings => Protocol::Chat,
            Operation::Responses => Protocol::Responses,
            Operation::Messages | Operation::CountTokens => Protocol::Messages,
            Operation::Gemini => Protocol::Gemini,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// An alias, `PROVIDER/MODEL`, or a model that exactly one provider has.
    pub model: &'a str,
    pub operation: Operation,
    pub needs: Needs,
    pub stream: bool,
    /// Upper bound of the input's tokens.
    pub input_tokens: u64,
    pub max_output_tokens: Option<u64>,
    /// A budget pays, so that a model without a price cannot be asked.
    pub budgeted: bool,
    pub now: Timestamp,
    /// No attempt begins after it.
    pub deadline: Timestamp,
    /// Of this request. Whoever knows it and the record can make the choice again.
    pub seed: u64,
}
