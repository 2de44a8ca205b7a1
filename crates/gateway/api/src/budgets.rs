//! Budgets and what was spent: bodies, and their part of the port.

use agentos_types::{
    Result, Timestamp,
    budget::{BudgetScope, BudgetUnit, Period},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body::Context;

/// `PUT /api/v1/budgets`: sets one, or changes its amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// `agent:NAME`, `runs-of:NAME` (each task of the agent by itself), `token:ID`, `team:NAME` or `tenant:NAME`.
    #[schema(value_type = String)]
    pub scope: BudgetScope,
    pub period: Period,
    pub unit: BudgetUnit,
    /// In the unit; 5 USD are 5000000000 nano-USD.
    #[schema(minimum = 0)]
    pub amount: i64,
}

/// Which budget: `DELETE /api/v1/budgets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BudgetKey {
    #[param(value_type = String)]
    pub scope: BudgetScope,
    pub period: Period,
    pub unit: BudgetUnit,
}

/// `GET /api/v1/budgets`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct BudgetFilter {
    /// Only budgets of this scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub scope: Option<BudgetScope>,
}

/// A budget and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetInfo {
    #[schema(value_type = String)]
    pub scope: BudgetScope,
    pub period: Period,
    pub unit: BudgetUnit,
    /// `operator` or `manifest`. Of two for the same thing both hold.
    pub origin: String,
    pub amount: i64,
    /// In the period that is now. Always 0 for `runs-of`: each task counts by itself.
    pub used: i64,
    /// In calls that are under way on the node that answers.
    pub reserved: i64,
    /// Part of `used` that a node held when it died: nobody knows what became of it, so it counts.
    pub forfeited: i64,
    /// When counting begins anew; absent where it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    pub set_by: String,
    pub set_at: Timestamp,
}

/// `GET /api/v1/spend`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct SpendFilter {
    /// Days back, today included; 1 to 396.
    #[param(minimum = 1, maximum = 396)]
    pub days: u16,
    /// Rows, 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    pub limit: u16,
}

impl Default for SpendFilter {
    fn default() -> Self {
        Self { days: 1, limit: 50 }
    }
}

/// What one payer has spent on one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpendInfo {
    /// `agent:NAME` or `token:ID`.
    pub payer: String,
    /// `PROVIDER/MODEL`.
    pub model: String,
    pub requests: i64,
    /// Requests of these that failed.
    pub failures: i64,
    pub tokens_input: i64,
    pub tokens_output: i64,
    pub nano_usd: i64,
    /// Requests whose usage the provider did not tell.
    pub estimated: i64,
    /// Requests of these that a cache answered.
    #[serde(default)]
    pub cached: i64,
}

/// Part of the port.
#[async_trait]
pub trait Budgets: Send + Sync + 'static {
    async fn list_budgets(&self, filter: BudgetFilter) -> Result<Vec<BudgetInfo>>;
    async fn set_budget(&self, context: &Context, body: SetBudget) -> Result<BudgetInfo>;
    async fn remove_budget(&self, context: &Context, key: BudgetKey) -> Result<()>;
    /// The largest sums first, by cost and then by requests.
    async fn spend(&self, filter: SpendFilter) -> Result<Vec<SpendInfo>>;
}
