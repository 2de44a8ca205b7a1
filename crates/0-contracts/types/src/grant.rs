//! Grants: what a signed manifest lets an agent ask for. Everything not granted is denied.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Code, Fault};

/// The kind of thing a system call touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// The network: URL patterns such as `https://example.com/*` to fetch, `tcp://HOST:PORT` to connect to.
    Net,
    /// Files of the host; resources are absolute roots such as `/srv/reports` (everything beneath).
    File,
    /// Events and webhooks; resources are `event:KIND` or a webhook URL pattern.
    Notify,
    /// The agent's own durable values; resources are key patterns.
    Kv,
    /// The agent's own schedules; the resource is `self`.
    Schedule,
    /// Use of a secret at one host: `NAME@HOST`.
    Secret,
    /// Programs in a sandbox of their own; resources are command lines such as `git log *`.
    Shell,
    /// Code in a sandbox of its own; resources are languages.
    Code,
    /// Answers of models; resources are names as they are asked for: `fast`, `openai/gpt-4o-mini`, `openai/*`.
    Model,
}

impl Category {
    pub const ALL: [Category; 9] = [
        Category::Net,
        Category::File,
        Category::Notify,
        Category::Kv,
        Category::Schedule,
        Category::Secret,
        Category::Shell,
        Category::Code,
        Category::Model,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Category::Net => "net",
            Category::File => "file",
            Category::Notify => "notify",
            Category::Kv => "kv",
            Category::Schedule => "schedule",
            Category::Secret => "secret",
            Category::Shell => "shell",
            Category::Code => "code",
            Category::Model => "model",
        }
    }

    /// The verbs that exist in this category; a manifest that names another is refused.
    pub fn actions(self) -> &'static [&'static str] {
        match self {
            Category::Net => &["fetch", "connect"],
            Category::File => &["read", "list"],
            Category::Notify => &["event", "webhook"],
            Category::Kv => &["read", "write"],
            Category::Schedule => &["read", "write"],
            Category::Secret => &["use"],
            Category::Shell => &["exec"],
            Category::Code => &["run"],
            Category::Model => &["call"],
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verb within a category, for example `net:fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action {
    pub category: Category,
    pub verb: &'static str,
}

impl Action {
    /// For call sites that name the pair in code; an unknown verb is a defect and yields `None`.
    pub fn of(category: Category, verb: &str) -> Option<Self> {
        category.actions().iter().find(|known| **known == verb).map(|known| Self { category, verb: known })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.category, self.verb)
    }
}

impl FromStr for Action {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        text.split_once(':')
            .and_then(|(category, verb)| {
                let category = Category::ALL.into_iter().find(|known| known.as_str() == category)?;
                Action::of(category, verb)
            })
            .ok_or_else(|| Fault::new(Code::MANIFEST_INVALID, format!("'{text}' is not a known action")))
    }
}

/// One line of a manifest's `[[grants]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub category: Category,
    /// Verbs of the category, for example `["fetch"]`; never empty.
    pub actions: Vec<String>,
    /// Patterns; `*` matches within the rules of the category. Never empty: "everything" must be written as `*`.
    pub resources: Vec<String>,
}
