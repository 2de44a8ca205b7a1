//! Responses' answers as they pass. Usage comes with the event that ends the stream.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{State, is_error, name_of, size};
use crate::{Usage, sse::Frame, told::Told};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    output: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    usage: Option<ResponsesUsage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    /// The one that is asked for until the answer is whole, then the one that served it.
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ResponsesUsage {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    input_tokens_details: Option<Details>,
    #[serde(default)]
    output_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl ResponsesUsage {
    fn usage(&self) -> Usage {
        let input = self.input_tokens_details.as_ref();
        let cache_read = input.and_then(|details| details.cached_tokens).unwrap_or(0).min(self.input_tokens);
        let cache_write = input.and_then(|details| details.cache_write_tokens).unwrap_or(0);
        let thoughts = self.output_tokens_details.as_ref().and_then(|details| details.reasoning_tokens);
        Usage {
            input: self.input_tokens,
            cache_read,
            cache_write: cache_write.min(self.input_tokens - cache_read),
            output: self.output_tokens,
            reasoning: thoughts.unwrap_or(0).min(self.output_tokens),
            ..Usage::default()
        }
    }
}

impl State {
    fn response(&mut self, response: &Response<'_>) {
        self.tier.told(name_of(response.service_tier));
        if let Some(usage) = &response.usage {
            self.usage = Some(usage.usage());
        }
    }
}

pub(super) fn whole(state: &mut State, body: &[u8]) -> Told {
    let Ok(response) = serde_json::from_slice::<Response<'_>>(body) else { return Told::Malformed };
    state.response(&response);
    if is_error(response.error) || response.status.as_deref() == Some("failed") {
        return Told::Error;
    }
    if response.status.is_none() || response.output.is_none() {
        return Told::Malformed;
    }
    Told::Terminal
}

pub(super) fn frame(state: &mut State, frame: &Frame) -> Told {
    // Some servers copy the habit of Chat. It says nothing that the event before it has not said.
    if frame.data.trim_ascii() == b"[DONE]" {
        return Told::Other;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(&frame.data) else { return Told::Malformed };
    if let Some(response) = &event.response {
        state.response(response);
    }
    state.delivered = state.delivered.saturating_add(size(event.delta));
    match &*event.kind {
        "response.completed" | "response.incomplete" if event.response.is_some() => Told::Terminal,
        "response.completed" | "response.incomplete" => Told::Malformed,
        "response.failed" | "error" => Told::Error,
        "response.created" | "response.in_progress" | "response.queued" | "keepalive" => Told::Other,
        _ => Told::Content,
    }
}
