//! Chat's figures.

use serde::Deserialize;

use crate::{
    Object, Refusal, Usage,
    fields::{self, Build, malformed},
};

/// Any field may be missing, or null.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Figures {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    /// DeepSeek's name for `cached_tokens`.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl Figures {
    /// Some providers count thoughts in the total only; what the total has more is output, which costs more than input.
    pub fn usage(&self) -> Option<Usage> {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() && self.total_tokens.is_none() {
            return None;
        }
        let input = self.prompt_tokens.unwrap_or(0);
        let output = self.completion_tokens.unwrap_or(0).max(self.total_tokens.unwrap_or(0).saturating_sub(input));
        let details = self.prompt_tokens_details.unwrap_or_default();
        let cache_read = details.cached_tokens.or(self.prompt_cache_hit_tokens).unwrap_or(0).min(input);
        let cache_write = details.cache_write_tokens.unwrap_or(0).min(input - cache_read);
        let reasoning = self.completion_tokens_details.unwrap_or_default().reasoning_tokens;
        Some(Usage {
            input,
            cache_read,
            cache_write,
            output,
            reasoning: reasoning.unwrap_or(0).min(output),
            ..Usage::default()
        })
    }
}

/// The figures, and what else stands beside them (audio, predictions, prices of a router).
pub fn read(mut usage: Object) -> Result<(Option<Usage>, Object), Refusal> {
    let figures: Figures = fields::read(&fields::raw(&usage), "usage")?;
    let counted: [(&str, &[&str]); 2] = [
        ("prompt_tokens_details", &["cached_tokens", "cache_write_tokens"]),
        ("completion_tokens_details", &["reasoning_tokens"]),
    ];
    for name in ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens"] {
        usage.take(name);
    }
    // The rest of what is not from the cache.
    usage.take("prompt_cache_miss_tokens");
    for (name, counted) in counted {
        let Some(mut details) = usage.take_as::<Object>(name).map_err(|error| malformed(name, error))? else {
            continue;
        };
        for name in counted {
            details.take(name);
        }
        if !details.is_empty() {
            usage.put(name, fields::raw(&details));
        }
    }
    Ok((figures.usage(), usage))
}

pub fn write(usage: Usage, rest: Option<&Object>) -> Object {
    let mut rest = rest.cloned().unwrap_or_default();
    let mut details = |name: &str, own: Build| {
        let more = rest.take(name).and_then(|more| Object::parse(more.get().as_bytes()).ok()).unwrap_or_default();
        let names: Vec<&str> = more.names().collect();
        own.extra(&more, &names).object()
    };
    let input = Build::new().with("cached_tokens", &usage.cache_read).with("cache_write_tokens", &usage.cache_write);
    let input = details("prompt_tokens_details", input);
    let output = details("completion_tokens_details", Build::new().with("reasoning_tokens", &usage.reasoning));
    let names: Vec<&str> = rest.names().collect();
    Build::new()
        .with("prompt_tokens", &usage.input)
        .with("completion_tokens", &usage.output)
        .with("total_tokens", &usage.input.saturating_add(usage.output))
        .with("prompt_tokens_details", &input)
        .with("completion_tokens_details", &output)
        .extra(&rest, &names)
        .object()
}
