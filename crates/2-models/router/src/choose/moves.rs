//! What each class of failure leads to.

use agentos_wire::Class;

use super::{Rules, draw};
use crate::{FailureClass, Rule};

/// One way to go on. The first of a list that can be gone is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The same target once more, after a pause.
    Same,
    /// The same key, after the time that its provider named, if that is short.
    Wait,
    /// Another key of the same target, at once.
    OtherKey { once: bool },
    /// Another target, at once.
    Next,
    /// Another target, of another provider.
    Elsewhere,
    /// Another target, with a larger window.
    Larger,
    /// One that writes on from a prefill.
    Continue,
}

/// The usual answer to each class; a rule of the route replaces it.
pub fn after(rules: &Rules, class: Class) -> &'static [Move] {
    // A document cannot say otherwise; should one, these stay final.
    let is_final = matches!(class, Class::BadRequest | Class::ContentFilter | Class::StreamBroken);
    match rules.fallback.get(&FailureClass(class)) {
        Some(Rule::Stop) => return &[],
        Some(Rule::Next) if !is_final && class != Class::ContextOverflow => return &[Move::Next],
        Some(Rule::Retry) if !is_final && class != Class::ContextOverflow => return &[Move::Same, Move::Next],
        _ => {}
    }
    match class {
        // The key is limited, not its provider.
        Class::RateLimited => &[Move::OtherKey { once: false }, Move::Wait, Move::Next],
        Class::QuotaExhausted | Class::Auth => &[Move::OtherKey { once: true }, Move::Elsewhere],
        Class::Overloaded | Class::Server | Class::Malformed => &[Move::Same, Move::Next],
        // Nothing was sent; the same address will hardly be better, but if there is no other, it may be.
        Class::Connect => &[Move::Elsewhere, Move::Same],
        // It may be billed twice, which is reserved twice.
        Class::Timeout => &[Move::Next, Move::Same],
        Class::ContextOverflow => &[Move::Larger],
        Class::ContentFilter if rules.content_filter_fallback => &[Move::Next],
        Class::StreamBroken if rules.continuation => &[Move::Continue],
        // The table was wrong about one target; nothing was billed, so another one may be asked.
        Class::NotCapable => &[Move::Next],
        Class::BadRequest | Class::ContentFilter | Class::StreamBroken => &[],
    }
}

const BACKOFF_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 2_000;

/// Full jitter: anything up to 100 ms × 2ⁿ, and to 2 s.
pub fn backoff_ms(seed: u64, tried: usize) -> u64 {
    let power = u32::try_from(tried.saturating_sub(1)).unwrap_or(u32::MAX).min(5);
    let most = (BACKOFF_MS << power).min(BACKOFF_MAX_MS);
    draw(seed, JITTER + u64::from(power)) % (most + 1)
}

/// Purpose of a draw; the next few are its powers.
const JITTER: u64 = 16;
