//! Budgets: what is set, how it stands, and who spends most.

use agentos_api::{
    body::Page,
    budgets::{BudgetFilter, BudgetInfo, BudgetKey, SetBudget, SpendFilter, SpendInfo},
};
use agentos_types::Code;
use axum::{Json, extract::State, http::StatusCode};

use crate::{
    extract::{Body, Filter, QueryCode},
    handlers::{Gateway, whole},
    layers::{errors::Answer, guard::Caller},
};

impl QueryCode for BudgetFilter {
    const CODE: Code = Code::BUDGET_INVALID;
}

impl QueryCode for BudgetKey {
    const CODE: Code = Code::BUDGET_INVALID;
}

impl QueryCode for SpendFilter {
    const CODE: Code = Code::BUDGET_INVALID;
}

/// All budgets with what is used of them.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "budgets", params(BudgetFilter),
    responses((status = 200, description = "Budgets", body = Page<BudgetInfo>)))]
pub(crate) async fn list_budgets(
    State(shared): Gateway,
    Filter(filter): Filter<BudgetFilter>,
) -> Answer<Json<Page<BudgetInfo>>> {
    Ok(whole(shared.kernel.list_budgets(filter).await?))
}

/// Sets a budget, or changes its amount. It holds from the answer on, for calls that are under way as well.
#[utoipa::path(put, path = "/api/v1/budgets", tag = "budgets", request_body = SetBudget,
    responses((status = 200, description = "Set", body = BudgetInfo)))]
pub(crate) async fn set_budget(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<SetBudget>,
) -> Answer<Json<BudgetInfo>> {
    Ok(Json(shared.kernel.set_budget(&caller.context, body).await?))
}

/// Removes a budget of an operator. That of a manifest goes with the manifest.
#[utoipa::path(delete, path = "/api/v1/budgets", tag = "budgets", params(BudgetKey),
    responses((status = 204, description = "Removed")))]
pub(crate) async fn remove_budget(
    State(shared): Gateway,
    caller: Caller,
    Filter(key): Filter<BudgetKey>,
) -> Answer<StatusCode> {
    shared.kernel.remove_budget(&caller.context, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who has spent most, on which model.
#[utoipa::path(get, path = "/api/v1/spend", tag = "budgets", params(SpendFilter),
    responses((status = 200, description = "Sums, the largest first", body = Page<SpendInfo>)))]
pub(crate) async fn spend(
    State(shared): Gateway,
    Filter(filter): Filter<SpendFilter>,
) -> Answer<Json<Page<SpendInfo>>> {
    Ok(whole(shared.kernel.spend(filter).await?))
}
