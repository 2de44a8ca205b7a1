//! The router itself: the document in force, and what was seen of its targets.

use std::sync::{Arc, PoisonError, RwLock};

use agentos_types::Timestamp;

use crate::{Asked, Config, DecisionRecord, HealthView, NoTarget, Plan, health::Healths};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RwLock<Arc<Config>>,
    healths: Arc<Healths>,
}

impl Router {
    pub fn new(config: Config) -> Self {
        let shared = Shared { config: RwLock::new(Arc::new(config)), healths: Arc::default() };
        Self { shared: Arc::new(shared) }
    }

    /// From now on. Requests that began keep the document that they began with; what was seen of targets that stay, stays.
    pub fn swap(&self, config: Config) {
        let places =
            config.providers.values().map(|place| (place.name.clone(), place.base_url.clone())).collect::<Vec<_>>();
        let mut current = self.shared.config.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(config);
        drop(current);
        self.shared.healths.keep(&places);
    }

    /// The document in force.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decides who is asked first, or why nobody is.
    pub fn plan(&self, asked: &Asked<'_>) -> Result<Plan, NoTarget> {
        let config = self.config();
        let group = config.resolve(asked.model)?;
        Plan::begin(config, group, self.shared.healths.clone(), asked)
    }

    /// What `plan` would decide now, without asking anybody: for people, and for `replay`.
    pub fn explain(&self, asked: &Asked<'_>) -> Result<DecisionRecord, NoTarget> {
        let config = self.config();
        let group = config.resolve(asked.model)?;
        Ok(Plan::dry(config, group, self.shared.healths.clone(), asked))
    }

    /// The secret of this name was replaced, or its key is accepted again: it rests no longer.
    pub fn forgive_key(&self, secret: &str) {
        self.shared.healths.forgive(secret);
    }

    pub(crate) fn healths(&self) -> &Healths {
        &self.shared.healths
    }

    /// Of all targets that were asked.
    pub fn health(&self, now: Timestamp) -> Vec<HealthView> {
        self.shared.healths.view(now)
    }
}
