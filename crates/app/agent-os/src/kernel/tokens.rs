//! Tokens: what was asked for becomes what the component takes, and its rows become what the API shows.

use std::time::Duration;

use agentos_api::{
    body::{Context, CreateToken, CreatedToken, RotateToken, TokenInfo},
    kernel::Principal,
};
use agentos_identity::{NewToken, OVERLAP_DEFAULT, Rotation, Token, TokenRow};
use agentos_types::{Actor, Result, TokenId, audit::Decision};

use super::ServerKernel;

pub(super) async fn create(kernel: &ServerKernel, context: &Context, body: CreateToken) -> Result<CreatedToken> {
    let asked = NewToken::asked(&body.name, body.role, &body.scopes)?;
    let new = NewToken {
        agents: body.agents,
        models: body.models,
        life: body.expires_in_s.map(Duration::from_secs),
        ..asked
    };
    kernel.tokens.create(&context.actor, new).await.map(created)
}

pub(super) async fn rotate(
    kernel: &ServerKernel,
    context: &Context,
    id: &TokenId,
    body: RotateToken,
) -> Result<CreatedToken> {
    let rotation = Rotation {
        overlap: body.overlap_s.map_or(OVERLAP_DEFAULT, Duration::from_secs),
        life: body.expires_in_s.map(Duration::from_secs),
    };
    kernel.tokens.rotate(&context.actor, id, rotation).await.map(created)
}

/// The address is the resource: what was asked for does not matter, who may ask again does.
pub(super) async fn record_lockout(kernel: &ServerKernel, context: &Context, wait: Duration) -> Result<()> {
    let peer = match &context.actor {
        Actor::Anonymous { peer } => peer.clone(),
        other => other.label(),
    };
    let event = kernel.event(context, "gateway.lockout", peer).decision(Decision::Denied);
    kernel.store.record(event.fact("seconds", wait.as_secs())).await
}

pub(super) fn principal(row: TokenRow) -> Principal {
    Principal {
        token: row.id,
        name: row.name,
        role: row.role,
        scopes: row.scopes,
        agents: row.agents,
        models: row.models,
        family: row.family,
    }
}

pub(super) fn info(row: TokenRow) -> TokenInfo {
    TokenInfo {
        id: row.id,
        name: row.name,
        role: row.role,
        scopes: row.scopes,
        agents: row.agents,
        models: row.models,
        family: row.family,
        created_by: row.created_by,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    }
}

fn created((token, row): (Token, TokenRow)) -> CreatedToken {
    CreatedToken { token: token.expose().to_owned(), info: info(row) }
}
