//! Secrets. Values come in; no route gives one back, not even inside an error about a malformed body.

use agentos_api::body::{Page, SecretInfo, SecretValue};
use agentos_types::{Code, Fault, SecretName};
use axum::{Json, extract::State, http::StatusCode};

use crate::{
    extract::{Body, Id},
    handlers::{Gateway, whole},
    layers::{
        errors::{Answer, Refusal},
        guard::Caller,
    },
};

/// Names, versions and states of all secrets, without values.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets",
    responses((status = 200, description = "All secrets", body = Page<SecretInfo>)))]
pub(crate) async fn list_secrets(State(shared): Gateway) -> Answer<Json<Page<SecretInfo>>> {
    Ok(whole(shared.kernel.list_secrets().await?))
}

/// Stores a secret's value.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = SecretName, Path)),
    request_body = SecretValue, responses((status = 200, description = "Stored", body = SecretInfo)))]
pub(crate) async fn set_secret(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<SecretName>,
    body: Result<Body<SecretValue>, Refusal>,
) -> Answer<Json<SecretInfo>> {
    Ok(Json(shared.kernel.set_secret(&caller.context, &name, value(body)?).await?))
}

/// Replaces a secret's value by a new version.
#[utoipa::path(post, path = "/api/v1/secrets/{name}/rotate", tag = "secrets", params(("name" = SecretName, Path)),
    request_body = SecretValue, responses((status = 200, description = "Rotated", body = SecretInfo)))]
pub(crate) async fn rotate_secret(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<SecretName>,
    body: Result<Body<SecretValue>, Refusal>,
) -> Answer<Json<SecretInfo>> {
    Ok(Json(shared.kernel.rotate_secret(&caller.context, &name, value(body)?).await?))
}

/// Revokes a secret: it is no longer given to any call.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = SecretName, Path)),
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn revoke_secret(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<SecretName>,
) -> Answer<StatusCode> {
    shared.kernel.revoke_secret(&caller.context, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A parser's message quotes what it did not expect, which here may be the secret; it is replaced by a fixed one.
fn value(body: Result<Body<SecretValue>, Refusal>) -> Answer<SecretValue> {
    match body {
        Ok(Body(value)) => Ok(value),
        Err(Refusal(fault)) if fault.code == Code::BODY_INVALID => {
            Err(Fault::new(Code::BODY_INVALID, "the body must be {\"value\": TEXT} and nothing else").into())
        }
        Err(refusal) => Err(refusal),
    }
}
