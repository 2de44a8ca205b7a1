//! Schedules.

use agentos_api::body::{CreateSchedule, Page};
use agentos_types::{ScheduleId, task::Schedule};
use axum::{Json, extract::State, http::StatusCode, response::Response};

use crate::{
    extract::{Body, Id},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// All schedules.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules",
    responses((status = 200, description = "All schedules", body = Page<Schedule>)))]
pub(crate) async fn list_schedules(State(shared): Gateway) -> Answer<Json<Page<Schedule>>> {
    Ok(whole(shared.kernel.list_schedules().await?))
}

/// Creates a schedule; the same agent and name again replaces cadence and input.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", request_body = CreateSchedule,
    responses((status = 201, description = "The schedule", body = Schedule)))]
pub(crate) async fn create_schedule(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<CreateSchedule>,
) -> Answer<Response> {
    let schedule = shared.kernel.create_schedule(&caller.context, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/schedules/{}", schedule.id), &schedule)
}

/// One schedule.
#[utoipa::path(get, path = "/api/v1/schedules/{id}", tag = "schedules", params(("id" = ScheduleId, Path)),
    responses((status = 200, description = "The schedule", body = Schedule)))]
pub(crate) async fn get_schedule(State(shared): Gateway, Id(id): Id<ScheduleId>) -> Answer<Json<Schedule>> {
    Ok(Json(shared.kernel.get_schedule(&id).await?))
}

/// Stops a schedule from firing.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/pause", tag = "schedules", params(("id" = ScheduleId, Path)),
    responses((status = 200, description = "The schedule", body = Schedule)))]
pub(crate) async fn pause_schedule(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<ScheduleId>,
) -> Answer<Json<Schedule>> {
    Ok(Json(shared.kernel.pause_schedule(&caller.context, &id, true).await?))
}

/// Lets a paused schedule fire again.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/resume", tag = "schedules", params(("id" = ScheduleId, Path)),
    responses((status = 200, description = "The schedule", body = Schedule)))]
pub(crate) async fn resume_schedule(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<ScheduleId>,
) -> Answer<Json<Schedule>> {
    Ok(Json(shared.kernel.pause_schedule(&caller.context, &id, false).await?))
}

/// Deletes a schedule; tasks that it made stay.
#[utoipa::path(delete, path = "/api/v1/schedules/{id}", tag = "schedules", params(("id" = ScheduleId, Path)),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_schedule(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<ScheduleId>,
) -> Answer<StatusCode> {
    shared.kernel.delete_schedule(&caller.context, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
