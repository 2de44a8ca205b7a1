//! Whether and how soon a failed attempt is tried again. Pure: attempts and a draw in, a verdict out.
//!
//! Full jitter (a uniform draw below the exponential bound) spreads tasks that failed together; the source is
//! M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use agentos_types::task::{ErrorClass, Failure};

const BASE: Duration = Duration::from_secs(1);
/// Of a rate limit that names no time: shorter would hit the same window again.
const BASE_RATE_LIMITED: Duration = Duration::from_secs(10);
/// Bound of every exponential back-off.
const CAP: Duration = Duration::from_secs(300);
/// Longest wait that another side may ask for; beyond it a hostile header would bury the task.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Again { after: Duration },
    /// Only a person can say how to go on.
    AskPerson,
    /// Dead letter.
    GiveUp,
}

/// Classes in which another attempt can help.
pub(crate) fn may_repeat(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Transient | ErrorClass::RateLimited | ErrorClass::Crash)
}

/// `attempt` counts the one that just failed. `draw(max)` is uniform in `0..=max`.
pub(crate) fn verdict(failure: &Failure, attempt: i64, attempts_max: i64, draw: impl FnOnce(u64) -> u64) -> Verdict {
    if failure.class == ErrorClass::InDoubt {
        return Verdict::AskPerson;
    }
    if !may_repeat(failure.class) || attempt >= attempts_max {
        return Verdict::GiveUp;
    }
    let (least, spread) = match (failure.class, failure.retry_after_s) {
        (ErrorClass::RateLimited, Some(asked_s)) => {
            // Never earlier than asked; a tenth more, so that not everybody comes back at the same second.
            let asked = Duration::from_secs(asked_s).min(RETRY_AFTER_MAX);
            (asked, (asked / 10).max(BASE))
        }
        (ErrorClass::RateLimited, None) => (Duration::ZERO, exponential(BASE_RATE_LIMITED, attempt)),
        // One crash says little: at once. A second one in a row begins to back off.
        (ErrorClass::Crash, _) if attempt <= 1 => (Duration::ZERO, Duration::ZERO),
        (ErrorClass::Crash, _) => (Duration::ZERO, exponential(BASE, attempt - 1)),
        _ => (Duration::ZERO, exponential(BASE, attempt)),
    };
    let bound_us = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
    Verdict::Again { after: least + Duration::from_micros(draw(bound_us)) }
}

/// `base × 2^(attempt − 1)`, at most [`CAP`].
fn exponential(base: Duration, attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1).clamp(0, 30)).unwrap_or(0);
    base.saturating_mul(1 << doublings).min(CAP)
}
