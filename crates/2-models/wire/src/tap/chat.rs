//! Chat's answers as they pass.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{State, is_error, name_of, size};
use crate::{chat::Figures, sse::Frame, told::Told};

/// An answer or a piece of one: both have the same outer form.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Figures>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    /// Raw: what is no name of a tier must pass all the same.
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    /// Raw: it only tells choices apart.
    #[serde(borrow, default)]
    index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<Said<'a>>,
    #[serde(borrow, default)]
    message: Option<Said<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    /// DeepSeek, vLLM and llama.cpp.
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    /// OpenRouter, Groq and Ollama.
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

impl Choice<'_> {
    /// Some servers write an empty reason into each chunk that has none.
    fn ends(&self) -> bool {
        self.finish_reason.is_some_and(|reason| !matches!(reason.get(), "null" | r#""""#))
    }

    fn index(&self) -> u32 {
        self.index.map_or(Some(0), |index| index.get().parse().ok()).unwrap_or(u32::MAX)
    }
}

impl Said<'_> {
    fn size(&self) -> u64 {
        [
            self.content,
            self.reasoning_content.or(self.reasoning),
            self.refusal,
            self.audio,
            self.function_call,
            self.tool_calls,
        ]
        .into_iter()
        .map(size)
        .fold(0, u64::saturating_add)
    }
}

pub(super) fn whole(state: &mut State, body: &[u8]) -> Told {
    let Ok(answer) = serde_json::from_slice::<Body<'_>>(body) else { return Told::Malformed };
    if is_error(answer.error) {
        return Told::Error;
    }
    let Some(choices) = answer.choices.filter(|choices| !choices.is_empty()) else { return Told::Malformed };
    if choices.iter().any(|choice| choice.message.is_none()) {
        return Told::Malformed;
    }
    state.tier.told(name_of(answer.service_tier));
    take(state, answer.usage.as_ref(), &choices);
    Told::Terminal
}

pub(super) fn frame(state: &mut State, frame: &Frame) -> Told {
    if frame.data.trim_ascii() == b"[DONE]" {
        return Told::Terminal;
    }
    let Ok(chunk) = serde_json::from_slice::<Body<'_>>(&frame.data) else { return Told::Malformed };
    let is_chunk = chunk.choices.is_some() || chunk.usage.is_some();
    let choices = chunk.choices.unwrap_or_default();
    if is_error(chunk.error)
        || frame.event.as_deref() == Some(b"error")
        || choices.iter().any(|choice| choice.finish_reason.is_some_and(|reason| reason.get() == r#""error""#))
    {
        return Told::Error;
    }
    if !is_chunk {
        return Told::Malformed;
    }
    state.tier.told(name_of(chunk.service_tier));
    take(state, chunk.usage.as_ref(), &choices);
    match (choices.is_empty(), chunk.usage) {
        (true, Some(_)) => Told::Usage,
        (true, None) => Told::Other,
        (false, _) => Told::Content,
    }
}

fn take(state: &mut State, usage: Option<&Figures>, choices: &[Choice<'_>]) {
    if let Some(usage) = usage.and_then(Figures::usage) {
        state.usage = Some(usage);
    }
    for choice in choices {
        let size = choice.delta.as_ref().or(choice.message.as_ref()).map_or(0, Said::size);
        state.delivered = state.delivered.saturating_add(size);
        state.choices.told(choice.index(), size > 0, choice.ends());
    }
}
