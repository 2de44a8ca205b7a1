//! Anthropic's figures. Theirs are parts that add up; ours is a whole and its parts.

use serde::Deserialize;

use crate::{Object, Usage, fields::Build};

/// Any field may be missing, or null.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Figures {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<Details>,
    cache_creation: Option<Creation>,
}

/// `cache_creation_input_tokens` by how long they are kept; those that are not here are kept for five minutes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Creation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Details {
    thinking_tokens: Option<u64>,
}

impl Figures {
    /// What a later event says replaces what an earlier one said: its figures are sums, not additions.
    pub fn update(&mut self, later: Figures) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    fn kept_1h(&self) -> u64 {
        self.cache_creation.and_then(|creation| creation.ephemeral_1h_input_tokens).unwrap_or(0)
    }

    /// `input_tokens` leaves out what was read from a cache and written to it.
    pub fn usage(&self) -> Usage {
        let cache_read = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write = self.cache_creation_input_tokens.unwrap_or(0);
        Usage {
            input: self.input_tokens.unwrap_or(0).saturating_add(cache_read).saturating_add(cache_write),
            cache_read,
            cache_write,
            cache_write_1h: self.kept_1h().min(cache_write),
            output: self.output_tokens.unwrap_or(0),
            reasoning: self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0),
        }
    }
}

/// The figures that [`Figures`] holds whole.
const COUNTED: &[&str] = &[
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "output_tokens_details",
];

/// What else stands in `usage`: tiers, places, calls of tools.
pub fn rest(usage: Object) -> Object {
    let mut rest = Object::default();
    for (name, value) in usage.iter().filter(|(name, _)| !COUNTED.contains(name)) {
        rest.put(name, value.to_owned());
    }
    rest
}

fn creation(usage: Usage) -> Object {
    Build::new()
        .with("ephemeral_5m_input_tokens", &usage.cache_write.saturating_sub(usage.cache_write_1h))
        .with("ephemeral_1h_input_tokens", &usage.cache_write_1h)
        .object()
}

pub fn write(usage: Usage, rest: Option<&Object>) -> Object {
    let details = |tokens| Build::new().with("thinking_tokens", &tokens).object();
    let written = Build::new()
        .with("input_tokens", &usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write))
        .with("cache_creation_input_tokens", &usage.cache_write)
        .with("cache_read_input_tokens", &usage.cache_read)
        .with("output_tokens", &usage.output)
        .maybe("cache_creation", (usage.cache_write_1h > 0).then(|| creation(usage)))
        .maybe("output_tokens_details", (usage.reasoning > 0).then(|| details(usage.reasoning)));
    match rest {
        Some(rest) => written.extra(rest, &rest.names().collect::<Vec<_>>()).object(),
        None => written.object(),
    }
}
