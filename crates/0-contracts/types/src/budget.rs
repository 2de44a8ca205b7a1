//! Budgets: who may use how much in which period. Money is whole nano-USD (10⁻⁹ USD), so that sums are exact.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AgentName, Code, Fault, TaskId, Timestamp, TokenId};

/// Nano-USD in a US dollar.
pub const NANO_USD: i64 = 1_000_000_000;
/// The largest amount of a budget: a thousand million USD, far below what the sums of a century could overflow.
pub const AMOUNT_MAX: i64 = 1_000_000_000 * NANO_USD;
const NAME_BYTES_MAX: usize = 64;

/// Whose use is counted. Written `KIND:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BudgetScope {
    /// One task. Its budget is set for all tasks of an agent, as [`BudgetScope::RunsOf`].
    Run(TaskId),
    /// Each task of the agent by itself.
    RunsOf(AgentName),
    Agent(AgentName),
    /// A program outside, by its token.
    Token(TokenId),
    /// Agents that belong together, by the manifest's `team`.
    Team(String),
    /// Everybody on whose behalf teams work.
    Tenant(String),
}

impl BudgetScope {
    pub fn kind(&self) -> &'static str {
        match self {
            BudgetScope::Run(_) => "run",
            BudgetScope::RunsOf(_) => "runs-of",
            BudgetScope::Agent(_) => "agent",
            BudgetScope::Token(_) => "token",
            BudgetScope::Team(_) => "team",
            BudgetScope::Tenant(_) => "tenant",
        }
    }
}

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            BudgetScope::Run(task) => task.as_str(),
            BudgetScope::RunsOf(agent) | BudgetScope::Agent(agent) => agent.as_str(),
            BudgetScope::Token(token) => token.as_str(),
            BudgetScope::Team(name) | BudgetScope::Tenant(name) => name,
        };
        write!(f, "{}:{name}", self.kind())
    }
}

impl FromStr for BudgetScope {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let group = |name: &str| {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            ((1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)).then(|| name.to_owned())
        };
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let scope = match kind {
            "run" => name.parse().ok().map(BudgetScope::Run),
            "runs-of" => name.parse().ok().map(BudgetScope::RunsOf),
            "agent" => name.parse().ok().map(BudgetScope::Agent),
            "token" => name.parse().ok().map(BudgetScope::Token),
            "team" => group(name).map(BudgetScope::Team),
            "tenant" => group(name).map(BudgetScope::Tenant),
            _ => None,
        };
        scope.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Fault::new(Code::BUDGET_INVALID, format!("'{}' is no scope of a budget", shown.escape_debug()))
                .hint("write agent:NAME, runs-of:NAME, token:ID, team:NAME or tenant:NAME")
        })
    }
}

impl TryFrom<String> for BudgetScope {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<BudgetScope> for String {
    fn from(scope: BudgetScope) -> String {
        scope.to_string()
    }
}

/// When counting begins anew. Minutes, days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    Minute,
    Day,
    Month,
    /// Never.
    Total,
}

impl Period {
    pub const ALL: [Period; 4] = [Period::Minute, Period::Day, Period::Month, Period::Total];

    pub fn as_str(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Day => "day",
            Period::Month => "month",
            Period::Total => "total",
        }
    }

    /// Beginning of the period that `now` lies in.
    pub fn start(self, now: Timestamp) -> Timestamp {
        match self {
            Period::Minute => now.minute_start(),
            Period::Day => now.day_start(),
            Period::Month => now.month_start(),
            Period::Total => Timestamp::ZERO,
        }
    }

    /// End of the period that began at `start`; never for [`Period::Total`].
    pub fn end(self, start: Timestamp) -> Timestamp {
        let days = |count: u64| start.after(std::time::Duration::from_secs(count * 86_400));
        match self {
            Period::Minute => start.after(std::time::Duration::from_secs(60)),
            Period::Day => days(1),
            // The longest month ends within the next one, however long that is.
            Period::Month => days(31).month_start(),
            Period::Total => Timestamp::NEVER,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetUnit {
    NanoUsd,
    /// Input and output together.
    Tokens,
    Requests,
}

impl BudgetUnit {
    pub const ALL: [BudgetUnit; 3] = [BudgetUnit::NanoUsd, BudgetUnit::Tokens, BudgetUnit::Requests];

    pub fn as_str(self) -> &'static str {
        match self {
            BudgetUnit::NanoUsd => "nano-usd",
            BudgetUnit::Tokens => "tokens",
            BudgetUnit::Requests => "requests",
        }
    }

    /// An amount for people: USD with what digits it needs, or a plain number.
    pub fn shown(self, amount: i64) -> String {
        match self {
            BudgetUnit::NanoUsd => format!("{} USD", usd(amount)),
            BudgetUnit::Tokens => format!("{amount} tokens"),
            BudgetUnit::Requests => format!("{amount} requests"),
        }
    }
}

/// Nano-USD as a decimal number of USD, at least two digits after the point.
pub fn usd(nano: i64) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let digits = format!("{:09}", nano.unsigned_abs() % 1_000_000_000);
    let kept = digits.trim_end_matches('0').len().max(2);
    let fraction = digits.get(..kept).unwrap_or_default();
    format!("{sign}{}.{fraction}", nano.unsigned_abs() / 1_000_000_000)
}

/// A decimal number of USD as nano-USD. More than nine digits after the point are refused, not rounded.
pub fn parse_usd(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nano: i64 = format!("{fraction:0<9}").parse().ok()?;
    let amount = whole.parse::<i64>().ok()?.checked_mul(NANO_USD)?.checked_add(nano)?;
    (amount <= AMOUNT_MAX).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in ["agent:a", "runs-of:a-b", "team:research", "tenant:acme-2", "run:task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E"]
        {
            assert_eq!(text.parse::<BudgetScope>().unwrap().to_string(), text);
        }
        for text in ["", "agent", "agent:", "agent:A", "team:A", "team:", "everybody", "run:1"] {
            assert_eq!(text.parse::<BudgetScope>().unwrap_err().code, Code::BUDGET_INVALID, "{text}");
        }
    }

    #[test]
    fn money_is_exact() {
        for (text, nano) in
            [("0", 0), ("1", NANO_USD), ("0.000000001", 1), ("12.50", 12_500_000_000), ("007.1", 7_100_000_000)]
        {
            assert_eq!(parse_usd(text), Some(nano), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000001", "1000000001", "99999999999999999999", "1,5"] {
            assert_eq!(parse_usd(text), None, "{text}");
        }
        for (nano, text) in [(0, "0.00"), (1, "0.000000001"), (12_500_000_000, "12.50"), (-1_000_000_000, "-1.00")] {
            assert_eq!(usd(nano), text);
        }
    }

    #[test]
    fn periods_follow_each_other_without_a_gap() {
        let mut at = Timestamp::from_millis(1_835_442_855_000);
        for period in [Period::Minute, Period::Day, Period::Month] {
            for _ in 0..30 {
                let start = period.start(at);
                let end = period.end(start);
                assert!(start <= at && at < end);
                assert_eq!(period.start(end), end);
                assert_eq!(period.start(Timestamp(end.0 - 1)), start);
                at = end;
            }
        }
        assert_eq!(Period::Total.end(Period::Total.start(at)), Timestamp::NEVER);
    }
}
