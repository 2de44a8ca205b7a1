//! Kinds of providers: what they speak, and what holds for them unless the operator says otherwise.

use std::fmt;

use agentos_catalog::Family;
use agentos_wire::Protocol;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Openai,
    Anthropic,
    Gemini,
    Ollama,
    Azure,
    Bedrock,
    OpenaiCompatible,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Openai, Kind::Anthropic, Kind::Gemini, Kind::Ollama, Kind::Azure, Kind::Bedrock, Kind::OpenaiCompatible];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Openai => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
            Kind::Ollama => "ollama",
            Kind::Azure => "azure",
            Kind::Bedrock => "bedrock",
            Kind::OpenaiCompatible => "openai-compatible",
        }
    }

    /// The others have an address of their own for each customer.
    pub fn base_url(self) -> Option<&'static str> {
        match self {
            Kind::Openai => Some("https://api.openai.com/v1"),
            Kind::Anthropic => Some("https://api.anthropic.com"),
            Kind::Gemini => Some("https://generativelanguage.googleapis.com"),
            Kind::Ollama => Some("http://127.0.0.1:11434/v1"),
            Kind::Azure | Kind::Bedrock | Kind::OpenaiCompatible => None,
        }
    }

    /// The first is written when none is the client's.
    pub fn protocols(self) -> &'static [Protocol] {
        match self {
            Kind::Openai | Kind::Azure => &[Protocol::Chat, Protocol::Responses],
            Kind::Anthropic => &[Protocol::Messages],
            Kind::Gemini => &[Protocol::Gemini],
            Kind::Ollama | Kind::Bedrock | Kind::OpenaiCompatible => &[Protocol::Chat],
        }
    }

    /// What a provider of several vendors speaks with one of their models: Bedrock's own form of Messages with Anthropic's,
    /// Chat with all others that it has an endpoint for.
    pub fn protocols_of(self, model: &str) -> &'static [Protocol] {
        match self {
            Kind::Bedrock if model.contains("anthropic.") => &[Protocol::Messages],
            _ => self.protocols(),
        }
    }

    /// Bedrock's endpoint of OpenAI's API has no embeddings.
    pub fn embeds(self) -> bool {
        self != Kind::Bedrock
    }

    pub fn family(self) -> Option<Family> {
        match self {
            Kind::Openai => Some(Family::Openai),
            Kind::Anthropic => Some(Family::Anthropic),
            Kind::Gemini => Some(Family::Google),
            Kind::Azure => Some(Family::Azure),
            Kind::Bedrock => Some(Family::Aws),
            Kind::Ollama | Kind::OpenaiCompatible => None,
        }
    }

    /// Nobody sends a bill for it.
    pub fn is_free(self) -> bool {
        self == Kind::Ollama
    }

    pub fn needs_key(self) -> bool {
        !matches!(self, Kind::Ollama | Kind::OpenaiCompatible)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
