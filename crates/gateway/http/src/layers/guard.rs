//! The guard in front of each line of the route table: shutdown, rate, token, scope. A handler behind it can rely on
//! having a caller; one without access in the table cannot exist, because the table's macro builds route and guard together.

use std::{net::IpAddr, sync::Arc};

use agentos_types::{Code, Fault, RequestId, Scope};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};

use crate::{
    identity::{Asker, Bearer, unauthenticated},
    layers::errors::{Answer, Refusal},
    reach::{Reach, Right},
    routes::{Access, Route},
    shared::{Connection, Shared},
};

pub(crate) use crate::identity::Caller;

/// A route's guard as middleware state.
#[derive(Clone)]
pub(crate) struct Guard {
    pub shared: Arc<Shared>,
    pub route: &'static Route,
}

pub(crate) async fn admit(State(guard): State<Guard>, mut request: Request, next: Next) -> Answer<Response> {
    let Guard { shared, route } = guard;
    let peer = peer_of(&request)?;
    match route.access {
        Access::Public => shared.take_from_peer(peer)?,
        _ if shared.shutdown.is_cancelled() => {
            return Err(Fault::new(Code::SHUTTING_DOWN, "the server is shutting down").into());
        }
        Access::Session if !request.headers().contains_key(header::AUTHORIZATION) => shared.take_from_peer(peer)?,
        Access::Session | Access::Scope(_) | Access::Own(_) | Access::Model => {
            identify(&shared, route, &mut request).await?
        }
    }
    Ok(next.run(request).await)
}

/// Leaves the caller's context and token in the request, or refuses.
async fn identify(shared: &Shared, route: &'static Route, request: &mut Request) -> Answer<()> {
    let (connection, request_id) = (connection_of(request)?, request_id_of(request)?);
    let asker = Asker { peer: connection.peer, request_id: &request_id, route: route.operation };
    let bearer = match route.access {
        Access::Model => credential_of(request.headers()),
        _ => bearer_of(request.headers()),
    };
    let principal = shared.admit_on(&connection, &asker, bearer.as_ref()).await?;
    let reach = match route.access {
        Access::Scope(needed) => shared.require(&asker, &principal, Right::Whole(needed)).await?,
        Access::Own(needed) => shared.require(&asker, &principal, Right::OrOwn(needed)).await?,
        Access::Model => shared.require(&asker, &principal, Right::Whole(Scope::Models)).await?,
        Access::Public | Access::Session => Reach::Nothing,
    };
    let caller = asker.caller(&principal, bearer.ok_or_else(|| unauthenticated(false))?, reach);
    request.extensions_mut().insert(caller);
    Ok(())
}

/// The one bearer token of the request. Two `Authorization` headers are no token: proxies disagree about which counts.
fn bearer_of(headers: &HeaderMap) -> Option<Bearer> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (given.next()?, given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Bearer::new(token.trim_start_matches(' ')))
}

/// The one token of a call of a model. Clients of Anthropic send theirs in `x-api-key`, some in both headers; two that differ
/// are no token.
fn credential_of(headers: &HeaderMap) -> Option<Bearer> {
    let mut keys = headers.get_all("x-api-key").iter();
    let key = match (keys.next(), keys.next()) {
        (None, _) => return bearer_of(headers),
        (Some(key), None) => Bearer::new(key.to_str().ok()?),
        (Some(_), Some(_)) => return None,
    };
    if !headers.contains_key(header::AUTHORIZATION) {
        return Some(key);
    }
    bearer_of(headers).filter(|bearer| bearer.is_same(&key))
}

/// Handlers take the caller as the guard left it.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        parts.extensions.get().cloned().ok_or_else(|| Fault::internal("a handler ran without its guard").into())
    }
}

pub(crate) async fn unknown_route(State(shared): State<Arc<Shared>>, request: Request) -> Answer<Response> {
    shared.take_from_peer(peer_of(&request)?)?;
    Err(Fault::new(Code::ROUTE_NOT_FOUND, "no such route").hint("see /api/v1/openapi.json").into())
}

pub(crate) async fn unknown_method(State(shared): State<Arc<Shared>>, request: Request) -> Answer<Response> {
    shared.take_from_peer(peer_of(&request)?)?;
    Err(Fault::new(Code::METHOD_NOT_ALLOWED, "the path exists but not with this method").into())
}

fn peer_of(request: &Request) -> Answer<IpAddr> {
    Ok(connection_of(request)?.peer)
}

fn connection_of(request: &Request) -> Answer<Arc<Connection>> {
    let connection = request.extensions().get::<Arc<Connection>>();
    connection.cloned().ok_or_else(|| Fault::internal("a request without connection").into())
}

fn request_id_of(request: &Request) -> Answer<RequestId> {
    let id = request.extensions().get::<RequestId>();
    id.cloned().ok_or_else(|| Fault::internal("a request without id").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_header_is_a_token() {
        let check = |values: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer_of(&headers).is_some(), expected, "{values:?}");
        };
        check(&[], false);
        check(&["Bearer abc"], true);
        check(&["bearer abc"], true);
        check(&["Basic abc"], false);
        check(&["Bearer"], false);
        check(&["Bearer abc", "Bearer abc"], false);
    }

    #[test]
    fn two_headers_of_a_model_call_are_one_token_or_none() {
        let check = |bearers: &[&str], keys: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for value in bearers {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            for value in keys {
                headers.append("x-api-key", value.parse().unwrap());
            }
            assert_eq!(credential_of(&headers).is_some(), expected, "{bearers:?} {keys:?}");
        };
        check(&[], &[], false);
        check(&["Bearer abc"], &[], true);
        check(&[], &["abc"], true);
        check(&["Bearer abc"], &["abc"], true);
        check(&["Bearer abc"], &["abd"], false);
        check(&["Basic abc"], &["abc"], false);
        check(&["Bearer abc", "Bearer abc"], &["abc"], false);
        check(&[], &["abc", "abc"], false);
    }
}
