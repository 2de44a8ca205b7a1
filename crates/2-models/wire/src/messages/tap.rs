//! Listens to an answer that is passed through: figures, end, errors. Only what it needs is parsed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::Figures;
use crate::{
    Usage,
    tap::{Tier, name_of},
    told::Told,
};

#[derive(Debug, Default)]
pub struct Tap {
    figures: Option<Figures>,
    /// The last figures of a stream came, or the answer was whole.
    final_figures: bool,
    /// The reason to stop came.
    stopped: bool,
    delivered: u64,
    tier: Tier,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<Started<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Started<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// Beside the figures.
#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

/// Figures that are none.
struct Unreadable;

impl Tap {
    /// A whole answer.
    pub fn whole(&mut self, body: &[u8]) -> Told {
        let Ok(whole) = serde_json::from_slice::<Whole<'_>>(body) else { return Told::Malformed };
        match &*whole.kind {
            "error" => return Told::Error,
            "message" => {}
            _ => return Told::Malformed,
        }
        let (Some(content), Some(_)) = (whole.content, whole.stop_reason) else { return Told::Malformed };
        self.delivered = content.get().len() as u64;
        if self.update(whole.usage).is_err() {
            return Told::Malformed;
        }
        self.final_figures = true;
        Told::Terminal
    }

    /// The data of one event of a stream.
    pub fn event(&mut self, data: &[u8]) -> Told {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return Told::Malformed };
        match &*event.kind {
            "content_block_delta" => {
                self.delivered = self.delivered.saturating_add(event.delta.map_or(0, |delta| delta.len()));
                Told::Content
            }
            "content_block_start" => {
                // Blocks of hidden thoughts and of the provider's own tools come whole.
                self.delivered =
                    self.delivered.saturating_add(event.content_block.map_or(0, |block| block.get().len() as u64));
                Told::Content
            }
            "message_start" => match self.update(event.message.and_then(|message| message.usage)) {
                Ok(()) => Told::Other,
                Err(Unreadable) => Told::Malformed,
            },
            "message_delta" => {
                self.final_figures |= event.usage.is_some();
                self.stopped |= event.delta.is_some_and(|delta| delta.stop_reason.is_some());
                match self.update(event.usage) {
                    Ok(()) => Told::Usage,
                    Err(Unreadable) => Told::Malformed,
                }
            }
            "message_stop" => Told::Terminal,
            "error" => Told::Error,
            _ => Told::Other,
        }
    }

    fn update(&mut self, later: Option<&RawValue>) -> Result<(), Unreadable> {
        let Some(later) = later else { return Ok(()) };
        let figures: Figures = serde_json::from_str(later.get()).map_err(|_| Unreadable)?;
        let served: Served<'_> = serde_json::from_str(later.get()).map_err(|_| Unreadable)?;
        self.figures.get_or_insert_default().update(figures);
        self.tier.told(name_of(served.service_tier));
        Ok(())
    }

    pub fn tier(&self) -> Option<&str> {
        self.tier.name()
    }

    /// What the provider bills, once it has said so.
    pub fn usage(&self) -> Option<Usage> {
        self.figures.filter(|_| self.final_figures).map(|figures| figures.usage())
    }

    /// What it said at the beginning of a stream: the input is right, the output is not yet.
    pub fn usage_so_far(&self) -> Option<Usage> {
        self.figures.map(|figures| figures.usage())
    }

    /// Nothing but the end of the stream is to come.
    pub fn is_ending(&self) -> bool {
        self.stopped
    }

    /// Bytes of the answer that went by, thoughts and arguments included.
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered
    }
}

impl Delta<'_> {
    fn len(&self) -> u64 {
        [&self.text, &self.thinking, &self.partial_json].into_iter().flatten().map(|text| text.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = br#"{"type":"message_start","message":{"id":"m","type":"message","usage":{"input_tokens":25,"cache_read_input_tokens":100,"cache_creation_input_tokens":null,"output_tokens":1}}}"#;
    const TEXT: &[u8] =
        br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"h\u00e9llo"}}"#;
    const DELTA: &[u8] = br#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15,"output_tokens_details":{"thinking_tokens":4}}}"#;

    #[test]
    fn a_stream_is_followed() {
        let mut tap = Tap::default();
        assert_eq!(tap.event(START), Told::Other);
        assert_eq!(tap.usage(), None, "the output of the beginning is no figure to bill");
        assert_eq!(tap.usage_so_far().map(|usage| usage.input), Some(125));
        assert_eq!(tap.event(br#"{"type":"ping"}"#), Told::Other);
        assert_eq!(tap.event(TEXT), Told::Content);
        assert_eq!(tap.delivered_bytes(), 6);
        assert_eq!(tap.event(DELTA), Told::Usage);
        assert_eq!(tap.event(br#"{"type":"message_stop"}"#), Told::Terminal);
        let usage = Usage { input: 125, cache_read: 100, cache_write: 0, output: 15, reasoning: 4, ..Usage::default() };
        assert_eq!(tap.usage(), Some(usage));
    }

    #[test]
    fn what_is_cached_for_an_hour_is_told_apart() {
        let mut tap = Tap::default();
        let whole = br#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":3,"cache_creation_input_tokens":90,"cache_creation":{"ephemeral_5m_input_tokens":30,"ephemeral_1h_input_tokens":60},"output_tokens":1}}"#;
        assert_eq!(tap.whole(whole), Told::Terminal);
        let usage = Usage { input: 93, cache_write: 90, cache_write_1h: 60, output: 1, ..Usage::default() };
        assert_eq!(tap.usage(), Some(usage));
    }

    #[test]
    fn errors_and_garbage_are_told_apart() {
        let mut tap = Tap::default();
        let error = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(tap.event(error), Told::Error);
        assert_eq!(tap.whole(error), Told::Error);
        assert_eq!(tap.event(b"{\"type\":"), Told::Malformed);
        assert_eq!(tap.event(b"[DONE]"), Told::Malformed);
        assert_eq!(tap.whole(br#"{"type":"message"}"#), Told::Malformed, "there is nothing in it");
        assert_eq!(tap.usage(), None);
    }

    #[test]
    fn an_explicit_zero_is_zero() {
        let mut tap = Tap::default();
        let whole =
            br#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":0,"output_tokens":0}}"#;
        assert_eq!(tap.whole(whole), Told::Terminal);
        assert_eq!(tap.usage(), Some(Usage::default()));
        let none = br#"{"type":"message","content":[],"stop_reason":"end_turn"}"#;
        let mut tap = Tap::default();
        assert_eq!(tap.whole(none), Told::Terminal);
        assert_eq!(tap.usage(), None);
    }
}
