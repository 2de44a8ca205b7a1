//! What is done to a log beside writing it: pruning whole days, legal holds, changes of its key. All of it is recorded in
//! the log itself, in the commit that does it.

mod hold;
mod prune;
mod rotate;

use std::sync::Arc;

use agentos_base::Ambient;
use agentos_types::{
    Actor,
    audit::{AuditEvent, Decision, Phase},
};
pub use hold::{Hold, NewHold};
pub use prune::{PruneOrder, PruneReport};
pub use rotate::Rotated;
use tokio::sync::Mutex;

use crate::AuditLog;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upkeep {
    log: AuditLog,
    ambient: Ambient,
    /// One prune or change of the key at a time.
    busy: Arc<Mutex<()>>,
}

/// In whose name something is done, and the request that asked for it.
#[derive(Clone, Debug)]
pub struct Authority {
    pub actor: Actor,
    pub correlation: Option<String>,
}

impl Authority {
    /// The server by itself, on a schedule.
    pub fn system() -> Self {
        Self { actor: Actor::System, correlation: None }
    }
}

impl Upkeep {
    pub fn new(log: AuditLog, ambient: Ambient) -> Self {
        Self { log, ambient, busy: Arc::new(Mutex::new(())) }
    }

    fn event(&self, by: &Authority, action: &str, resource: impl Into<String>, phase: Phase) -> AuditEvent {
        let (id, now) = (self.ambient.event_id(), self.ambient.now());
        let event = AuditEvent::new(id, now, by.actor.clone(), action, resource).phase(phase, Decision::Allowed);
        match &by.correlation {
            Some(correlation) => event.correlation(correlation.clone()),
            None => event,
        }
    }
}
