//! Who asks, and whether they may: the steps that HTTP requests and WebSocket messages share.
//!
//! Every check asks the kernel anew. A valid token is looked up before any limit applies, so that a stranger who shares
//! an address with an operator cannot lock the operator out by failing often.

use std::{net::IpAddr, time::Duration};

use agentos_api::{body::Context, kernel::Principal};
use agentos_types::{Actor, Code, Fault, RequestId, Result, Scope};
use secrecy::{ExposeSecret, SecretString};

use crate::{layers::buckets::Peer, shared::Shared};

/// Longest text that is looked up as a token; ours are far shorter.
const TOKEN_BYTES_MAX: usize = 256;

/// A token as it was presented, kept by streams and sessions to be checked again.
#[derive(Clone)]
pub(crate) struct Bearer(SecretString);

impl Bearer {
    pub fn new(token: &str) -> Self {
        Self(SecretString::from(token))
    }
}

/// One request or message whose right is in question.
pub(crate) struct Asker<'a> {
    pub peer: IpAddr,
    pub request_id: &'a RequestId,
    /// Route or message type, for the audit record.
    pub route: &'a str,
}

impl Asker<'_> {
    fn context(&self, actor: Actor) -> Context {
        Context { actor, request_id: self.request_id.clone() }
    }
}

pub(crate) fn actor_of(principal: &Principal) -> Actor {
    Actor::Token { token: principal.token.clone(), name: principal.name.clone() }
}

impl Shared {
    /// The token's principal, if it is valid at this moment.
    pub async fn identify(&self, bearer: &Bearer) -> Result<Option<Principal>> {
        let token = bearer.0.expose_secret();
        let looks_like_one =
            (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        if !looks_like_one {
            return Ok(None);
        }
        self.kernel.authenticate(token).await
    }

    /// Authenticates and takes one from the token's rate, or from the peer's where there is no valid token.
    pub async fn admit(&self, asker: &Asker<'_>, bearer: Option<&Bearer>) -> Result<Principal> {
        let principal = match bearer {
            Some(bearer) => self.identify(bearer).await?,
            None => None,
        };
        let Some(principal) = principal else {
            self.take_from_peer(asker.peer)?;
            let reason = if bearer.is_some() { "invalid token" } else { "no token" };
            self.record_refusal(asker, Actor::Anonymous { peer: asker.peer.to_string() }, reason).await;
            return Err(unauthenticated(bearer.is_some()));
        };
        self.token_rates.take(&principal.token, self.ambient.now()).map_err(rate_limited)?;
        Ok(principal)
    }

    pub fn take_from_peer(&self, peer: IpAddr) -> Result<()> {
        self.peer_rates.take(&Peer::from(peer), self.ambient.now()).map_err(rate_limited)
    }

    /// Refuses, and records the refusal, unless the principal holds the scope.
    pub async fn require(&self, asker: &Asker<'_>, principal: &Principal, needed: Scope) -> Result<()> {
        if Scope::covers(&principal.scopes, needed) {
            return Ok(());
        }
        let scope = needed.as_str();
        self.record_refusal(asker, actor_of(principal), &format!("scope {scope} is missing")).await;
        Err(Fault::new(Code::FORBIDDEN, format!("the token does not hold the scope '{scope}'"))
            .hint(format!("use a token made with `agent-os token create --scope {scope}`")))
    }

    /// Writes an audit record of the refusal within the bounds on such records. The request is refused either way, so a
    /// record that cannot be written is only logged.
    async fn record_refusal(&self, asker: &Asker<'_>, actor: Actor, reason: &str) {
        let now = self.ambient.now();
        let within_bounds = self.recorded_refusals.take(&Peer::from(asker.peer), now).is_ok()
            && self.recorded_refusals_in_all.take(&(), now).is_ok();
        if !within_bounds {
            self.metrics.refusals_unrecorded.inc();
            return;
        }
        if let Err(fault) = self.kernel.record_refusal(&asker.context(actor), asker.route, reason).await {
            tracing::error!(request_id = %asker.request_id, %fault, "a refusal could not be recorded");
        }
    }
}

pub(crate) fn unauthenticated(token_was_given: bool) -> Fault {
    let message = if token_was_given { "the token is not valid" } else { "the request has no token" };
    Fault::new(Code::UNAUTHENTICATED, message).hint("send `Authorization: Bearer TOKEN`")
}

fn rate_limited(wait: Duration) -> Fault {
    Fault::new(Code::GATEWAY_RATE_LIMITED, "more requests than gateway.requests_per_second allows").retry_after(wait)
}
