//! Who asks, and whether they may: the steps that HTTP requests and WebSocket messages share.
//!
//! Every check asks the kernel anew, which remembers valid tokens for a moment. A valid token is looked up before any limit applies, so that a stranger who shares
//! an address with an operator cannot lock the operator out by failing often.

use std::{net::IpAddr, time::Duration};

use agentos_api::{body::Context, kernel::Principal};
use agentos_types::{Actor, AgentName, Code, Fault, RequestId, Result, Scope};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    layers::buckets::Peer,
    reach::{Reach, Right},
    shared::{Connection, Shared},
};

/// Longest text that is looked up as a token; ours are far shorter.
const TOKEN_BYTES_MAX: usize = 256;

/// A token as it was presented, kept by streams and sessions to be checked again.
#[derive(Clone)]
pub(crate) struct Bearer(SecretString);

impl Bearer {
    pub fn new(token: &str) -> Self {
        Self(SecretString::from(token))
    }

    /// Both were sent by the same caller, so how long the comparison takes tells it nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// One request or message whose right is in question.
pub(crate) struct Asker<'a> {
    pub peer: IpAddr,
    pub request_id: &'a RequestId,
    /// Route or message type, for the audit record.
    pub route: &'static str,
}

impl Asker<'_> {
    fn context(&self, actor: Actor) -> Context {
        Context { owner: actor.label(), actor, request_id: self.request_id.clone() }
    }

    /// The admitted caller of this request.
    pub fn caller(&self, principal: &Principal, bearer: Bearer, reach: Reach) -> Caller {
        let owner = format!("token:{}", principal.family);
        let context = Context { owner, ..self.context(actor_of(principal)) };
        Caller { context, bearer, reach, models: principal.models.clone(), peer: self.peer, route: self.route }
    }
}

/// Who was admitted, and how far the right goes that let them in.
#[derive(Clone)]
pub(crate) struct Caller {
    pub context: Context,
    pub bearer: Bearer,
    pub reach: Reach,
    /// Names or patterns of models that the token is bound to; empty: none.
    pub models: Vec<String>,
    peer: IpAddr,
    route: &'static str,
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
            self.refuse_stranger(asker, bearer.is_some()).await?;
            return Err(unauthenticated(bearer.is_some()));
        };
        self.token_rates.take(&principal.token, self.ambient.now()).map_err(rate_limited)?;
        Ok(principal)
    }

    /// The same, and the place of the connection follows: whoever has presented a valid token keeps it.
    pub async fn admit_on(
        &self,
        connection: &Connection,
        asker: &Asker<'_>,
        bearer: Option<&Bearer>,
    ) -> Result<Principal> {
        let admitted = self.admit(asker, bearer).await;
        match &admitted {
            Ok(principal) => connection.slot.know(&principal.token)?,
            Err(fault) if [Code::UNAUTHENTICATED, Code::AUTH_LOCKED].contains(&fault.code) => connection.slot.forget(),
            // Nothing is known about the token: it is too fast, or the store cannot be asked.
            Err(_) => {}
        }
        admitted
    }

    /// Lockout and rate of an address without a valid token. Only a token that was presented counts towards a lockout:
    /// whoever sends none does not guess.
    async fn refuse_stranger(&self, asker: &Asker<'_>, token_was_given: bool) -> Result<()> {
        let (peer, now) = (Peer::from(asker.peer), self.ambient.now());
        self.lockouts.check(&peer, now).map_err(locked_out)?;
        self.take_from_peer(asker.peer)?;
        let actor = Actor::Anonymous { peer: asker.peer.to_string() };
        let reason = if token_was_given { "invalid token" } else { "no token" };
        self.record_refusal(asker, actor.clone(), reason).await;
        if let Some(wait) = token_was_given.then(|| self.lockouts.fail(&peer, now)).flatten() {
            self.record_lockout(asker, actor, wait).await;
        }
        Ok(())
    }

    pub fn take_from_peer(&self, peer: IpAddr) -> Result<()> {
        self.peer_rates.take(&Peer::from(peer), self.ambient.now()).map_err(rate_limited)
    }

    /// How far the principal's right goes. Refuses, and records the refusal, when there is none.
    pub async fn require(&self, asker: &Asker<'_>, principal: &Principal, needed: Right) -> Result<Reach> {
        if let Some(reach) = Reach::of(principal, needed) {
            return Ok(reach);
        }
        let scope = needed.scope().as_str();
        self.record_refusal(asker, actor_of(principal), &format!("scope {scope} is missing")).await;
        Err(Fault::new(Code::FORBIDDEN, format!("the token does not hold the scope '{scope}'"))
            .hint(format!("use a token made with `agent-os token create --scope {scope}`")))
    }

    /// Refuses, and records the refusal, unless the caller may give work to the agent. Does not say whether it exists.
    pub async fn require_agent(&self, caller: &Caller, agent: &AgentName) -> Result<()> {
        if caller.reach.may_call(agent) {
            return Ok(());
        }
        let asker = Asker { peer: caller.peer, request_id: &caller.context.request_id, route: caller.route };
        let reason = format!("agent {agent} is not named by the token");
        self.record_refusal(&asker, caller.context.actor.clone(), &reason).await;
        Err(Fault::new(Code::FORBIDDEN, format!("the token may not give work to the agent '{agent}'"))
            .hint(format!("use a token made with `agent-os token create --role agent-caller --agent {agent}`")))
    }

    /// The same for what a right over one's own tasks never reaches.
    pub async fn require_whole(&self, caller: &Caller, needed: Scope) -> Result<()> {
        if caller.reach == Reach::All {
            return Ok(());
        }
        let asker = Asker { peer: caller.peer, request_id: &caller.context.request_id, route: caller.route };
        let reason = format!("scope {} is missing", needed.as_str());
        self.record_refusal(&asker, caller.context.actor.clone(), &reason).await;
        Err(Fault::new(Code::FORBIDDEN, format!("the token does not hold the scope '{}'", needed.as_str())))
    }

    /// One record for a lockout, within a bound of its own: a flood of refusals must not hide it.
    async fn record_lockout(&self, asker: &Asker<'_>, actor: Actor, wait: Duration) {
        self.metrics.lockouts.inc();
        tracing::warn!(peer = %asker.peer, wait_s = wait.as_secs(), "an address is locked out after wrong tokens");
        if self.recorded_lockouts.take(&(), self.ambient.now()).is_err() {
            self.metrics.refusals_unrecorded.inc();
            return;
        }
        if let Err(fault) = self.kernel.record_lockout(&asker.context(actor), wait).await {
            tracing::error!(request_id = %asker.request_id, %fault, "a lockout could not be recorded");
        }
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

fn locked_out(wait: Duration) -> Fault {
    Fault::new(Code::AUTH_LOCKED, "this address presented too many wrong tokens (gateway.auth_failures_max)")
        .hint("a valid token is answered at once; others after the time given")
        .retry_after(wait)
}

fn rate_limited(wait: Duration) -> Fault {
    Fault::new(Code::GATEWAY_RATE_LIMITED, "more requests than gateway.requests_per_second allows").retry_after(wait)
}
