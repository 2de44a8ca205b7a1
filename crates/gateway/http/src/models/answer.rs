//! What the kernel answered, as a response. A stream is handed on piece by piece, each flushed as it comes, and nothing is
//! kept: when the client takes nothing the provider waits, and when it goes the receiver goes, which is its cancel.

use std::{future::pending, io, sync::Arc};

use agentos_api::models::{ModelBody, ModelInfo, ModelReply};
use agentos_types::{Fault, Result};
use agentos_wire::Protocol;
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};

use crate::{
    identity::Caller,
    reach::{Reach, Right},
    shared::Shared,
};

/// Set by the connection, not by who answers.
const NOT_COPIED: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
/// Of a stream that leave in one write. A client that reads slower gets them in writes of its own pace anyway.
const JOINED_BYTES_MAX: usize = 64 * 1024;
/// Anthropic's own date for models whose day of release is not known.
const UNKNOWN_DAY: &str = "1970-01-01T00:00:00Z";

/// In the extensions of a response that is in the client's protocol already, errors included.
#[derive(Clone)]
pub(crate) struct Told;

/// Asks now and then whether the token of a running stream is still good.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    caller: Caller,
    right: Right,
    ticks: Interval,
}

impl Watch {
    pub fn new(shared: Arc<Shared>, caller: Caller, right: Right) -> Self {
        let mut ticks = tokio::time::interval(shared.recheck_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self { shared, caller, right, ticks }
    }

    /// Ends when the stream may not go on.
    async fn revoked(&mut self) {
        loop {
            self.ticks.tick().await;
            match self.shared.identify(&self.caller.bearer).await {
                Ok(Some(principal)) if Reach::of(&principal, self.right).as_ref() == Some(&self.caller.reach) => {}
                Ok(_) => return,
                Err(fault) => {
                    tracing::warn!(%fault, "a stream ends because its token could not be checked");
                    return;
                }
            }
        }
    }
}

/// The response of a reply.
pub(crate) fn response(reply: ModelReply, watch: Option<Watch>) -> Result<Response> {
    let mut response = Response::new(match reply.body {
        ModelBody::Whole(bytes) => Body::from(bytes),
        ModelBody::Stream(pieces) => streamed(pieces, watch),
    });
    *response.status_mut() = StatusCode::from_u16(reply.status).map_err(Fault::internal)?;
    for (name, value) in &reply.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(Fault::internal)?;
        let value = HeaderValue::try_from(value.as_str()).map_err(Fault::internal)?;
        if !NOT_COPIED.contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    response.extensions_mut().insert(Told);
    Ok(response)
}

/// A stream whose token was revoked breaks off without the end of a body, so that nobody takes it for whole.
fn streamed(pieces: mpsc::Receiver<Bytes>, watch: Option<Watch>) -> Body {
    Body::from_stream(stream::unfold((pieces, watch, false), |(mut pieces, mut watch, is_over)| async move {
        if is_over {
            return None;
        }
        let revoked = async {
            match &mut watch {
                Some(watch) => watch.revoked().await,
                None => pending().await,
            }
        };
        tokio::select! {
            piece = pieces.recv() => piece.map(|piece| (Ok(joined(piece, &mut pieces)), (pieces, watch, false))),
            () = revoked => {
                pieces.close();
                Some((Err(io::Error::other("the token is no longer valid")), (pieces, watch, true)))
            }
        }
    }))
}

/// With what waits behind it: one write for all of them.
fn joined(first: Bytes, pieces: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let Ok(second) = pieces.try_recv() else { return first };
    let mut all = BytesMut::with_capacity(first.len() + second.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    while all.len() < JOINED_BYTES_MAX
        && let Ok(piece) = pieces.try_recv()
    {
        all.extend_from_slice(&piece);
    }
    all.freeze()
}

/// The list of models as the protocol writes it.
pub(crate) fn list(protocol: Protocol, models: &[ModelInfo]) -> ModelReply {
    let body = match protocol {
        Protocol::Messages => {
            let line = |model: &ModelInfo| json!({ "type": "model", "id": model.id, "display_name": model.id, "created_at": UNKNOWN_DAY });
            json!({
                "data": models.iter().map(line).collect::<Vec<_>>(),
                "has_more": false,
                "first_id": models.first().map(|model| &model.id),
                "last_id": models.last().map(|model| &model.id),
            })
        }
        Protocol::Chat | Protocol::Responses | Protocol::Gemini => {
            let line = |model: &ModelInfo| json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.owned_by });
            json!({ "object": "list", "data": models.iter().map(line).collect::<Vec<_>>() })
        }
    };
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    ModelReply { status: 200, headers, body: ModelBody::Whole(body.to_string().into()) }
}
