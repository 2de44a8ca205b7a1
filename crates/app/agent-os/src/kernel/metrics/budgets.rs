//! Budgets and what was spent today.

use std::collections::BTreeMap;

use agentos_base::names::{self, BUDGETS_LABELLED_MAX, OTHER_BUDGETS};
use agentos_ledger::{Spend, SpendRow, Standing};
use agentos_types::{Result, budget::NANO_USD};

use super::{Page, ServerKernel};

pub(super) async fn render(kernel: &ServerKernel, page: &mut Page) -> Result<()> {
    let standing = kernel.ledger.standing(None).await?;
    let today = kernel.ambient.now().day_start();
    let total = kernel.store.read(move |conn| Spend::total(conn, today)).await?;
    page.family(&names::BUDGETS, [(Vec::new(), standing.len() as f64)]);
    page.family(&names::BUDGET_USED, ratios(&standing));
    render_spend(page, &total);
    Ok(())
}

fn render_spend(page: &mut Page, total: &SpendRow) {
    page.family(&names::SPEND_USD, [(Vec::new(), total.nano_usd as f64 / NANO_USD as f64)]);
    let labelled = |(label, count): (&str, i64)| (vec![label.to_owned()], count as f64);
    page.family(&names::SPEND_TOKENS, [("input", total.tokens_input), ("output", total.tokens_output)].map(labelled));
    let succeeded = total.requests - total.failures - total.cached;
    let outcomes = [("succeeded", succeeded), ("failed", total.failures), ("cached", total.cached)];
    page.family(&names::SPEND_REQUESTS, outcomes.map(labelled));
}

/// Of an operator's and a manifest's budget for the same thing the fuller one counts, as it does for calls. Each run counts by
/// itself and has no series.
fn ratios(standing: &[Standing]) -> Vec<(Vec<String>, f64)> {
    let mut fullest: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for one in standing.iter().filter(|one| one.budget.scope.kind() != "runs-of") {
        let budget = &one.budget;
        let labels = [budget.scope.to_string(), budget.period.as_str().into(), budget.unit.as_str().into()];
        let ratio = if budget.amount == 0 { 1.0 } else { one.used as f64 / budget.amount as f64 };
        let known = fullest.entry(labels.to_vec()).or_default();
        *known = known.max(ratio);
    }
    let others = fullest.values().skip(BUDGETS_LABELLED_MAX).copied().reduce(f64::max);
    let mut series: Vec<_> = fullest.into_iter().take(BUDGETS_LABELLED_MAX).collect();
    series.extend(others.map(|ratio| (vec![OTHER_BUDGETS.to_owned(); 3], ratio)));
    series
}

#[cfg(test)]
mod tests {
    use agentos_ledger::{Budget, Origin};
    use agentos_types::{
        Timestamp,
        budget::{BudgetScope, BudgetUnit, Period},
    };

    use super::*;

    fn standing(scope: &str, origin: Origin, used: i64, amount: i64) -> Standing {
        let (period, unit, set_at) = (Period::Day, BudgetUnit::Tokens, Timestamp::ZERO);
        let scope = scope.parse().unwrap();
        let budget = Budget { scope, period, unit, origin, amount, set_by: "test".into(), set_at };
        Standing { budget, used, reserved: 0, forfeited: 0, resets_at: Timestamp::NEVER }
    }

    #[test]
    fn each_budget_has_one_series_and_those_beyond_the_bound_share_one() {
        let both = [standing("agent:a", Origin::Operator, 5, 10), standing("agent:a", Origin::Manifest, 5, 5)];
        assert_eq!(ratios(&both), [(vec!["agent:a".into(), "day".into(), "tokens".into()], 1.0)]);
        assert!(ratios(&[standing("runs-of:a", Origin::Operator, 0, 10)]).is_empty());
        let many: Vec<_> = (0..BUDGETS_LABELLED_MAX + 50)
            .map(|number| standing(&format!("team:t{number:04}"), Origin::Operator, number as i64, 1_000))
            .collect();
        let series = ratios(&many);
        assert_eq!(series.len(), BUDGETS_LABELLED_MAX + 1);
        assert_eq!(series.last().unwrap(), &(vec![OTHER_BUDGETS.to_owned(); 3], 0.249));
        assert!(OTHER_BUDGETS.parse::<BudgetScope>().is_err(), "no budget can have the name of the others");
    }
}
