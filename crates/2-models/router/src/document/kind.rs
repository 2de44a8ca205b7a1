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

    /// Where it lists its models, which costs nothing.
    pub fn list_url(self, base_url: &str, api_version: Option<&str>) -> String {
        let base = base_url.trim_end_matches('/');
        let behind = |version: &'static str| if base.ends_with(version) { "" } else { version };
        match self {
            Kind::Anthropic => format!("{base}{}/models", behind("/v1")),
            Kind::Gemini => format!("{base}{}/models", behind("/v1beta")),
            Kind::Azure => format!("{base}/openai/models?api-version={}", api_version.unwrap_or("2024-10-21")),
            Kind::Openai | Kind::Ollama | Kind::Bedrock | Kind::OpenaiCompatible => format!("{base}/models"),
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
