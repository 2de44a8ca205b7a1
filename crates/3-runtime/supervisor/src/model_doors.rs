//! Where programs inside of a sandbox speak to models: one listener of their own network, which the server answers itself. Who
//! reaches it needs no key, because nobody but this sandbox can; so the keys that its programs are given are placeholders. A
//! program that knows nothing but its provider's own host comes to the same models, by the egress proxy. An agent without a
//! grant for models gets neither.

use std::{collections::BTreeMap, net::TcpListener, os::fd::OwnedFd, sync::Arc};

use agentos_authority::Caller;
use agentos_egress::control::ModelHosts;
use agentos_protocol::sandbox::{Listener, MODEL_PORT};
use agentos_sandbox::plan::Plan;
use agentos_types::{Fault, Result, TaskId};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Not a key, and long enough for programs that look at keys.
const PLACEHOLDER: &str = "agent-os-placeholder";

/// Who answers at such listeners.
pub trait ModelDoors: Send + Sync + std::fmt::Debug {
    /// Serves the listener until the token is cancelled, and then drops it with all of its connections.
    fn open(&self, visitor: Visitor, listener: TcpListener, until: CancellationToken) -> Result<()>;

    /// For connections that the same programs open to the hosts of providers; they end with the token as well.
    fn hosts(&self, visitor: Visitor, until: CancellationToken) -> Arc<dyn ModelHosts>;
}

/// Whose programs come through.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub caller: Caller,
    work: watch::Receiver<Option<TaskId>>,
}

impl Visitor {
    pub fn new(caller: Caller, work: watch::Receiver<Option<TaskId>>) -> Self {
        Self { caller, work }
    }

    /// The task that the agent works on at this moment, if it is exactly one.
    pub fn task(&self) -> Option<TaskId> {
        self.work.borrow().clone()
    }
}

/// Closed when dropped.
#[derive(Debug)]
pub(crate) struct ModelDoor(#[expect(dead_code, reason = "its drop is its work")] DropGuard);

/// The doors of one life, before its sandbox is there.
pub(crate) struct Prepared {
    doors: Arc<dyn ModelDoors>,
    visitor: Visitor,
    until: CancellationToken,
}

impl Prepared {
    pub(crate) fn new(doors: Arc<dyn ModelDoors>, visitor: Visitor) -> Self {
        Self { doors, visitor, until: CancellationToken::new() }
    }

    pub(crate) fn hosts(&self) -> Arc<dyn ModelHosts> {
        self.doors.hosts(self.visitor.clone(), self.until.clone())
    }

    /// Adds to the plan what the door needs inside. Last, because listeners are handed out in order.
    pub(crate) fn add_to(&self, plan: &mut Plan) {
        plan.listeners.push(Listener::Tcp(MODEL_PORT));
        add_environment(&mut plan.environment);
    }

    /// The sandbox stands, and the last of its listeners is this one. What came before waits in the kernel.
    pub(crate) fn open(self, listeners: &mut Vec<OwnedFd>) -> Result<ModelDoor> {
        let listener =
            listeners.pop().ok_or_else(|| Fault::internal("the sandbox came without the listener for models"))?;
        self.doors.open(self.visitor, TcpListener::from(listener), self.until.clone())?;
        Ok(ModelDoor(self.until.drop_guard()))
    }
}

/// Under what the manifest sets.
fn add_environment(environment: &mut BTreeMap<String, String>) {
    for (name, value) in [
        ("OPENAI_BASE_URL", format!("http://127.0.0.1:{MODEL_PORT}/v1")),
        ("OPENAI_API_KEY", PLACEHOLDER.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{MODEL_PORT}")),
        ("ANTHROPIC_API_KEY", PLACEHOLDER.to_owned()),
    ] {
        environment.entry(name.to_owned()).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manifest_sets_stays() {
        let mut environment = BTreeMap::from([("OPENAI_BASE_URL".to_owned(), "http://mine/".to_owned())]);
        add_environment(&mut environment);
        assert_eq!(environment["OPENAI_BASE_URL"], "http://mine/");
        assert_eq!(environment["ANTHROPIC_BASE_URL"], "http://127.0.0.1:18801");
        assert_eq!(environment["OPENAI_API_KEY"], environment["ANTHROPIC_API_KEY"]);
    }
}
