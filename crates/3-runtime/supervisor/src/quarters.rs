//! Where commands of agents are run, and who its programs are when they ask by themselves: what the present life of each agent has around it, and what its manifest allows. Written
//! by the actors, read by [`crate::Commands`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use agentos_authority::Caller;
use agentos_sandbox::Cell;
use agentos_types::{AgentName, Code, Fault, InstanceId, Result, manifest};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{beside::Beside, surroundings::Surroundings};

/// Commands of one agent at once; each costs processes and memory of the agent's own group.
const COMMANDS_MAX: usize = 4;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Quarters(Arc<Mutex<HashMap<AgentName, Quarter>>>);

/// Of one life. The group and the workspace belong to that life; a command holds them only while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Quarter {
    pub(crate) surroundings: Weak<Surroundings>,
    /// With the grants of the manifest that this life began with.
    caller: Caller,
    pub(crate) limits: manifest::Limits,
    pub(crate) sandbox: manifest::Sandbox,
    /// Of the agent, over all of its lives.
    pub(crate) room: Arc<Semaphore>,
    /// Whose launcher makes its commands: who is suspected of ending launchers ends its own.
    pub(crate) cell: Cell,
    /// The life is over.
    pub(crate) over: CancellationToken,
}

impl Quarters {
    /// A life has begun; it takes the place of the one before.
    pub(crate) fn enter(
        &self,
        caller: Caller,
        surroundings: &Arc<Surroundings>,
        manifest: &manifest::Manifest,
        cell: Cell,
    ) {
        let agent = caller.agent.clone();
        let mut quarters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = quarters.get(&agent).map(|quarter| quarter.room.clone());
        let quarter = Quarter {
            surroundings: Arc::downgrade(surroundings),
            caller,
            limits: manifest.limits.clone(),
            sandbox: manifest.sandbox.clone(),
            room: room.unwrap_or_else(|| Arc::new(Semaphore::new(COMMANDS_MAX))),
            cell,
            over: surroundings.over(),
        };
        // A place is small; those in which nobody lives and nothing runs any more are given up here.
        quarters.retain(|_, quarter| {
            quarter.surroundings.strong_count() > 0 || quarter.room.available_permits() < COMMANDS_MAX
        });
        quarters.insert(agent, quarter);
    }

    /// Who a program inside of this life's sandbox is. An earlier life is nobody any more.
    pub fn caller(&self, agent: &AgentName, instance: &InstanceId) -> Result<Caller> {
        let quarter = self.of(agent)?;
        quarter.enter(agent)?;
        if quarter.caller.instance == *instance { Ok(quarter.caller) } else { Err(gone(agent)) }
    }

    pub(crate) fn of(&self, agent: &AgentName) -> Result<Quarter> {
        let quarters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        quarters.get(agent).cloned().ok_or_else(|| gone(agent))
    }
}

impl Quarter {
    /// What is around the life, while it lasts.
    pub(crate) fn enter(&self, agent: &AgentName) -> Result<Arc<Surroundings>> {
        let surroundings = self.surroundings.upgrade().filter(|_| !self.over.is_cancelled());
        surroundings.ok_or_else(|| gone(agent))
    }

    /// While the life lasts: what comes after it is nobody's.
    pub(crate) fn count(&self, write: impl FnOnce(&Beside)) {
        if let Some(surroundings) = self.surroundings.upgrade() {
            write(surroundings.beside());
        }
    }

    /// Its agent may have brought it about, and is looked at as one that has lost its own.
    pub(crate) fn lose_launcher(&self) {
        if let Some(surroundings) = self.surroundings.upgrade() {
            surroundings.command_lost().cancel();
        }
    }
}

/// The command belongs to a life that has ended.
pub(crate) fn gone(agent: &AgentName) -> Fault {
    Fault::new(Code::LAUNCH_FAILED, format!("agent '{agent}' has no workspace: its process has ended meanwhile"))
}
