//! The audit log: query, proof, export, tail.

use agentos_api::body::{AuditCheckpoint, AuditFilter, AuditRecord, AuditVerification, Page};
use agentos_types::{Code, Fault, limits};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{Filter, QueryCode},
    handlers::Gateway,
    layers::{errors::Answer, guard::Caller},
    sse,
};

/// Audit records that fit the filter. Their cursor is a sequence number of the log, which is public to its readers.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditFilter),
    responses((status = 200, description = "One page", body = Page<AuditRecord>)))]
pub(crate) async fn query_audit(
    State(shared): Gateway,
    Filter(mut filter): Filter<AuditFilter>,
) -> Answer<Json<Page<AuditRecord>>> {
    let limit = filter.limit.unwrap_or(limits::PAGE_DEFAULT);
    if !(1..=limits::PAGE_MAX).contains(&limit) {
        let message = format!("limit {limit} is not between 1 and {}", limits::PAGE_MAX);
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, message).into());
    }
    filter.limit = Some(limit);
    Ok(Json(shared.kernel.query_audit(filter).await?))
}

/// Verifies the whole log here and now: row linkage, Merkle root, signed checkpoints.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit",
    responses((status = 200, description = "Valid or not, and why not", body = AuditVerification)))]
pub(crate) async fn verify_audit(State(shared): Gateway) -> Answer<Json<AuditVerification>> {
    Ok(Json(shared.kernel.verify_audit().await?))
}

/// The newest signed checkpoint. Keep it elsewhere; a later log must extend it.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, description = "A signed note", body = AuditCheckpoint)))]
pub(crate) async fn audit_checkpoint(State(shared): Gateway) -> Answer<Json<AuditCheckpoint>> {
    Ok(Json(shared.kernel.audit_checkpoint().await?))
}

/// The log counts from 0.
const BEFORE_FIRST: i64 = -1;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// First sequence number of the segment; 0, the whole log, when absent.
    #[param(minimum = 0)]
    from_seq: Option<i64>,
    /// The segment ends at the newest checkpoint of this size or below; the newest of all when absent.
    #[param(minimum = 1)]
    until_seq: Option<i64>,
}

impl QueryCode for ExportQuery {
    const CODE: Code = Code::AUDIT_QUERY_INVALID;
}

/// The log from a sequence number on, as JSON lines that `agent-os-verify` checks offline. The export is itself recorded.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(ExportQuery),
    responses((status = 200, description = "One record a line", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn export_audit(
    State(shared): Gateway,
    caller: Caller,
    Filter(query): Filter<ExportQuery>,
) -> Answer<Response> {
    let from_seq = query.from_seq.unwrap_or(0);
    if from_seq < 0 {
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, "from_seq is not negative").into());
    }
    if query.until_seq.is_some_and(|until| until <= from_seq) {
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, "until_seq is above from_seq").into());
    }
    let segment = shared.kernel.export_audit(&caller.context, from_seq, query.until_seq).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], segment).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TailQuery {
    /// Only records after this sequence number, -1 for all; absent: only new ones. `Last-Event-ID` goes before it.
    #[param(minimum = -1)]
    after_seq: Option<i64>,
}

impl QueryCode for TailQuery {
    const CODE: Code = Code::AUDIT_QUERY_INVALID;
}

/// The log's tail as a stream of server-sent events; the event's id is its `seq`.
#[utoipa::path(get, path = "/api/v1/audit/stream", tag = "audit",
    params(TailQuery, ("Last-Event-ID" = Option<i64>, Header, description = "Sequence number of the last record seen")),
    responses((status = 200, description = "Records in order", body = AuditRecord, content_type = "text/event-stream")))]
pub(crate) async fn stream_audit(
    State(shared): Gateway,
    caller: Caller,
    headers: HeaderMap,
    Filter(query): Filter<TailQuery>,
) -> Answer<Response> {
    let asked = query.after_seq;
    if asked.is_some_and(|seq| seq < BEFORE_FIRST) {
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, "after_seq is -1 or a sequence number").into());
    }
    let after_seq = sse::last_event_id(&headers)?.or(asked);
    Ok(sse::audit_stream(shared, caller, after_seq).await?)
}
