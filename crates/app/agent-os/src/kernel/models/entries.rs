//! Models as a listing shows them: what the document says, what the catalog knows, and how they are.

use std::collections::BTreeSet;

use agentos_api::model_admin::{ModelEntry, ModelHealth, ModelList, ModelPrice, ModelProbe, PriceSource, ShutLane};
use agentos_catalog::{Capabilities, Capability, Price};
use agentos_router::{BreakerState, Config, HealthView, Policy, ProbeView, Router};
use agentos_types::{Code, Fault, Result, Timestamp};

pub(super) fn list(router: &Router, now: Timestamp) -> ModelList {
    let (config, seen) = (router.config(), Seen::of(router, now));
    let document = config.document();
    let aliases = document.routes.keys().map(|alias| alias_entry(&config, alias));
    // Models that are listed, and those that only an alias names.
    let listed = document
        .providers
        .iter()
        .flat_map(|(name, provider)| provider.models.keys().map(move |model| format!("{name}/{model}")));
    let targeted = document.routes.values().flat_map(|route| route.targets.iter().map(|target| target.model.clone()));
    let models: BTreeSet<String> = listed.chain(targeted).collect();
    let models = models.iter().filter_map(|id| model_entry(&config, &seen, id));
    let source = config.catalog().source();
    ModelList {
        items: aliases.flatten().chain(models).collect(),
        revision: i64::try_from(config.revision()).unwrap_or(i64::MAX),
        prices: PriceSource { date: source.date.clone(), sha256: source.sha256.clone() },
    }
}

pub(super) fn get(router: &Router, id: &str, now: Timestamp) -> Result<ModelEntry> {
    let config = router.config();
    let found = alias_entry(&config, id).or_else(|| model_entry(&config, &Seen::of(router, now), id));
    found.ok_or_else(|| {
        Fault::new(Code::MODEL_UNKNOWN, format!("there is no model '{}'", id.escape_debug()))
            .hint("`agent-os model list` shows what can be named; a provider's model is PROVIDER/MODEL")
    })
}

fn alias_entry(config: &Config, alias: &str) -> Option<ModelEntry> {
    let route = config.document().routes.get(alias)?;
    Some(ModelEntry {
        id: alias.to_owned(),
        disabled: route.disabled,
        policy: Some(policy(route.policy).to_owned()),
        targets: route.targets.iter().map(|target| target.model.clone()).collect(),
        ..ModelEntry::default()
    })
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Order => "order",
        Policy::Weight => "weight",
        Policy::Latency => "latency",
        Policy::Price => "price",
    }
}

/// What the router has seen until now.
struct Seen {
    health: Vec<HealthView>,
    probes: Vec<ProbeView>,
    now: Timestamp,
}

impl Seen {
    fn of(router: &Router, now: Timestamp) -> Self {
        Self { health: router.health(now), probes: router.probe_views(), now }
    }

    fn probe(&self, provider: &str) -> Option<ModelProbe> {
        let own = self.probes.iter().filter(|view| view.provider == provider);
        own.max_by_key(|view| view.at).map(|view| ModelProbe {
            at: view.at,
            age_s: self.now.since(view.at).as_secs(),
            outcome: view.probed.as_str().to_owned(),
        })
    }
}

fn model_entry(config: &Config, seen: &Seen, id: &str) -> Option<ModelEntry> {
    let (name, model) = id.split_once('/')?;
    let provider = config.document().providers.get(name)?;
    let said = provider.models.get(model);
    if said.is_none() && provider.only_listed {
        return None;
    }
    let facts = config.facts(name, model)?;
    let upstream = said.and_then(|said| said.upstream.as_deref()).unwrap_or(model);
    let target = format!("{name}/{upstream}");
    Some(ModelEntry {
        id: id.to_owned(),
        provider: Some(name.to_owned()),
        disabled: provider.disabled || said.is_some_and(|said| said.disabled),
        context: facts.context.or(facts.input_max),
        output_max: facts.output_max,
        capabilities: capabilities(&facts.capabilities),
        price: facts.price.as_deref().and_then(price),
        health: seen.health.iter().find(|view| view.target == target).map(shown),
        probe: seen.probe(name),
        ..ModelEntry::default()
    })
}

fn capabilities(known: &Capabilities) -> Vec<String> {
    let can = Capability::ALL.iter().filter(|capability| known.get(**capability) == Some(true));
    can.map(|capability| capability.as_str().to_owned()).collect()
}

fn price(price: &Price) -> Option<ModelPrice> {
    let rates = price.shown()?;
    Some(ModelPrice {
        input: per_million(rates.input),
        output: per_million(rates.output),
        cache_read: rates.cache_read.map(per_million),
        cache_write: rates.cache_write.map(per_million),
    })
}

/// Pico-USD for a token are micro-USD for a million of them.
fn per_million(pico: u64) -> String {
    let digits = format!("{:06}", pico % 1_000_000);
    let kept = digits.trim_end_matches('0').len().max(2);
    format!("{}.{}", pico / 1_000_000, digits.get(..kept).unwrap_or_default())
}

fn shown(view: &HealthView) -> ModelHealth {
    let lanes = view.lanes.iter().filter(|lane| lane.state != BreakerState::Closed).map(|lane| ShutLane {
        name: lane.group.clone(),
        state: if lane.state == BreakerState::Open { "open" } else { "half-open" }.to_owned(),
        until: lane.reopens_at,
    });
    let keys = view.keys.iter().map(|key| ShutLane {
        name: key.secret.clone(),
        state: if key.is_refused { "refused" } else { "rate-limited" }.to_owned(),
        until: Some(key.until),
    });
    ModelHealth {
        first_byte_us: view.first_byte_us,
        errors_permille: view.errors_permille,
        in_flight: view.in_flight,
        shut: lanes.chain(keys).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_told_as_they_are_written() {
        for (pico, text) in
            [(0, "0.00"), (2_500_000, "2.50"), (75_000, "0.075"), (1, "0.000001"), (30_000_000, "30.00")]
        {
            assert_eq!(per_million(pico), text);
        }
    }
}
