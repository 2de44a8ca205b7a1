//! Times as people write them: `90s`, `15m`, `24h`, `7d`, or an RFC 3339 instant.

use std::time::Duration;

use agentos_types::Timestamp;

/// A century; longer spans are slips of the keyboard.
const SPAN_S_MAX: u64 = 100 * 366 * 86_400;

/// A point in time, absolute or counted from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Span(Duration),
}

impl When {
    /// A span means that long ago.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::Span(span) => now.before(span),
        }
    }

    /// A span means that long from now.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::Span(span) => now.after(span),
        }
    }
}

pub(crate) fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(When::Span(span));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        format!("'{text}' is neither a span such as 15m nor an RFC 3339 time such as 2026-01-31T08:00:00Z")
    })?;
    Ok(When::At(Timestamp(at.as_microsecond())))
}

/// Whole seconds, minutes, hours or days.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let refused = || format!("'{text}' is not a span; write a number and s, m, h or d, such as 15m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err(refused()),
    };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= SPAN_S_MAX).ok_or_else(refused)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_instants() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_when(text), Ok(When::Span(Duration::from_secs(seconds))), "{text}");
        }
        for (text, millis) in [("1970-01-01T00:00:01Z", 1_000), ("2000-02-29T01:00:00.123+01:00", 951_782_400_123)] {
            assert_eq!(parse_when(text), Ok(When::At(Timestamp::from_millis(millis))), "{text}");
        }
        for text in
            ["", "s", "-5m", "1.5h", "5 m", "15", "2026-01-31", "yesterday", "99999999999999999999d", "9999999d"]
        {
            assert!(parse_when(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_span_counts_in_the_direction_that_is_asked_for() {
        let (now, span) = (Timestamp::from_millis(10_000), When::Span(Duration::from_secs(4)));
        assert_eq!(span.before(now), Timestamp::from_millis(6_000));
        assert_eq!(span.after(now), Timestamp::from_millis(14_000));
        assert_eq!(When::At(now).before(Timestamp::ZERO), now);
    }
}
