//! The proof that a call was decided. Type and minter live in one module, so that no other code can build the type.

use std::sync::Arc;

use agentos_types::{Action, AgentName, Code, Fault, InstanceId, Result};

use crate::GrantSet;

/// Who calls: an agent process, identified by the socket that the kernel gave it, with the grants of its signed manifest.
#[derive(Clone, Debug)]
pub struct Caller {
    pub agent: AgentName,
    pub instance: InstanceId,
    pub grants: Arc<GrantSet>,
    pub calls_per_minute: u32,
}

/// One right that a call needs. The resource is canonical: the same thing has one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub action: Action,
    pub resource: String,
}

/// A value whose every demand was granted to its caller.
#[derive(Debug)]
pub struct Authorized<T> {
    inner: T,
    caller: Caller,
}

impl<T> Authorized<T> {
    pub fn get(&self) -> &T {
        &self.inner
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the caller also holds this right; executors ask for each hop of a redirect.
    pub fn also_allows(&self, demand: &Demand) -> bool {
        self.caller.grants.covers(demand)
    }

    /// Spends the proof: it cannot be executed twice.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// Makes [`Authorized`] values. The monitor holds the only one; a test of the house checks that.
#[derive(Debug)]
pub struct Minter(());

impl Minter {
    #[expect(clippy::new_without_default, reason = "a Default would let generic code make one by accident")]
    pub fn new() -> Self {
        Self(())
    }

    /// Deny by default: every demand must be covered by a grant, and a call without demands is refused as a defect.
    pub fn authorize<T>(&self, caller: &Caller, demands: &[Demand], call: T) -> Result<Authorized<T>> {
        if demands.is_empty() {
            return Err(Fault::internal("a call without demands reached the decision"));
        }
        match demands.iter().find(|demand| !caller.grants.covers(demand)) {
            None => Ok(Authorized { inner: call, caller: caller.clone() }),
            Some(missing) => Err(Fault::new(
                Code::NOT_GRANTED,
                format!("agent '{}' has no grant for {} on {}", caller.agent, missing.action, missing.resource),
            )
            .hint(format!(
                "add to its manifest: category = \"{}\", actions = [\"{}\"], resources = [\"{}\"]",
                missing.action.category, missing.action.verb, missing.resource
            ))),
        }
    }
}
