//! Liveness, readiness, health, metrics, the pages of the error catalogue, and the API's own description.

use agentos_api::body::{Health, Status};
use agentos_types::{Code, Fault};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    extract::Id,
    handlers::Gateway,
    layers::errors::{Answer, Refusal},
};

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers as long as the process serves requests.
#[utoipa::path(get, path = "/live", tag = "status", responses((status = 200, description = "Alive", body = Status)))]
pub(crate) async fn live() -> Json<Status> {
    Json(Status { status: "ok".into() })
}

/// Whether the server takes work: store open, agents' supervisor running, not shutting down.
#[utoipa::path(get, path = "/ready", tag = "status", responses(
    (status = 200, description = "Takes work", body = Status),
    (status = 503, description = "Takes no work", body = Status)))]
pub(crate) async fn ready(State(shared): Gateway) -> (StatusCode, Json<Status>) {
    let is_ready = !shared.shutdown.is_cancelled() && shared.kernel.ready().await;
    let (code, status) =
        if is_ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (code, Json(Status { status: status.into() }))
}

/// What an error code means and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorPage {
    #[schema(value_type = String, example = "AOS-1201")]
    code: Code,
    status: u16,
    title: &'static str,
    cause: &'static str,
    remedy: &'static str,
}

/// A code of the catalogue in a path. A text that is no code is a page that does not exist.
pub(crate) struct CatalogueCode(Code);

impl std::str::FromStr for CatalogueCode {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        text.parse().map(Self).map_err(|_| Fault::new(Code::ROUTE_NOT_FOUND, "no error code of this name"))
    }
}

/// The page of an error code: as JSON where `Accept` asks for it, else as plain text.
#[utoipa::path(get, path = "/errors/{code}", tag = "status", params(("code" = String, Path, example = "AOS-1201")),
    responses((status = 200, description = "Cause and remedy",
        content((ErrorPage = "application/json"), (String = "text/plain")))))]
pub(crate) async fn explain_error(Id(CatalogueCode(code)): Id<CatalogueCode>, headers: HeaderMap) -> Response {
    let entry = code.entry();
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/json") {
        let (title, cause, remedy) = (entry.title, entry.cause, entry.remedy);
        return Json(ErrorPage { code, status: entry.http_status, title, cause, remedy }).into_response();
    }
    let page = format!("{code}: {}\n\nCause:  {}\nRemedy: {}\n", entry.title, entry.cause, entry.remedy);
    ([(header::CONTENT_TYPE, PLAIN_TEXT)], page).into_response()
}

/// Version, startup checks, and which controls this machine enforces.
#[utoipa::path(get, path = "/health", tag = "status",
    responses((status = 200, description = "Also when degraded; see `status`", body = Health)))]
pub(crate) async fn health(State(shared): Gateway) -> Answer<Json<Health>> {
    Ok(Json(shared.kernel.health().await?))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "All series", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(shared): Gateway) -> Answer<Response> {
    let kernel = shared.kernel.metrics().await?;
    let page = shared.metrics.page(&kernel).map_err(Refusal)?;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], page).into_response())
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "status",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi_document(State(shared): Gateway) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.openapi_json.clone()).into_response()
}
