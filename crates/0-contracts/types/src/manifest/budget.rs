//! What an agent may spend on models, as its signed manifest says.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    AgentName, Code, Fault, Result,
    budget::{AMOUNT_MAX, BudgetScope, BudgetUnit, Period, parse_usd, usd},
};

/// Budgets for calls of models, and who pays beside the agent. An operator's budget for the same thing holds as well: the
/// smaller one decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelBudget {
    /// Agents that share the budgets of `team:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// On whose behalf it works: shares the budgets of `tenant:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// USD, as a number or exactly as a text such as `"0.25"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub usd_per_run: Option<Usd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub usd_per_day: Option<Usd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub usd_per_month: Option<Usd>,
    /// Input and output together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
}

impl ModelBudget {
    /// Each budget as the ledger counts it.
    pub fn limits(&self, agent: &AgentName) -> Vec<(BudgetScope, Period, BudgetUnit, i64)> {
        let own = || BudgetScope::Agent(agent.clone());
        let money = |amount: Option<Usd>| amount.map(|Usd(nano)| nano);
        let count = |amount: Option<u64>| amount.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        let all = [
            (BudgetScope::RunsOf(agent.clone()), Period::Total, BudgetUnit::NanoUsd, money(self.usd_per_run)),
            (own(), Period::Day, BudgetUnit::NanoUsd, money(self.usd_per_day)),
            (own(), Period::Month, BudgetUnit::NanoUsd, money(self.usd_per_month)),
            (own(), Period::Minute, BudgetUnit::Tokens, count(self.tokens_per_minute)),
            (own(), Period::Day, BudgetUnit::Tokens, count(self.tokens_per_day)),
            (own(), Period::Minute, BudgetUnit::Requests, count(self.requests_per_minute)),
        ];
        all.into_iter().filter_map(|(scope, period, unit, amount)| Some((scope, period, unit, amount?))).collect()
    }

    pub(super) fn validate(&self) -> Result<()> {
        for (field, kind, name) in [("team", "team", &self.team), ("tenant", "tenant", &self.tenant)] {
            if name.as_ref().is_some_and(|name| format!("{kind}:{name}").parse::<BudgetScope>().is_err()) {
                return Err(Fault::new(Code::MANIFEST_INVALID, format!("budget.{field} is no name of a {kind}"))
                    .hint("use 1 to 64 lower-case letters, digits and hyphens"));
            }
        }
        let counts = [
            ("tokens_per_minute", self.tokens_per_minute),
            ("tokens_per_day", self.tokens_per_day),
            ("requests_per_minute", self.requests_per_minute),
        ];
        match counts.into_iter().find(|(_, count)| count.is_some_and(|count| count > AMOUNT_MAX.unsigned_abs())) {
            None => Ok(()),
            Some((field, _)) => {
                Err(Fault::new(Code::MANIFEST_INVALID, format!("budget.{field} is above {AMOUNT_MAX}"))
                    .hint("leave it out where nothing shall be limited"))
            }
        }
    }
}

/// An amount of money in whole nano-USD. Read from a decimal text, or from a number as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub i64);

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&usd(self.0))
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Decimal)
    }
}

struct Decimal;

impl Decimal {
    fn read<E: de::Error>(text: &str) -> Result<Usd, E> {
        parse_usd(text).map(Usd).ok_or_else(|| {
            E::custom("an amount in USD is a number from 0 to 1000000000 with at most nine digits after the point")
        })
    }
}

impl de::Visitor<'_> for Decimal {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in USD, such as 5 or \"0.25\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
        Self::read(text)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Usd, E> {
        Self::read(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Usd, E> {
        Self::read(&number.to_string())
    }

    /// The shortest decimal that means this number is the one that was written, for all amounts of up to 15 digits.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Usd, E> {
        Self::read(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn money_is_read_as_it_was_written() {
        let check = |written: Value, nano: Option<i64>| {
            let read: Option<Usd> = from_value(written.clone()).ok();
            assert_eq!(read, nano.map(Usd), "{written}");
            if let Some(usd) = read {
                assert_eq!(from_value::<Usd>(serde_json::to_value(usd).unwrap()).unwrap(), usd, "{written} comes back");
            }
        };
        check(json!(5), Some(5_000_000_000));
        check(json!(0), Some(0));
        check(json!(0.1), Some(100_000_000));
        check(json!(2.675), Some(2_675_000_000));
        check(json!(1e-9), Some(1));
        check(json!("0.25"), Some(250_000_000));
        for wrong in [json!(-1), json!(-0.5), json!(1e300), json!("1e3"), json!(""), json!(1e-10), json!(null)] {
            check(wrong, None);
        }
    }

    #[test]
    fn each_field_is_one_budget() {
        let budget: ModelBudget = from_value(json!({"usd_per_run": 1, "usd_per_day": "2.5", "usd_per_month": 30,
            "tokens_per_minute": 4, "tokens_per_day": 5, "requests_per_minute": 6, "team": "blue"}))
        .unwrap();
        budget.validate().unwrap();
        let shown: Vec<String> = budget
            .limits(&"a".parse().unwrap())
            .iter()
            .map(|(scope, period, unit, amount)| format!("{scope} {} {}", period.as_str(), unit.shown(*amount)))
            .collect();
        let expected = [
            "runs-of:a total 1.00 USD",
            "agent:a day 2.50 USD",
            "agent:a month 30.00 USD",
            "agent:a minute 4 tokens",
            "agent:a day 5 tokens",
            "agent:a minute 6 requests",
        ];
        assert_eq!(shown, expected);
        for wrong in [json!({"team": "Blue"}), json!({"tenant": ""}), json!({"tokens_per_day": u64::MAX})] {
            let budget: ModelBudget = from_value(wrong.clone()).unwrap();
            assert_eq!(budget.validate().unwrap_err().code, Code::MANIFEST_INVALID, "{wrong}");
        }
    }
}
