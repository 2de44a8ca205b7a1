//! The proof that a call was decided. Type and minter live in one module, so that no other code can build the type.

use std::sync::Arc;

use agentos_types::{Action, AgentName, Category, Code, Fault, InstanceId, Result, TokenId};

use crate::{GrantSet, HostRule, pattern::host_of};

/// Who calls: an agent process, identified by the socket that the kernel gave it, with the grants of its signed manifest.
#[derive(Clone, Debug)]
pub struct Caller {
    pub agent: AgentName,
    pub instance: InstanceId,
    pub grants: Arc<GrantSet>,
    pub calls_per_minute: u32,
}

/// A program outside, identified by its token. It holds no manifest: what its token is narrowed to stands in for one.
#[derive(Clone, Debug)]
pub struct Program {
    pub token: TokenId,
    pub name: String,
    pub grants: Arc<GrantSet>,
}

/// Whoever may ask for a model: an agent, or a program outside.
#[derive(Clone, Debug)]
pub enum Party {
    Agent(Caller),
    Program(Program),
}

impl Party {
    fn grants(&self) -> &GrantSet {
        match self {
            Party::Agent(caller) => &caller.grants,
            Party::Program(program) => &program.grants,
        }
    }
}

/// One right that a call needs. The resource is canonical: the same thing has one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub action: Action,
    pub resource: String,
}

/// A value whose every demand was granted to its caller. Tools take those of agents; models those of either [`Party`].
#[derive(Debug)]
pub struct Authorized<T, C = Caller> {
    inner: T,
    caller: C,
    bound: Bound,
}

/// The hosts that an operator lets any agent reach; `None` leaves it to the manifests.
type Bound = Option<Arc<[HostRule]>>;

impl<T, C> Authorized<T, C> {
    pub fn get(&self) -> &T {
        &self.inner
    }

    pub fn caller(&self) -> &C {
        &self.caller
    }

    /// Spends the proof: it cannot be executed twice.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> Authorized<T> {
    /// Whether the caller also holds this right; executors ask for each hop of a redirect.
    pub fn also_allows(&self, demand: &Demand) -> bool {
        self.caller.grants.covers(demand) && is_within(&self.bound, demand)
    }
}

/// Makes [`Authorized`] values. The monitor holds the only one; a test of the house checks that.
#[derive(Debug)]
pub struct Minter {
    bound: Bound,
}

impl Minter {
    #[expect(clippy::new_without_default, reason = "a Default would let generic code make one by accident")]
    pub fn new() -> Self {
        Self { bound: None }
    }

    /// Nothing of the network is authorized beyond these hosts, whatever a manifest grants.
    #[must_use]
    pub fn within(self, bound: Option<Vec<HostRule>>) -> Self {
        Self { bound: bound.map(Arc::from) }
    }

    /// Deny by default: every demand must be covered by a grant, and a call without demands is refused as a defect.
    pub fn authorize<T>(&self, caller: &Caller, demands: &[Demand], call: T) -> Result<Authorized<T>> {
        if demands.is_empty() {
            return Err(Fault::internal("a call without demands reached the decision"));
        }
        if let Some(missing) = demands.iter().find(|demand| !caller.grants.covers(demand)) {
            return Err(not_granted(caller, missing));
        }
        match demands.iter().find(|demand| !is_within(&self.bound, demand)) {
            None => Ok(Authorized { inner: call, caller: caller.clone(), bound: self.bound.clone() }),
            Some(outside) => Err(Fault::new(
                Code::NOT_GRANTED,
                format!("egress.allowed_domains of this installation leave out the host of {}", outside.resource),
            )
            .hint("the operator can add the host to egress.allowed_domains; a manifest cannot")),
        }
    }

    /// The same for one demand of either party. It leads to no host of its own: which provider answers, the operator decides.
    pub fn authorize_party<T>(&self, party: &Party, demand: &Demand, call: T) -> Result<Authorized<T, Party>> {
        if party.grants().covers(demand) {
            return Ok(Authorized { inner: call, caller: party.clone(), bound: self.bound.clone() });
        }
        Err(match party {
            Party::Agent(caller) => not_granted(caller, demand),
            Party::Program(program) => Fault::new(
                Code::NOT_GRANTED,
                format!("the token '{}' may not use {} {}", program.name, demand.action, demand.resource),
            )
            .hint("an administrator can make a token for more models"),
        })
    }
}

fn not_granted(caller: &Caller, missing: &Demand) -> Fault {
    Fault::new(
        Code::NOT_GRANTED,
        format!("agent '{}' has no grant for {} on {}", caller.agent, missing.action, missing.resource),
    )
    .hint(format!(
        "add to its manifest: category = \"{}\", actions = [\"{}\"], resources = [\"{}\"]",
        missing.action.category, missing.action.verb, missing.resource
    ))
}

/// What leads to no host is not bound by hosts.
fn is_within(bound: &Bound, demand: &Demand) -> bool {
    match (bound, host_of(&demand.resource)) {
        (Some(rules), Some(host)) if matches!(demand.action.category, Category::Net | Category::Notify) => {
            rules.iter().any(|rule| rule.matches(host))
        }
        // A resource of the network without a host does not exist; if it did, a bound would refuse it.
        (Some(_), None) => demand.action.category != Category::Net,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::Grant;

    use super::*;

    fn caller(grants: &[(Category, &str, &str)]) -> Caller {
        let grants: Vec<Grant> = grants
            .iter()
            .map(|(category, verb, resource)| Grant {
                category: *category,
                actions: vec![(*verb).into()],
                resources: vec![(*resource).into()],
            })
            .collect();
        Caller {
            agent: "a".parse().unwrap(),
            instance: "inst_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap(),
            grants: Arc::new(GrantSet::compile(&grants).unwrap()),
            calls_per_minute: 1,
        }
    }

    fn demand(category: Category, verb: &str, resource: &str) -> Demand {
        Demand { action: Action::of(category, verb).unwrap(), resource: resource.into() }
    }

    #[test]
    fn the_operators_hosts_and_the_manifests_are_an_intersection() {
        let caller = caller(&[
            (Category::Net, "fetch", "https://*.example.com/*"),
            (Category::Net, "connect", "tcp://*.example.com:443"),
            (Category::Notify, "webhook", "https://hooks.example.org/*"),
            (Category::Notify, "event", "event:*"),
            (Category::Secret, "use", "key@api.other.net"),
        ]);
        let rules = ["*.api.example.com", "other.net"].map(|text| HostRule::parse(text).unwrap());
        let bounded = Minter::new().within(Some(rules.into()));
        let (open, closed) = (Minter::new().within(None), Minter::new().within(Some(Vec::new())));
        for (asked, within) in [
            (demand(Category::Net, "fetch", "https://a.api.example.com/x"), true),
            (demand(Category::Net, "fetch", "https://b.example.com/x"), false),
            (demand(Category::Net, "connect", "tcp://a.api.example.com:443"), true),
            (demand(Category::Net, "connect", "tcp://api.example.com:443"), false),
            (demand(Category::Net, "connect", "tcp://b.example.com"), false),
            (demand(Category::Notify, "webhook", "https://hooks.example.org/x"), false),
        ] {
            assert!(open.authorize(&caller, std::slice::from_ref(&asked), ()).is_ok(), "{asked:?}");
            assert_eq!(bounded.authorize(&caller, std::slice::from_ref(&asked), ()).is_ok(), within, "{asked:?}");
            assert!(closed.authorize(&caller, std::slice::from_ref(&asked), ()).is_err(), "{asked:?}");
        }
        for free in [demand(Category::Notify, "event", "event:x"), demand(Category::Secret, "use", "key@api.other.net")]
        {
            assert!(closed.authorize(&caller, std::slice::from_ref(&free), ()).is_ok(), "{free:?} leads to no host");
        }
        let ungranted = demand(Category::Net, "connect", "tcp://other.net:443");
        assert!(bounded.authorize(&caller, &[ungranted], ()).is_err(), "what the operator allows is not granted by it");
        let first = demand(Category::Net, "fetch", "https://a.api.example.com/x");
        let proof = bounded.authorize(&caller, &[first], ()).unwrap();
        let hop = |host: &str| demand(Category::Net, "fetch", &format!("https://{host}/"));
        assert!(proof.also_allows(&hop("b.api.example.com")));
        assert!(!proof.also_allows(&hop("b.example.com")), "a redirect stays within the operator's hosts");
    }

    #[test]
    fn an_agent_and_a_program_hold_each_their_own_models() {
        let agent = Party::Agent(caller(&[(Category::Model, "call", "openai/*")]));
        let grant = Grant { category: Category::Model, actions: vec!["call".into()], resources: vec!["fast".into()] };
        let program = Party::Program(Program {
            token: "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap(),
            name: "ci".into(),
            grants: Arc::new(GrantSet::compile(&[grant]).unwrap()),
        });
        let minter = Minter::new().within(Some(Vec::new()));
        for (party, model, granted) in [
            (&agent, "openai/gpt", true),
            (&agent, "fast", false),
            (&program, "fast", true),
            (&program, "faster", false),
            (&program, "openai/gpt", false),
        ] {
            let outcome = minter.authorize_party(party, &demand(Category::Model, "call", model), ());
            assert_eq!(outcome.is_ok(), granted, "{party:?} {model}");
            assert!(outcome.err().is_none_or(|fault| fault.code == Code::NOT_GRANTED));
        }
    }
}
