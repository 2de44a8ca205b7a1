//! One step of a streamed answer, in no protocol.

use crate::{Finish, Object, Usage};

/// `choice` counts from 0. Within a choice at most one block is open; the block begins with its first delta and ends with the
/// first delta of another block, or with `Finish`.
#[derive(Clone, Debug)]
pub enum Delta {
    /// First of all, once.
    Begin {
        id: String,
        model: String,
        created_s: Option<u64>,
    },
    Text {
        choice: usize,
        text: String,
    },
    Thinking {
        choice: usize,
        text: String,
    },
    /// Ends a block of thinking.
    Signature {
        choice: usize,
        signature: String,
    },
    HiddenThinking {
        choice: usize,
        data: String,
    },
    Refusal {
        choice: usize,
        text: String,
    },
    /// `call` counts the calls of this choice from 0; the order in which they are told.
    ToolBegin {
        choice: usize,
        call: usize,
        id: String,
        name: String,
    },
    /// A piece of the JSON text of the arguments.
    ToolArguments {
        choice: usize,
        call: usize,
        json: String,
    },
    Finish {
        choice: usize,
        finish: Finish,
    },
    /// The whole so far; a later one replaces it.
    Usage(Usage),
    /// What has no other place, for the client that may know it: written under `agent_os.extra`.
    Extra(Object),
    /// Last of all, once: the provider has said that the answer is whole.
    End,
}

impl Delta {
    /// The choice that it belongs to, if to one.
    pub fn choice(&self) -> Option<usize> {
        match self {
            Delta::Text { choice, .. }
            | Delta::Thinking { choice, .. }
            | Delta::Signature { choice, .. }
            | Delta::HiddenThinking { choice, .. }
            | Delta::Refusal { choice, .. }
            | Delta::ToolBegin { choice, .. }
            | Delta::ToolArguments { choice, .. }
            | Delta::Finish { choice, .. } => Some(*choice),
            Delta::Begin { .. } | Delta::Usage(_) | Delta::Extra(_) | Delta::End => None,
        }
    }
}
