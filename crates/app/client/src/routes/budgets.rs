//! Budgets and what was spent.

use agentos_api::budgets::{BudgetFilter, BudgetInfo, BudgetKey, SetBudget, SpendFilter, SpendInfo};
use agentos_types::Result;
use reqwest::Method;

use crate::{Client, answer, http};

impl Client {
    pub async fn budgets(&self, filter: &BudgetFilter) -> Result<Vec<BudgetInfo>> {
        let query = http::query_of(filter)?;
        self.get_items("/api/v1/budgets", &http::borrowed(&query)).await
    }

    pub async fn set_budget(&self, body: &SetBudget) -> Result<BudgetInfo> {
        self.write(Method::PUT, "/api/v1/budgets", body).await
    }

    pub async fn remove_budget(&self, key: &BudgetKey) -> Result<()> {
        let query = http::query_of(key)?;
        let request = self.request(Method::DELETE, "/api/v1/budgets", &http::borrowed(&query))?;
        let response = self.send(request.timeout(http::ANSWER_TIMEOUT)).await?;
        answer::success(self, response).await.map(drop)
    }

    pub async fn spend(&self, filter: &SpendFilter) -> Result<Vec<SpendInfo>> {
        let query = http::query_of(filter)?;
        self.get_items("/api/v1/spend", &http::borrowed(&query)).await
    }
}
