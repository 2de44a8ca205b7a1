//! Retention.

use agentos_api::body::{RetentionRows, RetentionStatus};
use agentos_types::Result;
use reqwest::Method;

use crate::Client;

impl Client {
    pub async fn retention(&self) -> Result<RetentionStatus> {
        self.get("/api/v1/retention", &[]).await
    }

    /// Rows that a run would take now.
    pub async fn preview_retention(&self) -> Result<Vec<RetentionRows>> {
        self.get_items("/api/v1/retention/preview", &[]).await
    }

    /// Begins a run, or joins the one that is under way.
    pub async fn run_retention(&self) -> Result<RetentionStatus> {
        self.act(Method::POST, "/api/v1/retention/run").await
    }
}
