//! What is allowed: the budgets as they are set, and the smallest one for each account, period and unit.

use std::collections::{BTreeMap, HashMap};

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
    pub fn new(budgets: &[Budget]) -> Self {
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

    pub fn amount(&self, scope: &BudgetScope, period: Period, unit: BudgetUnit) -> Option<i64> {
        let found = self.of(scope).iter().find(|(of, what, _)| *of == period && *what == unit);
        found.map(|(_, _, amount)| *amount)
    }
}
