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
    Again {
        after: Duration,
    },
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

#[cfg(test)]
mod tests {
    use agentos_base::Ambient;
    use agentos_types::Timestamp;

    use super::*;

    const DRAWS: u64 = 1_000;

    fn failure(class: ErrorClass, retry_after_s: Option<u64>) -> Failure {
        Failure { class, code: None, message: String::new(), retry_after_s }
    }

    /// Over many draws the wait stays in `least..=most` and comes near both ends.
    fn check(class: ErrorClass, retry_after_s: Option<u64>, attempt: i64, least_ms: u64, most_ms: u64) {
        let (ambient, _) = Ambient::fake(attempt.unsigned_abs(), Timestamp::ZERO);
        let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
        for _ in 0..DRAWS {
            let verdict = verdict(&failure(class, retry_after_s), attempt, 100, |max| ambient.random_up_to(max));
            let Verdict::Again { after } = verdict else { panic!("{class:?} attempt {attempt}: {verdict:?}") };
            (shortest, longest) = (shortest.min(after), longest.max(after));
        }
        let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        assert!(shortest >= least && longest <= most, "{class:?} {attempt}: {shortest:?}..{longest:?}");
        let slack = (most - least) / 20;
        assert!(shortest <= least + slack && longest + slack >= most, "{class:?} {attempt} does not spread");
    }

    #[test]
    fn waits_are_spread_over_the_bound_of_their_class() {
        for (attempt, most_ms) in [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (99, 300_000)] {
            check(ErrorClass::Transient, None, attempt, 0, most_ms);
        }
        for (attempt, most_ms) in [(1, 10_000), (2, 20_000), (6, 300_000), (50, 300_000)] {
            check(ErrorClass::RateLimited, None, attempt, 0, most_ms);
        }
        for (attempt, most_ms) in [(1, 0), (2, 1_000), (3, 2_000), (90, 300_000)] {
            check(ErrorClass::Crash, None, attempt, 0, most_ms);
        }
    }

    #[test]
    fn a_rate_limit_is_never_tried_earlier_than_it_asked() {
        check(ErrorClass::RateLimited, Some(3), 1, 3_000, 4_000);
        check(ErrorClass::RateLimited, Some(600), 7, 600_000, 660_000);
        let day_ms = 86_400_000;
        check(ErrorClass::RateLimited, Some(u64::MAX), 1, day_ms, day_ms + day_ms / 10);
    }

    #[test]
    fn only_what_can_help_is_tried_and_only_as_often_as_allowed() {
        for class in ErrorClass::ALL {
            let on = |attempt| verdict(&failure(class, None), attempt, 3, |_| 0);
            let expected = match class {
                ErrorClass::InDoubt => Verdict::AskPerson,
                ErrorClass::Transient | ErrorClass::RateLimited | ErrorClass::Crash => {
                    Verdict::Again { after: Duration::ZERO }
                }
                ErrorClass::Deadline | ErrorClass::Denied | ErrorClass::Permanent => Verdict::GiveUp,
            };
            assert_eq!(on(2), expected, "{class:?}");
            let exhausted = if class == ErrorClass::InDoubt { Verdict::AskPerson } else { Verdict::GiveUp };
            assert_eq!(on(3), exhausted, "{class:?}");
            assert_eq!(on(4), exhausted, "{class:?}");
        }
    }
}
