//! W3C Trace Context, version 00: which trace, which span of it, and whether it is recorded.

use std::{fmt, str::FromStr};

use crate::Ambient;

/// The one flag of version 00 that says something: the trace is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace. Neither id is ever zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// The first span of a new trace. Zero ids are not valid; random ones are not zero.
    pub(crate) fn root(trace: u128, span: u64, sampled: bool) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags: u8::from(sampled) }
    }

    /// Section 3.2 of the recommendation: lower-case hex, neither id all zero. Anything else is no context.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() {
            return None;
        }
        let trace = u128::from_str_radix(hex(trace, 32)?, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(hex(span, 16)?, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(hex(flags, 2)?, 16).ok()?;
        Some(Self { trace, span, flags })
    }

    pub fn trace_id(&self) -> [u8; 16] {
        self.trace.to_be_bytes()
    }

    pub fn span_id(&self) -> [u8; 8] {
        self.span.to_be_bytes()
    }

    /// As logs and people write it.
    pub fn trace_hex(&self) -> String {
        format!("{:032x}", self.trace)
    }

    pub fn span_hex(&self) -> String {
        format!("{:016x}", self.span)
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    #[must_use]
    pub fn with_sampled(self, sampled: bool) -> Self {
        Self { flags: (self.flags & !SAMPLED) | u8::from(sampled), ..self }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self, ambient: &Ambient) -> Self {
        Self { span: u64::from_le_bytes(ambient.random()).max(1), ..*self }
    }

    /// A span in the same trace whose id follows from this one and a number: after a crash it is found again. For one
    /// number no two spans lead to the same id, because each step below can be undone.
    #[must_use]
    pub fn derived(&self, number: i64) -> Self {
        let mut z = self.span ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { span: (z ^ (z >> 31)).max(1), ..*self }
    }

    /// Where in `0..1` the trace lies, by the bits that are random in every generator of trace ids.
    pub(crate) fn position(&self) -> f64 {
        const RANDOM_BITS: u32 = 56;
        let low = self.trace as u64 & ((1 << RANDOM_BITS) - 1);
        low as f64 / (1_u64 << RANDOM_BITS) as f64
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::parse(text).ok_or(())
    }
}

fn hex(part: &str, digits: usize) -> Option<&str> {
    let is_hex = part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then_some(part)
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;

    #[test]
    fn only_version_00_is_a_context() {
        let check = |text: &str, valid: bool| {
            let parsed = TraceContext::parse(text);
            assert_eq!(parsed.is_some(), valid, "{text}");
            assert!(parsed.is_none_or(|context| context.to_string() == text), "{text}");
        };
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false);
        check("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("", false);
    }

    #[test]
    fn a_derived_span_is_found_again_and_is_nobody_elses() {
        let (ambient, _) = Ambient::fake(7, Timestamp::ZERO);
        let task: TraceContext = ambient.traceparent().parse().unwrap();
        assert_eq!(task.derived(3), task.derived(3));
        let ids: std::collections::HashSet<_> = (0..1_000).map(|fence| task.derived(fence).span_id()).collect();
        assert_eq!(ids.len(), 1_000);
        assert_eq!(task.derived(1).trace_id(), task.trace_id());
        assert_ne!(task.derived(0).span_id(), task.span_id());
    }

    #[test]
    fn the_flag_goes_along() {
        let given: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap();
        let (ambient, _) = Ambient::fake(7, Timestamp::ZERO);
        assert!(!given.child(&ambient).is_sampled() && !given.derived(1).is_sampled());
        assert!(given.with_sampled(true).child(&ambient).is_sampled());
    }
}
