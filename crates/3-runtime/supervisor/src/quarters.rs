//! Where commands of agents are run: what the present life of each agent has around it, and what its manifest allows. Written
//! by the actors, read by [`crate::Commands`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use agentos_types::{AgentName, Code, Fault, Result, manifest};
use tokio::sync::Semaphore;

use crate::surroundings::Surroundings;

/// Commands of one agent at once; each costs processes and memory of the agent's own group.
const COMMANDS_MAX: usize = 4;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Quarters(Arc<Mutex<HashMap<AgentName, Quarter>>>);

/// Of one life. The group and the workspace belong to that life; a command holds them only while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Quarter {
    pub(crate) surroundings: Weak<Surroundings>,
    pub(crate) limits: manifest::Limits,
    pub(crate) sandbox: manifest::Sandbox,
    pub(crate) room: Arc<Semaphore>,
}

impl Quarters {
    /// A life has begun; it takes the place of the one before.
    pub(crate) fn enter(&self, agent: AgentName, surroundings: &Arc<Surroundings>, manifest: &manifest::Manifest) {
        let quarter = Quarter {
            surroundings: Arc::downgrade(surroundings),
            limits: manifest.limits.clone(),
            sandbox: manifest.sandbox.clone(),
            room: Arc::new(Semaphore::new(COMMANDS_MAX)),
        };
        let mut quarters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Agents that are gone for good are few, and a place is small; those whose life is over leave here.
        quarters.retain(|_, quarter| quarter.surroundings.strong_count() > 0);
        quarters.insert(agent, quarter);
    }

    pub(crate) fn of(&self, agent: &AgentName) -> Result<(Quarter, Arc<Surroundings>)> {
        let quarters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = quarters.get(agent).and_then(|quarter| Some((quarter.clone(), quarter.surroundings.upgrade()?)));
        found.ok_or_else(|| {
            Fault::new(
                Code::LAUNCH_FAILED,
                format!("agent '{agent}' has no workspace: its process has ended meanwhile"),
            )
        })
    }
}
