//! The server's own state.

use agentos_api::body::{Health, Status};
use agentos_types::{Code, Result};

use crate::Client;

impl Client {
    /// Whether the server takes work. `false` while it starts or stops; an error when nobody answers at all.
    pub async fn ready(&self) -> Result<bool> {
        match self.get::<Status>("/ready", &[]).await {
            Ok(status) => Ok(status.status == "ok"),
            Err(fault) if fault.code != Code::NOT_RUNNING && fault.code != Code::CONNECT_FAILED => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    pub async fn health(&self) -> Result<Health> {
        self.get("/health", &[]).await
    }

    /// Prometheus text.
    pub async fn metrics(&self) -> Result<String> {
        self.get_text("/metrics").await
    }
}
