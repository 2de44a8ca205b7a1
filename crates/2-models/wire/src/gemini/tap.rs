//! Listens to Gemini's answers. Each event is a whole small answer; the last one of each candidate says why it ended, and no
//! event says that it is the last.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::Figures;
use crate::{Usage, told::Told};

/// A request may ask for 8 candidates; more are not followed.
const CANDIDATES_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct Tap {
    figures: Option<Figures>,
    delivered: u64,
    /// By index: the candidate has ended.
    ended: Vec<bool>,
    blocked: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow)]
    prompt_feedback: Option<Feedback<'a>>,
    usage_metadata: Option<Figures>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: usize,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Option<Cow<'a, str>>,
}

impl Tap {
    pub fn whole(&mut self, body: &[u8]) -> Told {
        match self.event(body) {
            Told::Terminal => Told::Terminal,
            Told::Error => Told::Error,
            _ => Told::Malformed,
        }
    }

    pub fn event(&mut self, data: &[u8]) -> Told {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return Told::Malformed };
        if event.error.is_some() {
            return Told::Error;
        }
        let told_usage = event.usage_metadata.is_some();
        self.figures = event.usage_metadata.or(self.figures);
        self.blocked |= event.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        let mut content = false;
        let mut ended = self.blocked;
        for candidate in event.candidates {
            let Some(bytes) = self.candidate(&candidate) else { return Told::Malformed };
            content |= bytes > 0;
            ended |= candidate.finish_reason.is_some();
            self.delivered = self.delivered.saturating_add(bytes);
        }
        match () {
            () if ended && self.is_over() => Told::Terminal,
            () if content => Told::Content,
            () if told_usage => Told::Usage,
            () => Told::Other,
        }
    }

    /// Bytes of its parts, as JSON.
    fn candidate(&mut self, candidate: &Candidate<'_>) -> Option<u64> {
        if candidate.index >= CANDIDATES_MAX {
            return None;
        }
        if self.ended.len() <= candidate.index {
            self.ended.resize(candidate.index + 1, false);
        }
        *self.ended.get_mut(candidate.index)? |= candidate.finish_reason.is_some();
        let parts = candidate.content.as_ref().and_then(|content| content.parts);
        Some(parts.map_or(0, |parts| parts.get().len() as u64))
    }

    /// Every candidate that began has ended, or the prompt was blocked.
    pub fn is_over(&self) -> bool {
        self.blocked || (!self.ended.is_empty() && self.ended.iter().all(|ended| *ended))
    }

    /// What the provider bills, once the answer is whole.
    pub fn usage(&self) -> Option<Usage> {
        self.figures.filter(|_| self.is_over()).map(|figures| figures.usage())
    }

    /// The figures of the last event, which grow.
    pub fn usage_so_far(&self) -> Option<Usage> {
        self.figures.map(|figures| figures.usage())
    }

    pub fn delivered_bytes(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = br#"{"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":1,"totalTokenCount":9}}"#;
    const LAST: &[u8] = br#"{"candidates":[{"content":{"parts":[{"text":"lo"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"cachedContentTokenCount":4,"candidatesTokenCount":2,"thoughtsTokenCount":5,"toolUsePromptTokenCount":3}}"#;

    #[test]
    fn a_stream_is_followed() {
        let mut tap = Tap::default();
        assert_eq!(tap.event(FIRST), Told::Content);
        assert_eq!(tap.usage(), None);
        assert_eq!(tap.usage_so_far().map(|usage| usage.output), Some(1));
        assert_eq!(tap.event(LAST), Told::Terminal);
        let usage = Usage { input: 11, cache_read: 4, cache_write: 0, output: 7, reasoning: 5, ..Usage::default() };
        assert_eq!(tap.usage(), Some(usage));
        assert!(tap.delivered_bytes() > 10);
    }

    #[test]
    fn two_candidates_both_have_to_end() {
        let mut tap = Tap::default();
        assert_eq!(tap.event(br#"{"candidates":[{"index":0},{"index":1}]}"#), Told::Other);
        assert_eq!(tap.event(br#"{"candidates":[{"index":1,"finishReason":"STOP"}]}"#), Told::Other);
        assert_eq!(tap.event(br#"{"candidates":[{"index":0,"finishReason":"STOP"}]}"#), Told::Terminal);
    }

    #[test]
    fn blocks_errors_and_garbage_are_told_apart() {
        let mut tap = Tap::default();
        assert_eq!(tap.event(br#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#), Told::Error);
        assert_eq!(tap.event(b"<html>"), Told::Malformed);
        assert_eq!(tap.event(br#"{"candidates":[{"index":4000000000}]}"#), Told::Malformed);
        assert_eq!(tap.whole(br#"{"candidates":[]}"#), Told::Malformed, "there is no answer in it");
        assert_eq!(tap.whole(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#), Told::Terminal);
    }
}
