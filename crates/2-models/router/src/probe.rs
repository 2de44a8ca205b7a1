//! Looks at providers that nobody asks, or whose breaker is not closed: by their list of models, which costs nothing. Who is due,
//! and what follows from what was seen.
//!
//! A list says that the provider can be reached and takes the key, and not that the model answers. So it can keep a breaker open and
//! open one, and helps a half-open one on its way, but the last step to closed is always that of a real request. What a provider
//! says of its list alone (no such route, no right to it, a limit of its rate) says nothing about its models.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use agentos_types::{SecretName, Timestamp};
use serde::Serialize;

use crate::{
    Provider, Router,
    config::{Config, Place},
    health::{BreakerState, Healths, TargetHealth},
};

/// A provider that has no list, or does not give it to this key, is not asked again for so long.
const IN_VAIN: Duration = Duration::from_secs(3_600);

/// One list to be asked for.
#[derive(Clone, Debug)]
pub struct Probe {
    pub provider: String,
    pub key: Option<SecretName>,
    pub key_group: String,
    pub connect: Duration,
    place: Arc<Place>,
    targets: Vec<Arc<TargetHealth>>,
}

impl Probe {
    /// What the document says of the provider.
    pub fn said(&self) -> &Provider {
        &self.place.said
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probed {
    Answered,
    /// It could not be reached, did not answer in time, or said that it is ill.
    Failed,
    /// It has no such list, or not for this key, or not now.
    Unsupported,
}

impl Probed {
    pub const ALL: [Probed; 3] = [Probed::Answered, Probed::Failed, Probed::Unsupported];

    /// As metrics and lists call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Probed::Answered => "answered",
            Probed::Failed => "failed",
            Probed::Unsupported => "unsupported",
        }
    }
}

/// For lists and metrics.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeView {
    pub provider: String,
    /// Name of the secret; empty without one.
    pub secret: String,
    pub at: Timestamp,
    pub probed: Probed,
    pub counts: BTreeMap<Probed, u64>,
}

/// Of one provider with one key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    at: Timestamp,
    probed: Probed,
    counts: BTreeMap<Probed, u64>,
}

impl Router {
    /// Whose list is due: of providers none of whose targets was asked for `idle`, and of those with a breaker that is not closed.
    pub fn probes(&self, idle: Duration, now: Timestamp) -> Vec<Probe> {
        let config = self.config();
        let healths = self.healths();
        let wanted = config.providers.values().filter(|place| !place.said.disabled && place.said.probe);
        wanted.flat_map(|place| due(&config, healths, place, idle, now)).collect()
    }

    pub fn probed(&self, probe: &Probe, probed: Probed, now: Timestamp) {
        let key = probe.key.as_ref().map_or("", |key| key.as_str());
        for target in &probe.targets {
            target.state().probed(&probe.key_group, probed, now);
        }
        // Counts: whole after any panic.
        let mut known = self.healths().probes.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (probe.provider.clone(), key.to_owned());
        let known = known.entry(place).or_insert_with(|| Known { at: now, probed, counts: BTreeMap::new() });
        (known.at, known.probed) = (now, probed);
        *known.counts.entry(probed).or_default() += 1;
    }

    /// What was seen last, in the order of providers and keys.
    pub fn probe_views(&self) -> Vec<ProbeView> {
        let known = self.healths().probes.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |((provider, secret), known): (&(String, String), &Known)| ProbeView {
            provider: provider.clone(),
            secret: secret.clone(),
            at: known.at,
            probed: known.probed,
            counts: known.counts.clone(),
        };
        known.iter().map(view).collect()
    }
}

fn due(config: &Config, healths: &Healths, place: &Arc<Place>, idle: Duration, now: Timestamp) -> Vec<Probe> {
    let targets = targets_of(config, healths, place);
    let is_idle = targets.iter().all(|target| target.state().is_idle(idle, now));
    let keys = place.keys.iter().filter(|(group, key)| {
        let key = key.as_ref().map_or("", |key| key.as_str());
        let is_shut = targets.iter().any(|target| target.state().is_key_shut(key, now));
        let is_ill = targets.iter().any(|target| target.state().breaker(group).look(now).0 != BreakerState::Closed);
        (is_idle || is_ill) && !is_shut && !healths.was_in_vain(&place.name, key, now)
    });
    let probe = |(group, key): &(String, Option<SecretName>)| Probe {
        provider: place.name.clone(),
        key: key.clone(),
        key_group: group.clone(),
        connect: Duration::from_millis(place.said.timeouts.connect_ms),
        place: place.clone(),
        targets: targets.clone(),
    };
    keys.map(probe).collect()
}

/// Those that an alias names, and those that were asked.
fn targets_of(config: &Config, healths: &Healths, place: &Arc<Place>) -> Vec<Arc<TargetHealth>> {
    let members = config.routes.values().flat_map(|group| &group.members);
    let own = members.filter(|member| Arc::ptr_eq(&member.place, place) && !member.is_disabled);
    let mut targets: Vec<Arc<TargetHealth>> = own.map(|member| member.health(healths).clone()).collect();
    targets.extend(healths.of_provider(&place.name, &place.base_url));
    // One that an alias names and that was asked is there twice.
    targets.sort_by_key(Arc::as_ptr);
    targets.dedup_by(|one, other| Arc::ptr_eq(one, other));
    targets
}

impl Healths {
    fn was_in_vain(&self, provider: &str, key: &str, now: Timestamp) -> bool {
        let known = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.get(&(provider.to_owned(), key.to_owned()));
        last.is_some_and(|last| last.probed == Probed::Unsupported && now.since(last.at) < IN_VAIN)
    }
}

#[cfg(test)]
mod tests {
    use agentos_catalog::Catalog;
    use agentos_wire::{Class, Failure};

    use super::*;
    use crate::{Asked, Document, Observed, Operation};

    const START: Timestamp = Timestamp(1_795_000_000_000_000);
    const IDLE: Duration = Duration::from_secs(60);
    const DOCUMENT: &str = r#"
        [providers.one]
        kind = "openai"
        keys = ["key-a", "key-b"]
        [providers.dear]
        kind = "openai-compatible"
        base_url = "https://dear.example/v1"
        probe = false
        [routes.fast]
        targets = [{ model = "one/gpt-5" }, { model = "dear/x" }]
    "#;

    fn at(ms: u64) -> Timestamp {
        START.after(Duration::from_millis(ms))
    }

    fn router() -> Router {
        router_of(DOCUMENT)
    }

    fn router_of(document: &str) -> Router {
        let document = Document::from_toml(document).unwrap();
        Router::new(Config::new(document, Catalog::vendored().unwrap(), 1).unwrap())
    }

    /// One call of the alias that goes this way.
    fn call(router: &Router, observed: Observed<'_>, now: Timestamp) {
        let asked = Asked {
            model: "fast",
            operation: Operation::Chat,
            needs: agentos_wire::Needs::default(),
            stream: false,
            input_tokens: 1,
            max_output_tokens: Some(1),
            budgeted: false,
            now,
            deadline: now.after(Duration::from_secs(60)),
            // Always the first key.
            seed: 7,
        };
        let mut plan = router.plan(&asked).unwrap();
        let target = plan.next(None, now).unwrap();
        plan.report(&target, observed, now);
    }

    fn keys(router: &Router, now: Timestamp) -> Vec<String> {
        router
            .probes(IDLE, now)
            .iter()
            .map(|probe| probe.key.as_ref().map_or("", |key| key.as_str()).to_owned())
            .collect()
    }

    const GOOD: Observed<'static> = Observed::Answered { first_byte: Duration::from_millis(1) };

    #[test]
    fn who_is_asked_by_others_or_costs_or_has_no_list_is_left_alone() {
        let router = router();
        assert_eq!(keys(&router, START), ["key-a", "key-b"], "nobody has asked it");
        assert_eq!(router.probes(IDLE, START)[0].said().kind, crate::Kind::Openai);
        call(&router, GOOD, START);
        assert!(keys(&router, at(59_000)).is_empty(), "it was asked a moment ago");
        assert_eq!(keys(&router, at(60_000)).len(), 2);
        let probe = router.probes(IDLE, at(60_000)).remove(0);
        router.probed(&probe, Probed::Unsupported, at(60_000));
        assert_eq!(keys(&router, at(60_001)), ["key-b"]);
        assert_eq!(keys(&router, at(60_000 + 3_600_000)).len(), 2, "after an hour it is tried again");
        let views = router.probe_views();
        assert_eq!((views.len(), views[0].probed, views[0].counts[&Probed::Unsupported]), (1, Probed::Unsupported, 1));
    }

    #[test]
    fn five_failures_open_an_idle_target_and_successes_leave_the_last_step_to_a_request() {
        let router = router_of(&DOCUMENT.replace(r#", "key-b""#, ""));
        let probe = |now| router.probes(IDLE, now).remove(0);
        let state = |now| {
            let view = router.health(now).into_iter().find(|view| view.target == "one/gpt-5").unwrap();
            view.lanes.iter().find(|lane| lane.group == "key-a").map(|lane| lane.state)
        };
        for failure in 0..5 {
            router.probed(&probe(at(failure)), Probed::Failed, at(failure));
        }
        assert_eq!(state(at(5)), Some(BreakerState::Open));
        router.probed(&probe(at(6)), Probed::Answered, at(6));
        assert_eq!(state(at(7)), Some(BreakerState::Open), "before its time nothing opens");
        let half = 5_005;
        assert_eq!(state(at(half)), Some(BreakerState::HalfOpen));
        for look in 0..10 {
            router.probed(&probe(at(half + look)), Probed::Answered, at(half + look));
        }
        assert_eq!(state(at(half + 10)), Some(BreakerState::HalfOpen), "a list is no answer of the model");
        router.probed(&probe(at(half + 11)), Probed::Failed, at(half + 11));
        assert_eq!(state(at(half + 12)), Some(BreakerState::Open), "a failed look spares a request");
        assert_eq!(state(at(half + 11 + 10_000)), Some(BreakerState::HalfOpen), "and doubles the wait");
        (0..2).for_each(|_| router.probed(&probe(at(half + 10_012)), Probed::Answered, at(half + 10_012)));
        call(&router, GOOD, at(half + 11_013));
        assert_eq!(
            state(at(half + 11_014)),
            Some(BreakerState::Closed),
            "one request closes what two looks have prepared"
        );
    }

    #[test]
    fn a_target_that_is_ill_is_looked_at_while_others_are_asked() {
        let router = router();
        let failure = Failure { class: Class::Server, retry_after: None, code: None, message: String::new() };
        (0..5).for_each(|ms| call(&router, Observed::Failed(&failure), at(ms)));
        let view = router.health(at(5)).into_iter().find(|view| view.target == "one/gpt-5").unwrap();
        let ill = view.lanes.iter().filter(|lane| lane.state == BreakerState::Open).count();
        assert_eq!((ill, keys(&router, at(6)).len()), (1, 1), "the key whose breaker is open, and no other");
    }
}
