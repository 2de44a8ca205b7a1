//! `model.call`: one question to a model, in the protocol that the caller likes best.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCall {
    /// An alias, or `PROVIDER/MODEL`. The grant's resource.
    pub model: String,
    #[serde(default, skip_serializing_if = "ModelProtocol::is_default")]
    pub protocol: ModelProtocol,
    /// The field of the body that every conversation has, for callers who need no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Value>,
    /// As the protocol documents it, without `model` and `stream`: an object, or its JSON text, which is sent as it is written,
    /// so that the order of a schema's properties stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Text becomes `progress` events of the task while it is written. The result is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

impl ModelCall {
    /// One question of a person.
    pub fn ask(model: impl Into<String>, text: impl Into<String>) -> Self {
        let messages = serde_json::json!([{ "role": "user", "content": text.into() }]);
        Self { model: model.into(), protocol: ModelProtocol::Chat, messages: Some(messages), body: None, stream: false }
    }
}

/// How the body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelProtocol {
    /// OpenAI's chat completions.
    #[default]
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's embeddings.
    Embeddings,
}

impl ModelProtocol {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A status other than 2xx is a result, not an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCallResult {
    pub status: u16,
    /// As the protocol documents it; of a stream, what it came to.
    pub body: Value,
    /// Absent when nobody told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ModelUsage>,
}

/// Tokens. `input` counts everything that was read, `output` everything that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    pub input: u64,
    /// Part of `input` that came from the provider's cache.
    pub cache_read: u64,
    /// Part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    pub output: u64,
    /// Part of `output` that was thinking.
    pub reasoning: u64,
}
