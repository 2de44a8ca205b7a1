//! Connections to providers of models that end here: programs that know nothing but a provider's own host are answered by the
//! models that their agent may call, through the router and within its budgets, and never reach the host itself.
//!
//! Who comes first: a credential for the host, or a grant to connect that names the host itself, because whoever wrote it
//! wanted that provider and not our choice of one; then `model:call`; then grants with a star, which name no provider and must
//! be no way around its budgets. Each call inside is decided by itself.

use agentos_authority::{Caller, Credential};
use agentos_protocol::egress::{HTTPS_PORT, Wish};
use agentos_types::{Code, Result, audit::Decision};

use super::{Refused, exit::Asked, who};
use crate::{Monitor, monitor::Inner};

/// As the audit log calls it.
const ACTION: &str = "egress.capture";

/// What is known of a guest beside its grants.
#[derive(Clone, Copy)]
pub struct Terms<'t> {
    pub credentials: &'t [Credential],
    /// Whether a canonical name is the host of a provider of models, for the programs of this guest and at this moment.
    pub is_provider: &'t (dyn Fn(&str) -> bool + Send + Sync),
}

/// One connection that was caught, to be served once by who takes it. Nobody else can make one.
#[derive(Debug)]
pub struct Captured {
    host: String,
}

impl Captured {
    /// Canonical.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Monitor {
    /// Something that a caught connection asked for is no call of a model, and was not done. `target` is without a query.
    pub async fn capture_refused(&self, caller: &Caller, target: &str, code: Code) -> Result<()> {
        let shown = self.inner.redactor.clean(&super::shown(target));
        self.inner.record_refusal(caller, Refused { action: ACTION, shown, reason: code.to_string() }).await
    }
}

/// Whether a wish is answered by the models here.
pub(super) fn ends_here(caller: &Caller, asked: &Asked, wish: &Wish, terms: &Terms<'_>) -> bool {
    let is_of_https = match wish {
        Wish::Name { .. } => true,
        Wish::Connect { port, .. } => *port == HTTPS_PORT,
        Wish::Request { .. } => false,
    };
    let Some(host) = asked.exit.target.name().filter(|_| is_of_https) else { return false };
    let is_chosen = caller.grants.names_host(host, HTTPS_PORT) || terms.credentials.iter().any(|one| one.host == host);
    caller.grants.calls_models() && !is_chosen && (terms.is_provider)(host)
}

impl Inner {
    /// Recorded once for each host in one life, as names are: the calls inside have records of their own.
    pub(super) async fn capture(&self, caller: &Caller, asked: &Asked) -> Result<Captured> {
        // No name has a port in it.
        let key = &asked.shown;
        if self.egress.with(|repeats| repeats.is_new_name(&caller.instance, key)) {
            let record = self.egress_event(&who(caller), ACTION, &asked.shown).decision(Decision::Allowed);
            self.store.record(record).await?;
            self.egress.with(|repeats| repeats.name_recorded(caller, key));
        }
        Ok(Captured { host: asked.exit.target.name().unwrap_or_default().to_owned() })
    }
}

impl std::fmt::Debug for Terms<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
