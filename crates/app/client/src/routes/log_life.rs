//! What is done to the audit log beside reading it: pruning, legal holds, a new key.

use agentos_api::body::{AddAuditHold, AuditHold, AuditKeyRotated, AuditPruned, PruneAudit};
use agentos_types::{Code, Fault, Result};
use reqwest::Method;

use crate::{Client, Download, answer, http};

impl Client {
    /// Records `from_seq` up to the newest checkpoint at or below `until_seq`, as a segment that verifies offline.
    pub async fn export_audit_until(&self, from_seq: i64, until_seq: i64) -> Result<Download> {
        let query = [("from_seq", from_seq.to_string()), ("until_seq", until_seq.to_string())];
        let request = self.request(Method::GET, "/api/v1/audit/export", &query)?.timeout(http::LONG_ANSWER_TIMEOUT);
        let response = answer::success(self, self.send(request).await?).await?;
        Ok(Download { client: self.clone(), response })
    }

    /// Waits until what was ordered to go is deleted.
    pub async fn prune_audit(&self, body: &PruneAudit) -> Result<AuditPruned> {
        let request = self.with_body(Method::POST, "/api/v1/audit/prune", body)?.timeout(http::LONG_ANSWER_TIMEOUT);
        answer::json(self, self.send(request).await?).await
    }

    pub async fn list_audit_holds(&self) -> Result<Vec<AuditHold>> {
        self.get_items("/api/v1/audit/holds", &[]).await
    }

    pub async fn add_audit_hold(&self, body: &AddAuditHold) -> Result<AuditHold> {
        self.write(Method::POST, "/api/v1/audit/holds", body).await
    }

    pub async fn release_audit_hold(&self, name: &str) -> Result<()> {
        // The name becomes a part of the path: what no hold can be called is not sent.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Fault::new(Code::AUDIT_HOLD_NOT_FOUND, format!("no hold can be named '{name}'")));
        }
        self.delete(&format!("/api/v1/audit/holds/{name}")).await
    }

    pub async fn rotate_audit_key(&self) -> Result<AuditKeyRotated> {
        self.act(Method::POST, "/api/v1/audit/rotate-key").await
    }
}
