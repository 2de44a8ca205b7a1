//! Reading the audit log through the API. Exporting is itself recorded.

use agentos_api::body::{AuditFilter, AuditRecord, AuditVerification, Context, Page};
use agentos_audit::{Filter, StoredRecord, query as query_log};
use agentos_types::{Code, Fault, Result, hex, limits::PAGE_DEFAULT};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{ServerKernel, page, page_limit};

pub(super) async fn query(kernel: &ServerKernel, filter: AuditFilter) -> Result<Page<AuditRecord>> {
    let limit = page_limit(filter.limit.unwrap_or(PAGE_DEFAULT));
    let log = kernel.audit.identity().log().to_owned();
    let filter = Filter {
        actor: filter.actor,
        action: filter.action,
        decision: filter.decision,
        task: filter.task,
        since: filter.since,
        until: filter.until,
        cursor: filter.cursor,
        limit: limit + 1,
        ascending: filter.ascending,
    };
    let found = kernel.store.read(move |conn| query_log(conn, &log, &filter)).await?;
    let records = found.into_iter().map(record).collect::<Result<Vec<_>>>()?;
    Ok(page(records, limit, |record| record.seq.to_string()))
}

pub(super) async fn verify(kernel: &ServerKernel) -> Result<AuditVerification> {
    let seen = kernel.audit.verify().await?;
    Ok(AuditVerification {
        valid: seen.finding.is_none(),
        records: seen.records,
        checkpoints: seen.checkpoints,
        root: STANDARD.encode(seen.root),
        finding: seen.finding,
    })
}

pub(super) async fn export(
    kernel: &ServerKernel,
    context: &Context,
    from_seq: i64,
    until_seq: Option<i64>,
) -> Result<Vec<u8>> {
    let from = u64::try_from(from_seq)
        .map_err(|_| Fault::new(Code::AUDIT_QUERY_INVALID, format!("from_seq is {from_seq}, below zero")))?;
    kernel.store.record(kernel.event(context, "audit.export", format!("from:{from}"))).await?;
    kernel.audit.export_until(from, until_seq.and_then(|until| u64::try_from(until).ok())).await
}

fn record(stored: StoredRecord) -> Result<AuditRecord> {
    let event = stored.record.event;
    Ok(AuditRecord {
        seq: i64::try_from(stored.record.seq).map_err(Fault::internal)?,
        id: event.id,
        at: event.at,
        actor: event.actor,
        action: event.action,
        resource: event.resource,
        phase: event.phase,
        decision: event.decision,
        task: event.task,
        correlation: event.correlation,
        facts: event.facts,
        leaf_hash: hex::encode(&stored.leaf_hash),
    })
}
