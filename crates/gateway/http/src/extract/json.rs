//! The body of a request: declared as JSON, complete in time, within the size limit, strict, and of the right shape.

use std::{sync::Arc, time::Duration};

use agentos_types::{Code, Fault, Result, json};
use axum::{
    body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::{
    layers::errors::{Answer, Refusal},
    shared::Shared,
};

/// After a body turned out too large, this much more of it is read and dropped, so that the refusal reaches a client
/// that reads only when it has written everything.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A JSON body.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Answer<Self> {
        require_json(request.headers())?;
        let bytes = read_small(request, shared).await?;
        Ok(Self(shape(&bytes)?))
    }
}

/// A JSON body, or the default where the request has none.
pub(crate) struct BodyOrDefault<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Shared>> for BodyOrDefault<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Answer<Self> {
        let declared = require_json(request.headers());
        let bytes = read_small(request, shared).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        declared?;
        Ok(Self(shape(&bytes)?))
    }
}

/// How large a body may be, and who says so.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub bytes: usize,
    pub setting: &'static str,
}

async fn read_small(request: Request, shared: &Shared) -> Result<Bytes> {
    let (parts, body) = request.into_parts();
    let limit = Limit { bytes: shared.body_bytes_max, setting: "gateway.body_bytes_max" };
    read(&parts.headers, body, limit, shared.request_timeout).await
}

fn shape<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    json::object(bytes).map_err(|reason| Fault::new(Code::BODY_INVALID, format!("the body is not valid: {reason}")))
}

/// `application/json`, with no parameter but the charset that JSON has anyway. A browser's form cannot send it across
/// sites without asking first.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<()> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = declared.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"));
    let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
    if is_json && is_plain {
        return Ok(());
    }
    Err(Fault::new(Code::UNSUPPORTED_MEDIA_TYPE, "the body must be plain application/json"))
}

async fn read(headers: &HeaderMap, body: body::Body, limit: Limit, allowed: Duration) -> Result<Bytes> {
    // Small bodies are bounded by the connections that there are.
    read_while(headers, body, limit, allowed, |_| Ok(())).await
}

/// The whole body, if `take` bears each of its pieces.
pub(super) async fn read_while(
    headers: &HeaderMap,
    mut body: body::Body,
    limit: Limit,
    allowed: Duration,
    take: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > limit.bytes) {
        drain(&mut body).await;
        return Err(too_large(limit));
    }
    let collected = tokio::time::timeout(allowed, collect(&mut body, limit, take)).await.map_err(|_| {
        let allowed_ms = allowed.as_millis();
        Fault::new(Code::REQUEST_TIMEOUT, format!("the body was not complete within {allowed_ms} ms"))
    })?;
    match collected {
        Ok(bytes) => Ok(bytes),
        Err(Unread::Refused(fault)) => {
            drain(&mut body).await;
            Err(fault)
        }
        Err(Unread::Broken(fault)) => Err(fault),
    }
}

/// Why a body was not read to its end.
enum Unread {
    /// By us: who writes it is to hear so.
    Refused(Fault),
    Broken(Fault),
}

async fn collect(
    body: &mut body::Body,
    limit: Limit,
    mut take: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes, Unread> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |source| Unread::Broken(Fault::new(Code::BODY_INVALID, "the body broke off").detail(source));
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            if bytes.len().saturating_add(data.len()) > limit.bytes {
                return Err(Unread::Refused(too_large(limit)));
            }
            take(data.len()).map_err(Unread::Refused)?;
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

async fn drain(body: &mut body::Body) {
    let dropping = async {
        let mut dropped = 0;
        while let Some(Ok(frame)) = body.frame().await {
            dropped += frame.data_ref().map_or(0, Bytes::len);
            if dropped > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    // Whether it all came in time makes no difference: the body is refused.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, dropping).await;
}

fn too_large(limit: Limit) -> Fault {
    Fault::new(Code::BODY_TOO_LARGE, format!("the body is larger than {} bytes", limit.bytes))
        .hint(format!("raise {}", limit.setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let check = |declared: &[(&'static str, &str)], accepted: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in declared {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(require_json(&headers).is_ok(), accepted, "{declared:?}");
        };
        check(&[], false);
        check(&[("content-type", "application/json")], true);
        check(&[("content-type", "Application/JSON; charset=UTF-8")], true);
        check(&[("content-type", "application/json; charset=utf-16")], false);
        check(&[("content-type", "text/plain")], false);
        check(&[("content-type", "application/jsonp")], false);
        check(&[("content-type", "application/json"), ("content-encoding", "gzip")], false);
    }
}
