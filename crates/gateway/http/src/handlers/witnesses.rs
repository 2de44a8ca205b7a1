//! Witnesses: where the own checkpoints go, and what is held of other nodes' logs.

use agentos_api::body::Page;
use agentos_types::{
    LogName,
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessTarget, WitnessedLog, WitnessedLogDetail},
};
use axum::{Json, extract::State, http::StatusCode, response::Response};

use crate::{
    extract::{Body, Id},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// Every place to which this node hands its checkpoints, and how far it has come.
#[utoipa::path(get, path = "/api/v1/audit/witnesses", tag = "audit",
    responses((status = 200, description = "All targets of the settings", body = Page<WitnessTarget>)))]
pub(crate) async fn audit_witnesses(State(shared): Gateway) -> Answer<Json<Page<WitnessTarget>>> {
    Ok(whole(shared.kernel.audit_witnesses().await?))
}

/// Hands in a checkpoint of a registered log with the proof that it continues the held one. The answer is the cosigned note.
/// 409 with AOS-1924 or AOS-1925 accuses the log: it was forked, rewritten, or is shorter than what is held.
#[utoipa::path(post, path = "/api/v1/witness/checkpoints", tag = "witness", request_body = SubmitCheckpoint,
    responses((status = 200, description = "Held and cosigned", body = HeldCheckpoint)))]
pub(crate) async fn submit_checkpoint(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<SubmitCheckpoint>,
) -> Answer<Json<HeldCheckpoint>> {
    Ok(Json(shared.kernel.submit_checkpoint(&caller.context, body).await?))
}

/// The newest checkpoint that is held of a log. The name is the id of the log, as its checkpoints name it.
#[utoipa::path(get, path = "/api/v1/witness/checkpoints/{name}", tag = "witness", params(("name" = LogName, Path)),
    responses((status = 200, description = "The cosigned note", body = HeldCheckpoint)))]
pub(crate) async fn held_checkpoint(State(shared): Gateway, Id(log): Id<LogName>) -> Answer<Json<HeldCheckpoint>> {
    Ok(Json(shared.kernel.held_checkpoint(&log).await?))
}

/// All logs that this node witnesses.
#[utoipa::path(get, path = "/api/v1/witness/logs", tag = "witness",
    responses((status = 200, description = "All registered logs", body = Page<WitnessedLog>)))]
pub(crate) async fn list_witnessed_logs(State(shared): Gateway) -> Answer<Json<Page<WitnessedLog>>> {
    Ok(whole(shared.kernel.list_witnessed_logs().await?))
}

/// Registers a log by its public key. For a name that exists it takes a new key of the same log and settles a refusal.
#[utoipa::path(post, path = "/api/v1/witness/logs", tag = "witness", request_body = AddWitnessedLog,
    responses((status = 201, description = "Registered", body = WitnessedLog)))]
pub(crate) async fn add_witnessed_log(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<AddWitnessedLog>,
) -> Answer<Response> {
    let log = shared.kernel.add_witnessed_log(&caller.context, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/witness/logs/{}", log.name), &log)
}

/// One log with the checkpoints that are held of it.
#[utoipa::path(get, path = "/api/v1/witness/logs/{name}", tag = "witness", params(("name" = LogName, Path)),
    responses((status = 200, description = "The log", body = WitnessedLogDetail)))]
pub(crate) async fn get_witnessed_log(
    State(shared): Gateway,
    Id(name): Id<LogName>,
) -> Answer<Json<WitnessedLogDetail>> {
    Ok(Json(shared.kernel.get_witnessed_log(&name).await?))
}

/// Forgets a log and everything that is held of it.
#[utoipa::path(delete, path = "/api/v1/witness/logs/{name}", tag = "witness", params(("name" = LogName, Path)),
    responses((status = 204, description = "Forgotten")))]
pub(crate) async fn remove_witnessed_log(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<LogName>,
) -> Answer<StatusCode> {
    shared.kernel.remove_witnessed_log(&caller.context, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
