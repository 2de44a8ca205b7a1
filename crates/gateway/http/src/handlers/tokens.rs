//! Gateway tokens. The secret is shown once, in the answer that creates it.

use agentos_api::body::{CreateToken, CreatedToken, Page, RotateToken, TokenInfo};
use agentos_types::TokenId;
use axum::{Json, extract::State, http::StatusCode, response::Response};

use crate::{
    extract::{Body, BodyOrDefault, Id},
    handlers::{Gateway, made, whole},
    layers::{errors::Answer, guard::Caller},
};

/// All tokens without their secrets, revoked ones included.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "All tokens", body = Page<TokenInfo>)))]
pub(crate) async fn list_tokens(State(shared): Gateway) -> Answer<Json<Page<TokenInfo>>> {
    Ok(whole(shared.kernel.list_tokens().await?))
}

/// Creates a token. The answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 201, description = "Created", body = CreatedToken)))]
pub(crate) async fn create_token(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<CreateToken>,
) -> Answer<Response> {
    let token = shared.kernel.create_token(&caller.context, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/tokens/{}", token.info.id), &token)
}

/// Makes a successor with the same name and rights. The old token goes on working for the overlap, then ends.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/rotate", tag = "tokens", params(("id" = TokenId, Path)),
    request_body = Option<RotateToken>,
    responses((status = 201, description = "The successor", body = CreatedToken)))]
pub(crate) async fn rotate_token(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<TokenId>,
    BodyOrDefault(body): BodyOrDefault<RotateToken>,
) -> Answer<Response> {
    let token = shared.kernel.rotate_token(&caller.context, &id, body).await?;
    made(StatusCode::CREATED, &format!("/api/v1/tokens/{}", token.info.id), &token)
}

/// Revokes a token. The next request, message or tick of a stream that uses it is refused.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)),
    responses((status = 200, description = "The revoked token", body = TokenInfo)))]
pub(crate) async fn revoke_token(
    State(shared): Gateway,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Answer<Json<TokenInfo>> {
    Ok(Json(shared.kernel.revoke_token(&caller.context, &id).await?))
}
