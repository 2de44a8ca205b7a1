//! What the router has seen of each target. It outlasts the configuration: a target that is the same in the next document
//! keeps its past.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentos_types::Timestamp;
use agentos_wire::{Class, Failure};
use serde::Serialize;

use crate::probe::{Known, Probed};

mod breaker;
mod bucket;
mod latency;
mod window;

pub(crate) use breaker::Breaker;
pub use breaker::BreakerState;
pub(crate) use bucket::Bucket;
use latency::{ErrorRate, Latency};
use window::Window;

/// Targets whose health is remembered. Names that clients invent take places until a document is put in place.
const TARGETS_MAX: usize = 4_096;

/// Keys and groups that a target remembers: more than a document has, since documents change.
const LANES_MAX: usize = 64;

/// A limit of the rate without a time: as long as a client would wait by itself.
const COOL_DEFAULT: Duration = Duration::from_secs(5);
/// No provider closes a key for longer by a header.
const COOL_MAX: Duration = Duration::from_secs(600);

/// A key that was not accepted is tried again after this long, in case it was mended; each refusal doubles it.
const REFUSED_MIN: Duration = Duration::from_secs(600);
const REFUSED_MAX: Duration = Duration::from_secs(3_600);

/// How an attempt went.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// The first byte came after this long.
    Answered {
        first_byte: Duration,
    },
    Failed(&'a Failure),
    /// The client went away, its own deadline was too short, or nothing was sent: it says nothing about the target.
    Nothing,
}

/// Which way an attempt went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub group: &'a str,
    /// Name of the secret; empty without one.
    pub key: &'a str,
    pub is_stream: bool,
    /// It finds out whether an open breaker may close.
    pub is_probe: bool,
}

/// What a report changed, for the log, the metrics and whoever has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Opened,
    Closed,
    KeyCooling,
    /// The provider does not accept it: somebody has to look at it.
    KeyRefused,
}

/// Of one model of one provider.
#[derive(Debug, Default)]
pub(crate) struct TargetHealth(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// To the first event of a stream.
    pub streamed: Latency,
    /// To an answer that comes as a whole, when the model has written it all.
    pub whole: Latency,
    pub errors: ErrorRate,
    pub window: Window,
    pub in_flight: u32,
    /// When somebody asked it last.
    asked_at: Option<Timestamp>,
    /// By group of keys.
    pub breakers: BTreeMap<String, Breaker>,
    /// By the name of the secret.
    pub keys: BTreeMap<String, KeyState>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyState {
    cooled: Shut,
    refused: Shut,
    refused_times: u32,
}

/// Shut from an instant on for so long. A clock that went back does not lengthen it beyond its own length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shut {
    from: Timestamp,
    length: Duration,
}

impl Shut {
    fn new(from: Timestamp, length: Duration) -> Self {
        Self { from, length }
    }

    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.from.after(self.length);
        (now < until && !self.length.is_zero()).then(|| until.min(now.after(self.length)))
    }
}

impl KeyState {
    /// Until when it is not used, and whether because it was refused.
    pub fn shut(&self, now: Timestamp) -> Option<(Timestamp, bool)> {
        let refused = self.refused.until(now).map(|until| (until, true));
        refused.or_else(|| self.cooled.until(now).map(|until| (until, false)))
    }
}

impl TargetHealth {
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves counters that are still counters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// An attempt has ended, or has said how it goes.
    pub fn observe(&mut self, way: Way<'_>, observed: Observed<'_>, now: Timestamp) -> Option<Change> {
        let Way { group, key, is_probe, .. } = way;
        self.asked_at = Some(now);
        match observed {
            Observed::Nothing => None,
            Observed::Answered { first_byte } => {
                self.latency_of(way.is_stream).answered(first_byte);
                self.errors.count(true);
                self.window.count(now, true);
                // One that is shut since, by another request, stays shut.
                if self.keys.get(key).is_some_and(|state| state.shut(now).is_none()) {
                    self.keys.remove(key);
                }
                self.breaker(group).succeeded(now, is_probe).then_some(Change::Closed)
            }
            Observed::Failed(failure) => self.failed(way, failure, now),
        }
    }

    pub fn latency_of(&mut self, is_stream: bool) -> &mut Latency {
        if is_stream { &mut self.streamed } else { &mut self.whole }
    }

    /// Nobody has asked it for so long. A clock that went back says so too.
    pub fn is_idle(&self, idle: Duration, now: Timestamp) -> bool {
        self.in_flight == 0 && self.asked_at.is_none_or(|at| now < at || now.since(at) >= idle)
    }

    pub fn is_key_shut(&self, key: &str, now: Timestamp) -> bool {
        self.keys.get(key).is_some_and(|key| key.shut(now).is_some())
    }

    /// What a look at its provider's list has shown. What concerns the list alone moves nothing.
    pub fn probed(&mut self, group: &str, probed: Probed, now: Timestamp) -> bool {
        match probed {
            Probed::Answered => self.breaker(group).looked(now, true),
            Probed::Failed => self.breaker(group).looked(now, false),
            Probed::Unsupported => false,
        }
    }

    pub fn has_answered(&self) -> bool {
        self.streamed.is_known() || self.whole.is_known()
    }

    fn failed(&mut self, way: Way<'_>, failure: &Failure, now: Timestamp) -> Option<Change> {
        let Way { group, key, is_probe, .. } = way;
        let ill = failure.class.is_ill_health();
        self.window.count(now, !ill);
        match failure.class {
            class if class.is_ill_health() => {
                self.errors.count(false);
                if let Some(wait) = failure.retry_after {
                    self.cool(key, wait, now);
                }
                self.breaker(group).failed(now, is_probe).then_some(Change::Opened)
            }
            Class::RateLimited => {
                self.cool(key, failure.retry_after.unwrap_or(COOL_DEFAULT), now);
                Some(Change::KeyCooling)
            }
            Class::Auth | Class::QuotaExhausted => {
                self.refuse(key, failure.retry_after, now);
                Some(Change::KeyRefused)
            }
            // It answered as it should; the request was at fault.
            _ => self.breaker(group).succeeded(now, is_probe).then_some(Change::Closed),
        }
    }

    fn cool(&mut self, key: &str, wait: Duration, now: Timestamp) {
        let wait = wait.min(COOL_MAX);
        let state = self.key(key, now);
        if state.cooled.until(now).is_none_or(|until| until < now.after(wait)) {
            state.cooled = Shut::new(now, wait);
        }
    }

    fn refuse(&mut self, key: &str, wait: Option<Duration>, now: Timestamp) {
        let state = self.key(key, now);
        let doubled = REFUSED_MIN.saturating_mul(1 << state.refused_times.min(8));
        state.refused_times = state.refused_times.saturating_add(1);
        state.refused = Shut::new(now, doubled.max(wait.unwrap_or_default()).min(REFUSED_MAX));
    }

    fn key(&mut self, key: &str, now: Timestamp) -> &mut KeyState {
        if self.keys.len() >= LANES_MAX {
            self.keys.retain(|_, state| state.shut(now).is_some());
        }
        self.keys.entry(key.to_owned()).or_default()
    }

    pub fn breaker(&mut self, group: &str) -> &mut Breaker {
        if self.breakers.len() >= LANES_MAX && !self.breakers.contains_key(group) {
            self.breakers.clear();
        }
        self.breakers.entry(group.to_owned()).or_default()
    }
}

/// Whose health it is. Another address under the same name is another provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HealthKey {
    pub provider: String,
    pub base_url: String,
    pub model: String,
}

/// What all requests share.
#[derive(Debug, Default)]
pub(crate) struct Healths {
    targets: Mutex<HashMap<HealthKey, Arc<TargetHealth>>>,
    /// Of retries and of hedges, by provider.
    buckets: Mutex<HashMap<String, Arc<Buckets>>>,
    /// What lists of models were asked for: by provider and the name of the secret. As many as a document has.
    pub probes: Mutex<BTreeMap<(String, String), Known>>,
}

/// How many requests beyond the first a provider bears.
#[derive(Debug)]
pub(crate) struct Buckets {
    pub retries: Bucket,
    pub hedges: Bucket,
}

impl Healths {
    pub fn of(&self, key: HealthKey) -> Arc<TargetHealth> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = targets.get(&key) {
            return known.clone();
        }
        let fresh = Arc::<TargetHealth>::default();
        if targets.len() >= TARGETS_MAX {
            // Forgets what nobody holds and what never answered.
            targets.retain(|_, health| Arc::strong_count(health) > 1 || health.state().has_answered());
        }
        if targets.len() < TARGETS_MAX {
            targets.insert(key, fresh.clone());
        }
        fresh
    }

    /// Of all models of a provider that were asked.
    pub fn of_provider(&self, provider: &str, base_url: &str) -> Vec<Arc<TargetHealth>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let own = targets.iter().filter(|(key, _)| key.provider == provider && key.base_url == base_url);
        own.map(|(_, health)| health.clone()).collect()
    }

    pub fn buckets(&self, provider: &str) -> Arc<Buckets> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Buckets { retries: Bucket::retries(), hedges: Bucket::hedges() });
        buckets.entry(provider.to_owned()).or_insert_with(fresh).clone()
    }

    /// The secret of this name holds another key now: what was seen of the old one says nothing of it.
    pub fn forgive(&self, secret: &str) {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        for health in targets.values() {
            health.state().keys.remove(secret);
        }
    }

    /// Forgets what the new document has not. Requests that hold it tell nobody any more.
    pub fn keep(&self, providers: &[(String, String)]) {
        let known = |key: &HealthKey| {
            providers.iter().any(|(provider, base_url)| *provider == key.provider && *base_url == key.base_url)
        };
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|key, _| known(key));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|provider, _| providers.iter().any(|(name, _)| name == provider));
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|(provider, _), _| providers.iter().any(|(name, _)| name == provider));
    }

    pub fn view(&self, now: Timestamp) -> Vec<HealthView> {
        let targets: Vec<_> = {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.iter().map(|(key, health)| (key.clone(), health.clone())).collect()
        };
        let mut views: Vec<_> = targets.iter().map(|(key, health)| health.state().view(key, now)).collect();
        views.sort_by(|one, other| one.target.cmp(&other.target));
        views
    }
}

/// For lists and metrics.
#[derive(Clone, Debug, Serialize)]
pub struct HealthView {
    /// `PROVIDER/MODEL`, the model as its provider names it.
    pub target: String,
    /// To the first event of a stream, smoothed; `None` if there was none.
    pub first_byte_us: Option<u64>,
    /// To an answer that came as a whole.
    pub whole_us: Option<u64>,
    pub errors_permille: u32,
    pub in_flight: u32,
    pub lanes: Vec<LaneView>,
    pub keys: Vec<KeyView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LaneView {
    pub group: String,
    pub state: BreakerState,
    /// When an open one lets a request through again.
    pub reopens_at: Option<Timestamp>,
}

/// A key that is not used for now. By the name of its secret.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    pub secret: String,
    pub until: Timestamp,
    /// It was not accepted; else its rate is limited.
    pub is_refused: bool,
}

impl State {
    fn view(&mut self, key: &HealthKey, now: Timestamp) -> HealthView {
        let lanes = self.breakers.iter_mut().map(|(group, breaker)| {
            let (state, reopens_at) = breaker.look(now);
            LaneView { group: group.clone(), state, reopens_at }
        });
        let lanes = lanes.collect();
        let keys = self.keys.iter().filter_map(|(secret, state)| {
            let (until, is_refused) = state.shut(now)?;
            Some(KeyView { secret: secret.clone(), until, is_refused })
        });
        HealthView {
            target: format!("{}/{}", key.provider, key.model),
            first_byte_us: self.streamed.first_byte_us(),
            whole_us: self.whole.first_byte_us(),
            errors_permille: self.errors.permille(),
            in_flight: self.in_flight,
            lanes,
            keys: keys.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
