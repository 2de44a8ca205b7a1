//! The families of models that the snapshot knows.

use std::{fmt, str::FromStr};

use agentos_types::{Code, Fault};
use serde::{Deserialize, Serialize};

macro_rules! families {
    ($($name:ident = $text:literal,)*) => {
        /// Whose price list holds. The same model costs different things at different providers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Family {
            $($name,)*
        }

        impl Family {
            pub const ALL: &[Family] = &[$(Family::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Family::$name => $text,)*
                }
            }
        }
    };
}

families! {
    Anthropic = "anthropic",
    Aws = "aws",
    Azure = "azure",
    Cerebras = "cerebras",
    Cohere = "cohere",
    Deepseek = "deepseek",
    Fireworks = "fireworks",
    Google = "google",
    Groq = "groq",
    Minimax = "minimax",
    Mistral = "mistral",
    Moonshot = "moonshot",
    Openai = "openai",
    Openrouter = "openrouter",
    Perplexity = "perplexity",
    Together = "together",
    Xai = "xai",
    Zai = "zai",
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Family {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::ALL.iter().copied().find(|family| family.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|family| family.as_str()).collect();
            Fault::new(Code::INVALID_ID, format!("'{text}' is no family of models; known are {}", known.join(", ")))
        })
    }
}
