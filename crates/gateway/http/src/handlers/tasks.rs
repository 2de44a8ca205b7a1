//! Tasks, their steps and their events.

use agentos_api::{
    body::{Page, RedriveTask, SubmitTask},
    kernel::TaskQuery,
};
use agentos_base::trace::TraceContext;
use agentos_types::{
    AgentName, Code, Fault, TaskId,
    task::{Step, Task, TaskEvent, TaskState},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    cursor::{self, Listing, page_limit},
    extract::{Body, BodyOrDefault, Filter, Id, QueryCode},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
    sse,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

/// Submits a task. 202 means that it is durable.
#[utoipa::path(post, path = "/api/v1/tasks", tag = "tasks", request_body = SubmitTask,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible ASCII characters. A repeat with the same key and body returns the first task."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, used when the body has none"),
    ),
    responses(
        (status = 202, description = "Submitted", body = Task, headers(("Location" = String))),
        (status = 200, description = "The task of the earlier request with this key", body = Task,
            headers(("Idempotency-Replayed" = String))),
    ))]
pub(crate) async fn submit_task(
    State(shared): Gateway,
    caller: Caller,
    Extension(context): Extension<TraceContext>,
    headers: HeaderMap,
    Body(mut body): Body<SubmitTask>,
) -> Answer<Response> {
    let key = headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str().unwrap_or_default().to_owned());
    check_submit(&body, key.as_deref())?;
    shared.require_agent(&caller, &body.agent).await?;
    // The request's own span, which is a child of the one that its header names.
    body.traceparent = body.traceparent.or_else(|| Some(context.to_string()));
    let (task, replayed) = shared.kernel.submit_task(&caller.context, body, key).await?;
    if replayed {
        return Ok(([(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))], Json(task)).into_response());
    }
    made(StatusCode::ACCEPTED, &format!("/api/v1/tasks/{}", task.id), &task)
}

/// What the body's types do not rule out; shared with the WebSocket.
pub(crate) fn check_submit(body: &SubmitTask, idempotency_key: Option<&str>) -> Result<(), Fault> {
    let key_fits = |key: &str| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if idempotency_key.is_some_and(|key| !key_fits(key)) {
        let message =
            format!("the idempotency key must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
        return Err(Fault::new(Code::BODY_INVALID, message));
    }
    if body.traceparent.as_deref().is_some_and(|text| TraceContext::parse(text).is_none()) {
        return Err(Fault::new(Code::BODY_INVALID, "traceparent is not a W3C trace context of version 00"));
    }
    Ok(())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TasksQuery {
    agent: Option<AgentName>,
    state: Option<TaskState>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Items in a page, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

impl QueryCode for TasksQuery {}

impl TasksQuery {
    pub(crate) fn into_query(self) -> Result<TaskQuery, Fault> {
        let cursor = self.cursor.map(|text| cursor::decode(Listing::Tasks, &text)?.parse()).transpose();
        let cursor = cursor.map_err(|_| cursor::invalid("the cursor does not belong to this listing of tasks"))?;
        Ok(TaskQuery {
            agent: self.agent,
            state: self.state,
            submitted_by: None,
            cursor,
            limit: page_limit(self.limit)?,
        })
    }
}

/// The kernel's page with the cursor that callers see.
pub(crate) fn task_page(mut page: Page<Task>) -> Page<Task> {
    page.next_cursor = page.next_cursor.map(|key| cursor::encode(Listing::Tasks, &key));
    page
}

/// Tasks, newest first.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", params(TasksQuery),
    responses((status = 200, description = "One page", body = Page<Task>)))]
pub(crate) async fn list_tasks(
    State(shared): Gateway,
    caller: Caller,
    Filter(query): Filter<TasksQuery>,
) -> Answer<Json<Page<Task>>> {
    Ok(Json(task_page(shared.kernel.list_tasks(caller.reach.narrowed(query.into_query()?)).await?)))
}

/// One task.
#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "The task", body = Task)))]
pub(crate) async fn get_task(State(shared): Gateway, caller: Caller, Id(id): Id<TaskId>) -> Answer<Json<Task>> {
    Ok(Json(caller.reach.task(&*shared.kernel, &id).await?))
}

/// The journal of the task's system calls, in order.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/steps", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "All steps", body = Page<Step>)))]
pub(crate) async fn task_steps(State(shared): Gateway, Id(id): Id<TaskId>) -> Answer<Json<Page<Step>>> {
    Ok(whole(shared.kernel.task_steps(&id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events after this sequence number; 0 when absent. For a stream, `Last-Event-ID` goes before it.
    #[param(minimum = 0)]
    after_seq: Option<i64>,
    /// Items in one JSON answer, 1 to 500; 50 when absent; fewer where they are large, and none at the end. A stream has no limit.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

impl QueryCode for EventsQuery {}

/// The task's events: one page as JSON, or with `Accept: text/event-stream` a stream that ends after the final state.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/events", tag = "tasks",
    params(("id" = TaskId, Path), EventsQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "Sequence number of the last event seen")),
    responses(
        (status = 200, description = "Events in order; in a stream the event's id is its `seq`",
            content((Page<TaskEvent> = "application/json"), (TaskEvent = "text/event-stream"))),
        (status = 204, description = "The stream was resumed after the final event: do not reconnect"),
    ))]
pub(crate) async fn task_events(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<TaskId>,
    headers: HeaderMap,
    Filter(query): Filter<EventsQuery>,
) -> Answer<Response> {
    let asked = sse::checked_seq(query.after_seq)?;
    if sse::is_wanted(&headers) {
        let after_seq = sse::last_event_id(&headers)?.or(asked).unwrap_or(0);
        return Ok(sse::task_stream(shared, caller, id, after_seq).await?);
    }
    caller.reach.check(&*shared.kernel, &id).await?;
    let events = shared.kernel.task_events(&id, asked.unwrap_or(0), page_limit(query.limit)?).await?;
    Ok(whole(events).into_response())
}

/// Asks the agent to stop the task; it is forced to after a grace period.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "The task after the request", body = Task)))]
pub(crate) async fn cancel_task(State(shared): Gateway, caller: Caller, Id(id): Id<TaskId>) -> Answer<Json<Task>> {
    caller.reach.check(&*shared.kernel, &id).await?;
    Ok(Json(shared.kernel.cancel_task(&caller.context, &id).await?))
}

/// Lets a task go on that waits for a person.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/retry", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "The task after the request", body = Task)))]
pub(crate) async fn retry_task(State(shared): Gateway, caller: Caller, Id(id): Id<TaskId>) -> Answer<Json<Task>> {
    Ok(Json(shared.kernel.retry_task(&caller.context, &id).await?))
}

/// Sends a failed task back to work, if wanted with another input.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/redrive", tag = "tasks", params(("id" = TaskId, Path)),
    request_body = Option<RedriveTask>,
    responses((status = 200, description = "The task after the request", body = Task)))]
pub(crate) async fn redrive_task(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<TaskId>,
    BodyOrDefault(body): BodyOrDefault<RedriveTask>,
) -> Answer<Json<Task>> {
    Ok(Json(shared.kernel.redrive_task(&caller.context, &id, body.input).await?))
}
