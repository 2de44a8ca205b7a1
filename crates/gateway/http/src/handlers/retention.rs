//! Retention: what is kept for how long, what a run would take, and a run.

use agentos_api::body::{Page, RetentionRows, RetentionStatus};
use axum::{Json, extract::State, http::StatusCode, response::Response};

use crate::{
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// The settings in force, the last run with its counts, and the next one.
#[utoipa::path(get, path = "/api/v1/retention", tag = "retention",
    responses((status = 200, description = "Settings, last and next run", body = RetentionStatus)))]
pub(crate) async fn get_retention(State(shared): Gateway) -> Answer<Json<RetentionStatus>> {
    Ok(Json(shared.kernel.get_retention().await?))
}

/// Counts what a run would take away now. Takes nothing.
#[utoipa::path(get, path = "/api/v1/retention/preview", tag = "retention",
    responses((status = 200, description = "Rows by kind", body = Page<RetentionRows>)))]
pub(crate) async fn preview_retention(State(shared): Gateway) -> Answer<Json<Page<RetentionRows>>> {
    Ok(whole(shared.kernel.preview_retention().await?))
}

/// Begins a run, or joins the one that is under way. It goes on after the answer, and after a restart.
#[utoipa::path(post, path = "/api/v1/retention/run", tag = "retention",
    responses((status = 202, description = "Begun", body = RetentionStatus)))]
pub(crate) async fn run_retention(State(shared): Gateway, caller: Caller) -> Answer<Response> {
    let status = shared.kernel.run_retention(&caller.context).await?;
    made(StatusCode::ACCEPTED, "/api/v1/retention", &status)
}
