//! Witnesses: where the own checkpoints go, and the logs of other nodes that are witnessed.

use agentos_types::{
    LogName, Result,
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessTarget, WitnessedLog, WitnessedLogDetail},
};
use reqwest::Method;

use crate::Client;

impl Client {
    pub async fn audit_witnesses(&self) -> Result<Vec<WitnessTarget>> {
        self.get_items("/api/v1/audit/witnesses", &[]).await
    }

    /// A checkpoint of a log that the server witnesses, with the proof that it continues the held one.
    pub async fn submit_checkpoint(&self, body: &SubmitCheckpoint) -> Result<HeldCheckpoint> {
        self.write(Method::POST, "/api/v1/witness/checkpoints", body).await
    }

    /// The newest one that the server holds of the log with this id.
    pub async fn held_checkpoint(&self, log: &LogName) -> Result<HeldCheckpoint> {
        self.get(&format!("/api/v1/witness/checkpoints/{log}"), &[]).await
    }

    pub async fn list_witnessed_logs(&self) -> Result<Vec<WitnessedLog>> {
        self.get_items("/api/v1/witness/logs", &[]).await
    }

    pub async fn add_witnessed_log(&self, body: &AddWitnessedLog) -> Result<WitnessedLog> {
        self.write(Method::POST, "/api/v1/witness/logs", body).await
    }

    pub async fn get_witnessed_log(&self, name: &LogName) -> Result<WitnessedLogDetail> {
        self.get(&format!("/api/v1/witness/logs/{name}"), &[]).await
    }

    pub async fn remove_witnessed_log(&self, name: &LogName) -> Result<()> {
        self.delete(&format!("/api/v1/witness/logs/{name}")).await
    }
}
