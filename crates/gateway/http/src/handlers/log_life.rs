//! What is done to the audit log beside reading it. Everything here is itself recorded in the log.

use std::str::FromStr;

use agentos_api::body::{AddAuditHold, AuditHold, AuditKeyRotated, AuditPruned, Page, PruneAudit};
use agentos_types::{Code, Fault};
use axum::{Json, extract::State, http::StatusCode, response::Response};

use crate::{
    extract::{Body, BodyOrDefault, Id},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// Prunes whole days that are older than `retention.audit_log_days`, oldest first, up to the first day that a hold covers.
#[utoipa::path(post, path = "/api/v1/audit/prune", tag = "audit", request_body = Option<PruneAudit>,
    responses((status = 200, description = "What went, or would go", body = AuditPruned)))]
pub(crate) async fn prune_audit(
    State(shared): Gateway,
    caller: Caller,
    BodyOrDefault(body): BodyOrDefault<PruneAudit>,
) -> Answer<Json<AuditPruned>> {
    if body.keep_from.is_some_and(|seq| seq < 0) {
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, "keep_from is not negative").into());
    }
    Ok(Json(shared.kernel.prune_audit(&caller.context, body).await?))
}

/// All legal holds that stand.
#[utoipa::path(get, path = "/api/v1/audit/holds", tag = "audit",
    responses((status = 200, description = "All holds", body = Page<AuditHold>)))]
pub(crate) async fn list_audit_holds(State(shared): Gateway) -> Answer<Json<Page<AuditHold>>> {
    Ok(whole(shared.kernel.list_audit_holds().await?))
}

/// Places a legal hold. A prune that was ordered before goes on; none that it covers is ordered after.
#[utoipa::path(post, path = "/api/v1/audit/holds", tag = "audit", request_body = AddAuditHold,
    responses((status = 201, description = "Placed", body = AuditHold)))]
pub(crate) async fn add_audit_hold(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<AddAuditHold>,
) -> Answer<Response> {
    let hold = shared.kernel.add_audit_hold(&caller.context, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/audit/holds/{}", hold.name), &hold)
}

/// A name as it stands in the path. Which holds there are, the kernel knows.
pub(crate) struct HoldName(String);

impl FromStr for HoldName {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        plain
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| Fault::new(Code::INVALID_ID, "no legal hold has such a name"))
    }
}

/// Releases a legal hold.
#[utoipa::path(delete, path = "/api/v1/audit/holds/{name}", tag = "audit", params(("name" = String, Path)),
    responses((status = 204, description = "Released")))]
pub(crate) async fn release_audit_hold(
    State(shared): Gateway,
    caller: Caller,
    Id(HoldName(name)): Id<HoldName>,
) -> Answer<StatusCode> {
    shared.kernel.release_audit_hold(&caller.context, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the log a new key, which the old one signs. The old private key is destroyed.
#[utoipa::path(post, path = "/api/v1/audit/rotate-key", tag = "audit",
    responses((status = 200, description = "Both public keys", body = AuditKeyRotated)))]
pub(crate) async fn rotate_audit_key(State(shared): Gateway, caller: Caller) -> Answer<Json<AuditKeyRotated>> {
    Ok(Json(shared.kernel.rotate_audit_key(&caller.context).await?))
}
