//! Budgets, and who spends.

use agentos_api::budgets::{BudgetInfo, SpendInfo};
use agentos_types::budget::usd;

use super::{View, optional_time, time};

impl View for BudgetInfo {
    const COLUMNS: &'static [&'static str] = &["scope", "per", "budget", "used", "percent", "resets", "set by"];

    fn cells(&self) -> Vec<String> {
        let is_per_run = self.scope.kind() == "runs-of";
        let of_runs = |text: String| if is_per_run { "-".to_owned() } else { text };
        vec![
            self.scope.to_string(),
            if is_per_run { "run".to_owned() } else { self.period.as_str().to_owned() },
            self.unit.shown(self.amount),
            of_runs(self.unit.shown(self.used)),
            of_runs(percent(self.used, self.amount)),
            optional_time(self.resets_at),
            if self.origin == "manifest" { "manifest".to_owned() } else { self.set_by.clone() },
        ]
    }

    fn key(&self) -> String {
        self.scope.to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields: Vec<_> = Self::COLUMNS.iter().copied().zip(self.cells()).collect();
        if self.reserved > 0 {
            fields.push(("under way", self.unit.shown(self.reserved)));
        }
        if self.forfeited > 0 {
            fields.push(("of it lost in crashes", self.unit.shown(self.forfeited)));
        }
        fields.push(("set at", time(self.set_at)));
        fields
    }
}

/// Rounded down, so that 100 means that nothing is left.
fn percent(used: i64, amount: i64) -> String {
    match amount {
        0 => "100 %".to_owned(),
        amount => format!("{} %", i128::from(used) * 100 / i128::from(amount)),
    }
}

impl View for SpendInfo {
    const COLUMNS: &'static [&'static str] =
        &["payer", "model", "requests", "failed", "tokens in", "tokens out", "usd", "estimated", "cached"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.payer.clone(),
            self.model.clone(),
            self.requests.to_string(),
            self.failures.to_string(),
            self.tokens_input.to_string(),
            self.tokens_output.to_string(),
            usd(self.nano_usd),
            self.estimated.to_string(),
            self.cached.to_string(),
        ]
    }

    fn key(&self) -> String {
        self.payer.clone()
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::{Timestamp, budget::BudgetUnit, budget::Period};

    use super::*;

    #[test]
    fn a_budget_reads_as_people_say_it() {
        let of = |scope: &str, used, amount| BudgetInfo {
            scope: scope.parse().unwrap(),
            period: Period::Day,
            unit: BudgetUnit::NanoUsd,
            origin: "operator".into(),
            amount,
            used,
            reserved: 0,
            forfeited: 0,
            resets_at: None,
            set_by: "token:x".into(),
            set_at: Timestamp::ZERO,
        };
        let cells = of("agent:a", 1_999_999_999, 2_000_000_000).cells();
        assert_eq!(cells[..5], ["agent:a", "day", "2.00 USD", "1.999999999 USD", "99 %"]);
        assert_eq!(of("agent:a", 0, 0).cells()[4], "100 %", "nothing is left of nothing");
        assert_eq!(of("runs-of:a", 0, 5).cells()[1..5], ["run", "0.000000005 USD", "-", "-"]);
    }
}
