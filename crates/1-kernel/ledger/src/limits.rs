//! What is allowed: the budgets as they are set, and the smallest one for each account, period and unit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agentos_types::{
    Timestamp,
    budget::{BudgetScope, BudgetUnit, Period},
};

/// Who set a budget. Of two for the same thing, both hold: the smaller one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Operator,
    /// The signed manifest of the agent.
    Manifest,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Operator => "operator",
            Origin::Manifest => "manifest",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Origin::Operator, Origin::Manifest].into_iter().find(|origin| origin.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub scope: BudgetScope,
    pub period: Period,
    pub unit: BudgetUnit,
    pub origin: Origin,
    pub amount: i64,
    pub set_by: String,
    pub set_at: Timestamp,
}

/// Amounts by scope, for the path of calls: a snapshot that is replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Limits(HashMap<BudgetScope, Vec<(Period, BudgetUnit, i64)>>);

impl Limits {
    pub fn new<'a>(budgets: impl IntoIterator<Item = &'a Budget>) -> Self {
        let mut smallest: BTreeMap<(&BudgetScope, Period, BudgetUnit), i64> = BTreeMap::new();
        for budget in budgets {
            let amount = smallest.entry((&budget.scope, budget.period, budget.unit)).or_insert(budget.amount);
            *amount = (*amount).min(budget.amount);
        }
        let mut by_scope: HashMap<BudgetScope, Vec<_>> = HashMap::new();
        for ((scope, period, unit), amount) in smallest {
            by_scope.entry(scope.clone()).or_default().push((period, unit, amount));
        }
        Self(by_scope)
    }

    pub fn of(&self, scope: &BudgetScope) -> &[(Period, BudgetUnit, i64)] {
        self.0.get(scope).map_or(&[], Vec::as_slice)
    }
}

/// Scopes with a budget that is not as it was.
pub(crate) fn changed(before: &[Budget], after: &[Budget]) -> BTreeSet<BudgetScope> {
    let line = |budget: &Budget| (budget.scope.clone(), budget.period, budget.unit, budget.origin, budget.amount);
    let before: BTreeSet<_> = before.iter().map(line).collect();
    let after: BTreeSet<_> = after.iter().map(line).collect();
    before.symmetric_difference(&after).map(|(scope, ..)| scope.clone()).collect()
}
