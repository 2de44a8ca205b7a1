//! The audit log: questions, proof, export, and the live tail.

use agentos_api::body::{AuditCheckpoint, AuditFilter, AuditRecord, AuditVerification, Page};
use agentos_types::Result;
use reqwest::Method;

use crate::{AuditRecords, Client, Download, answer, http};

impl Client {
    pub async fn query_audit(&self, filter: &AuditFilter) -> Result<Page<AuditRecord>> {
        let query = http::query_of(filter)?;
        self.get("/api/v1/audit", &http::borrowed(&query)).await
    }

    /// The server's own word; a log that does not verify is an answer, not an error.
    pub async fn verify_audit(&self) -> Result<AuditVerification> {
        self.get_slowly("/api/v1/audit/verify").await
    }

    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpoint> {
        self.get("/api/v1/audit/checkpoint", &[]).await
    }

    /// The log from record `from_seq` as a segment that verifies offline.
    pub async fn export_audit(&self, from_seq: i64) -> Result<Download> {
        let query = [("from_seq", from_seq.to_string())];
        let request = self.request(Method::GET, "/api/v1/audit/export", &query)?.timeout(http::LONG_ANSWER_TIMEOUT);
        let response = answer::success(self, self.send(request).await?).await?;
        Ok(Download { client: self.clone(), response })
    }

    /// New records from now on, or every record after `after_seq`.
    pub fn follow_audit(&self, after_seq: Option<i64>) -> AuditRecords {
        AuditRecords::new(self.clone(), after_seq)
    }
}
