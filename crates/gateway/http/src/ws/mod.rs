//! `/api/v1/ws`: calls and pushes over one connection.
//!
//! `messages` is the written table of message types with the access of each, `session` the loop of one connection,
//! `commands` what a message asks of the kernel, `subscriptions` what is pushed, `outbox` the bounded way out.
//! A token is looked up anew for every message and every few seconds between them, so revocation ends a session at once.

pub(crate) mod chats;
mod commands;
mod messages;
mod outbox;
mod session;
mod subscriptions;

use std::sync::Arc;

use agentos_base::trace;
use agentos_types::{Code, Fault};
use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};

pub use messages::{MESSAGES, MessageAccess, MessageKind};

use crate::{
    handlers::Gateway,
    layers::{errors::Answer, guard::Caller},
    shared::Connection,
};

/// Bytes that may wait in the protocol library's own buffer; the outbox in front of it is the bound that counts.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Opens a WebSocket. Authenticate by this request's header or by the first message; see the WebSocket reference.
#[utoipa::path(get, path = "/api/v1/ws", tag = "websocket",
    responses((status = 101, description = "Switching to WebSocket")))]
pub(crate) async fn websocket(
    State(shared): Gateway,
    Extension(connection): Extension<Arc<Connection>>,
    caller: Option<Extension<Caller>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|rejection| {
        Fault::new(Code::WS_PROTOCOL, "this route speaks WebSocket, version 13").detail(rejection.body_text())
    })?;
    let bearer = caller.map(|Extension(caller)| caller.bearer);
    let message_bytes_max = shared.body_bytes_max;
    // The session's log lines name the request that opened it.
    let scope = trace::current().unwrap_or_default();
    Ok(upgrade
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(move |socket| trace::scoped(scope, session::serve(socket, shared, connection, bearer))))
}
