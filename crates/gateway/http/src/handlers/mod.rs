//! One thin function per route: parse, call the kernel, map. Rights were checked by the guard before any of them runs.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod log_life;
pub(crate) mod model_admin;
pub(crate) mod models;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod secrets;
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod witnesses;

use std::sync::Arc;

use agentos_api::body::Page;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{layers::errors::Answer, shared::Shared};

pub(crate) type Gateway = axum::extract::State<Arc<Shared>>;

/// A listing that always fits one page. It has the shape of a page, so that it can grow a cursor without breaking readers.
fn whole<T>(items: Vec<T>) -> Json<Page<T>> {
    Json(Page { items, next_cursor: None })
}

/// 201 or 202 with the place where the new thing is found.
fn made(status: StatusCode, location: &str, body: impl serde::Serialize) -> Answer<Response> {
    let mut response = (status, Json(body)).into_response();
    let location = HeaderValue::from_str(location).map_err(agentos_types::Fault::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
