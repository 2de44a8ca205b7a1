//! The server's own state.

use agentos_api::body::Health;
use agentos_types::Result;
use reqwest::{Method, StatusCode};

use crate::{Client, answer, http};

impl Client {
    /// Whether the server takes work. `false` while it starts or stops; an error when nobody answers at all.
    pub async fn ready(&self) -> Result<bool> {
        let response = self.send(self.request(Method::GET, "/ready", &[])?.timeout(http::ANSWER_TIMEOUT)).await?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(false);
        }
        answer::success(self, response).await.map(|_| true)
    }

    pub async fn health(&self) -> Result<Health> {
        self.get("/health", &[]).await
    }

    /// Prometheus text.
    pub async fn metrics(&self) -> Result<String> {
        self.get_text("/metrics").await
    }
}
