//! The answer to a call that does not fit.

use agentos_types::{Code, Fault, Timestamp, budget::Period};

use crate::counters::Want;

pub(crate) fn exceeded(want: &Want, remaining: i64, now: Timestamp) -> Fault {
    let Want { key, amount, limit, .. } = want;
    let unit = key.unit;
    let per = match key.period {
        Period::Total => String::new(),
        period => format!(" a {}", period.as_str()),
    };
    let remaining = remaining.max(0);
    let fault = Fault::new(
        Code::BUDGET_EXCEEDED,
        format!(
            "the budget of {} is {}{per}; {} are left, and this call could take {}",
            key.scope,
            unit.shown(*limit),
            unit.shown(remaining),
            unit.shown(*amount)
        ),
    )
    .hint("ask for less (max_tokens), or let the operator raise it with `agent-os budget set`")
    .fact("scope", &key.scope)
    .fact("period", key.period.as_str())
    .fact("unit", unit.as_str())
    .fact("limit", limit)
    .fact("remaining", remaining)
    .fact("needed", amount);
    match key.period.end(key.start) {
        Timestamp::NEVER => fault,
        resets_at => fault.fact("resets_at", resets_at).retry_after(resets_at.since(now)),
    }
}
