//! The protocols by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a body is written. Ollama, Azure OpenAI, Bedrock's OpenAI endpoint and all that call themselves compatible speak
/// [`Protocol::Chat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// OpenAI, `POST /chat/completions`.
    Chat,
    /// OpenAI, `POST /responses`.
    Responses,
    /// Anthropic, `POST /v1/messages`.
    Messages,
    /// Google, `POST /v1beta/models/MODEL:generateContent` and `:streamGenerateContent?alt=sse`.
    Gemini,
}

impl Protocol {
    pub const ALL: [Protocol; 4] = [Protocol::Chat, Protocol::Responses, Protocol::Messages, Protocol::Gemini];

    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Chat => "chat",
            Protocol::Responses => "responses",
            Protocol::Messages => "messages",
            Protocol::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
