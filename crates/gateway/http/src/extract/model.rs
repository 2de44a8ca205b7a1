//! The body of a call of a model, which holds pictures and is large: all of them together have a bound.

use std::{sync::Arc, time::Duration};

use agentos_base::{Room, Share};
use agentos_types::Result;
use axum::{
    body,
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use bytes::Bytes;

use super::json::{Limit, read_while, require_json};
use crate::{
    layers::errors::{Answer, Refusal},
    shared::Shared,
};

/// As it came, with the headers that say how it is meant. What is in it, the kernel reads.
pub(crate) struct ModelCall {
    pub headers: HeaderMap,
    pub body: HeldBody,
}

/// A body, and its part of the room. To be kept until nobody holds the bytes any more.
pub(crate) struct HeldBody {
    pub bytes: Bytes,
    pub share: Share,
}

/// How large one may be, and how large all of them.
#[derive(Clone, Debug)]
pub(crate) struct Bounds<'a> {
    pub bytes_max: usize,
    pub room: &'a Room,
}

impl FromRequest<Arc<Shared>> for ModelCall {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Answer<Self> {
        require_json(request.headers())?;
        let (parts, body) = request.into_parts();
        let bounds = Bounds { bytes_max: shared.model_body_bytes_max, room: &shared.model_room };
        let body = read_held(&parts.headers, body, bounds, shared.request_timeout).await?;
        Ok(Self { headers: parts.headers, body })
    }
}

/// Counted as it comes and not as it is announced: who announces much and sends little keeps nobody out.
pub(crate) async fn read_held(
    headers: &HeaderMap,
    body: body::Body,
    bounds: Bounds<'_>,
    allowed: Duration,
) -> Result<HeldBody> {
    let limit = Limit { bytes: bounds.bytes_max, setting: "models.body_bytes_max" };
    let mut share = bounds.room.share();
    let bytes = read_while(headers, body, limit, allowed, |more| share.take(more)).await?;
    Ok(HeldBody { bytes, share })
}
