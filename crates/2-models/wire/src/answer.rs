//! A model's answer, in no protocol.

use serde::{Deserialize, Serialize};

use crate::{Object, Part};

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub id: String,
    /// As the provider names the model that answered.
    pub model: String,
    /// Seconds since 1970, if the provider said when.
    pub created_s: Option<u64>,
    /// In the order of their index.
    pub choices: Vec<Choice>,
    /// `None`: the provider said nothing. An explicit zero is zero.
    pub usage: Option<Usage>,
    /// What the provider's protocol has and this type has not. Written into `agent_os.extra` of another protocol's answer.
    pub extra: Object,
}

#[derive(Clone, Debug)]
pub struct Choice {
    /// Text, tool calls, thinking and refusals, in their order.
    pub parts: Vec<Part>,
    pub finish: Finish,
    pub extra: Object,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    /// One of the client's stop sequences; the text, if the provider tells it.
    StopSequence(Option<String>),
    /// `max_output_tokens`.
    Length,
    /// The window of the model is full.
    ContextFull,
    ToolCalls,
    ContentFilter,
    /// The model itself declined.
    Refused,
    /// A long turn was interrupted by the provider and may be continued (Anthropic's `pause_turn`).
    Paused,
    /// It broke off. Only we say so, never a provider.
    Error,
    /// A word that we do not know, as it was.
    Other(String),
}

/// Tokens. `input` counts everything that was read, cached or not; `output` everything that was written, thoughts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input: u64,
    /// Part of `input` that came from the provider's cache.
    pub cache_read: u64,
    /// Part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    /// Part of `cache_write` that is kept for an hour, which costs more (Anthropic).
    pub cache_write_1h: u64,
    pub output: u64,
    /// Part of `output` that was thinking.
    pub reasoning: u64,
}
