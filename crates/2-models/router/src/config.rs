//! A document that was checked and looked up in the catalog, as a request uses it. Never changed once made.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use agentos_catalog::{Capabilities, Capability, Catalog, Mode, ModelFacts, Price, image_tokens_max};
use agentos_types::{Fault, Result, SecretName};
use agentos_wire::{Needs, Protocol, emulate::Lacks};

use crate::{
    Asked, Caching, Document, Emulate, Exclusion, Kind, Operation, Policy, Rules, UnknownPrice, Waits,
    document::{Model, Provider, Route},
    health::{Buckets, HealthKey, Healths, TargetHealth},
};

/// A request whose bound is more than this many times the window does not fit by any count: the bound takes three bytes for a
/// token, text that a model reads has four to five.
const BOUND_TIMES: u64 = 2;

/// What a request begins with and keeps.
#[derive(Debug)]
pub struct Config {
    pub(crate) revision: u64,
    document: Document,
    catalog: Catalog,
    pub(crate) providers: BTreeMap<String, Arc<Place>>,
    pub(crate) routes: BTreeMap<String, Arc<Group>>,
    pub(crate) assumed_price: Option<Arc<Price>>,
}

/// A provider.
#[derive(Debug)]
pub(crate) struct Place {
    pub name: String,
    pub kind: Kind,
    /// Without a slash at its end.
    pub base_url: String,
    pub headers: Arc<Vec<(String, String)>>,
    /// Group and secret.
    pub keys: Vec<(String, Option<SecretName>)>,
    pub said: Provider,
    buckets: OnceLock<Arc<Buckets>>,
}

/// Targets under one name: an alias, or a model by itself.
#[derive(Debug)]
pub(crate) struct Group {
    pub alias: Option<String>,
    pub rules: Rules,
    pub hedge: Option<Hedge>,
    pub min_context: Option<u64>,
    pub members: Vec<Member>,
}

/// When another target is asked beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hedge {
    /// After the 95th percentile of its own times, once there are enough of them.
    Slow,
    After(Duration),
}

impl Hedge {
    fn of(route: &Route) -> Option<Self> {
        let after = route.hedge_after_ms.map(|ms| Hedge::After(Duration::from_millis(ms)));
        after.or(route.hedge.then_some(Hedge::Slow))
    }
}

/// One model of one provider.
#[derive(Debug)]
pub(crate) struct Member {
    pub place: Arc<Place>,
    pub id: String,
    pub upstream: String,
    pub weight: u32,
    pub is_disabled: bool,
    /// The catalog or the operator has said something of it.
    pub mode: Option<Mode>,
    pub facts: ModelFacts,
    /// The most that one image costs.
    pub image_tokens: u64,
    protocols: Vec<Protocol>,
    pub emulate: Vec<Emulate>,
    pub drop_fields: Arc<Vec<String>>,
    pub is_whole_only: bool,
    pub waits: Waits,
    health: OnceLock<Arc<TargetHealth>>,
}

impl Config {
    /// Refused with the fields that are wrong.
    pub fn new(document: Document, catalog: Catalog, revision: u64) -> Result<Self> {
        document.check()?;
        let mut providers = BTreeMap::new();
        for (name, said) in &document.providers {
            providers.insert(name.clone(), Arc::new(Place::new(name, said)?));
        }
        let assumed_price = match document.unknown_price {
            UnknownPrice::Refuse(_) => None,
            UnknownPrice::Worst(price) => Some(Arc::new(price.into())),
        };
        let mut config = Self { revision, document, catalog, providers, routes: BTreeMap::new(), assumed_price };
        let made =
            config.document.routes.iter().map(|(name, route)| (name.clone(), Arc::new(config.group(name, route))));
        config.routes = made.collect();
        Ok(config)
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn document(&self) -> &Document {
        &self.document
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What clients may name: aliases, and the models that the document lists as `PROVIDER/MODEL`; with the provider's name,
    /// which an alias has not.
    pub fn names(&self) -> Vec<(String, Option<&str>)> {
        let aliases =
            self.document.routes.iter().filter(|(_, route)| !route.disabled).map(|(name, _)| (name.clone(), None));
        let providers = self.document.providers.iter().filter(|(_, provider)| !provider.disabled);
        let models = providers.flat_map(|(name, provider)| {
            let models = provider.models.iter().filter(|(_, model)| !model.disabled);
            models.map(move |(model, _)| (format!("{name}/{model}"), Some(name.as_str())))
        });
        aliases.chain(models).collect()
    }

    /// How answers to this caller are cached, if the operator wants it.
    pub fn caching(&self, owner: &str) -> Option<Caching> {
        self.document.cache.get(owner).map(|cache| cache.under(self.revision))
    }

    /// What is known of a model after the operator's overrides.
    pub fn facts(&self, provider: &str, model: &str) -> Option<ModelFacts> {
        Some(self.member(self.providers.get(provider)?, model).facts)
    }

    fn group(&self, alias: &str, route: &Route) -> Group {
        let members = route.targets.iter().filter_map(|target| {
            let (provider, model) = target.model.split_once('/')?;
            let member = self.member(self.providers.get(provider)?, model);
            let is_disabled = member.is_disabled || target.disabled;
            Some(Member { weight: target.weight, is_disabled, ..member })
        });
        Group {
            alias: Some(alias.to_owned()),
            rules: Rules {
                policy: route.policy,
                fallback: route.fallback.clone(),
                content_filter_fallback: route.content_filter_fallback,
                continuation: route.continuation,
                price_weight: route.price_weight,
                ramp: route.ramp,
            },
            hedge: Hedge::of(route),
            min_context: route.min_context,
            members: members.collect(),
        }
    }

    /// A model that is named by itself.
    pub(crate) fn single(&self, place: &Arc<Place>, model: &str) -> Group {
        let rules = Rules { policy: Policy::Order, ..Rules::default() };
        Group { alias: None, rules, hedge: None, min_context: None, members: vec![self.member(place, model)] }
    }

    fn member(&self, place: &Arc<Place>, name: &str) -> Member {
        let listed = place.said.models.get(name);
        let none = Model::default();
        let said = listed.unwrap_or(&none);
        let known = self.known(place, name);
        let mode = known.as_ref().map(|facts| facts.mode);
        let mut facts = known.map_or_else(ModelFacts::default, |facts| (*facts).clone());
        facts.capabilities = facts.capabilities.with(&said.capabilities);
        if let Some(context) = said.context {
            facts.context = Some(context);
            // Its window is another one than the catalog's, and so is its part for the input.
            facts.input_max = None;
        }
        facts.output_max = said.output_max.or(facts.output_max);
        let own = said.price.map(|price| Arc::new(price.into()));
        let of_place = || place.said.price.map(|price| Arc::new(price.into()));
        let free = || place.kind.is_free().then(|| Arc::new(Price::free()));
        facts.price = own.or(facts.price).or_else(of_place).or_else(free);
        let upstream = said.upstream.clone().unwrap_or_else(|| name.to_owned());
        let protocols = place.protocols(said, &upstream);
        Member {
            id: format!("{}/{name}", place.name),
            upstream,
            protocols,
            weight: 1,
            is_disabled: said.disabled || place.said.disabled,
            mode,
            image_tokens: said.image_tokens.unwrap_or_else(|| self.image_tokens(place, name)),
            facts,
            emulate: said.emulate.clone().unwrap_or_else(|| place.said.emulate.clone()),
            drop_fields: Arc::new(said.drop_fields.clone()),
            is_whole_only: said.whole_only,
            waits: said.timeouts.unwrap_or(place.said.timeouts).into(),
            health: OnceLock::new(),
            place: place.clone(),
        }
    }

    fn image_tokens(&self, place: &Place, name: &str) -> u64 {
        image_tokens_max(place.said.catalog.or(place.kind.family()), place.like(name).unwrap_or(name))
    }

    /// What the catalog says of a provider's model.
    pub(crate) fn known(&self, place: &Place, name: &str) -> Option<Arc<ModelFacts>> {
        let family = place.said.catalog.or(place.kind.family())?;
        let like = place.like(name);
        self.catalog.facts(family, like.unwrap_or(name)).or_else(|| self.catalog.facts(family, name)).cloned()
    }
}

impl Place {
    fn new(name: &str, said: &Provider) -> Result<Self> {
        let base_url = said.base_url.as_deref().or(said.kind.base_url()).unwrap_or_default();
        let mut keys = Vec::new();
        for group in &said.keys {
            for secret in group.secrets() {
                let secret: SecretName = secret.parse().map_err(|fault: Fault| fault)?;
                keys.push((group.group().to_owned(), Some(secret)));
            }
        }
        if keys.is_empty() {
            keys.push((String::new(), None));
        }
        Ok(Self {
            name: name.to_owned(),
            kind: said.kind,
            base_url: base_url.trim_end_matches('/').to_owned(),
            headers: Arc::new(said.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()),
            keys,
            said: said.clone(),
            buckets: OnceLock::new(),
        })
    }

    /// Under which name the catalog knows it, if not under its own.
    fn like(&self, name: &str) -> Option<&str> {
        let said = self.said.models.get(name)?;
        said.like.as_deref().or(said.upstream.as_deref())
    }

    pub fn buckets(&self, healths: &Healths) -> &Arc<Buckets> {
        self.buckets.get_or_init(|| healths.buckets(&self.name))
    }

    /// The operator's word for the model, then for the provider, then what its kind speaks.
    fn protocols(&self, model: &Model, upstream: &str) -> Vec<Protocol> {
        let said = [&model.protocols, &self.said.protocols].into_iter().find(|said| !said.is_empty());
        let is_old_azure = self.kind == Kind::Azure && self.said.is_dated();
        match (said, model.like.as_deref()) {
            (Some(said), _) => said.clone(),
            // Of the dated versions only previews have more.
            (None, _) if is_old_azure => vec![Protocol::Chat],
            // A name of one's own, such as that of an inference profile, is like one that tells its vendor.
            (None, Some(like)) if self.kind == Kind::Bedrock => self.kind.protocols_of(like).to_vec(),
            (None, _) => self.kind.protocols_of(upstream).to_vec(),
        }
    }
}

/// How a member can answer a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    pub protocol: Protocol,
    pub emulate: Lacks,
}

impl Member {
    pub fn health(&self, healths: &Healths) -> &Arc<TargetHealth> {
        self.health.get_or_init(|| {
            healths.of(HealthKey {
                provider: self.place.name.clone(),
                base_url: self.place.base_url.clone(),
                model: self.upstream.clone(),
            })
        })
    }

    /// Whether and how it can answer, whatever its health.
    pub fn fit(&self, asked: &Asked<'_>, group: &Group, assumed: bool) -> Result<Fit, Exclusion> {
        if self.is_disabled {
            return Err(Exclusion::Disabled);
        }
        let embeds = asked.operation == Operation::Embeddings;
        if self.mode.is_some_and(|mode| (mode == Mode::Embedding) != embeds) {
            return Err(Exclusion::WrongMode);
        }
        let protocol = self.protocol(asked.operation).ok_or(Exclusion::WrongMode)?;
        let needs = &asked.needs;
        if (needs.stored_input || needs.hosted_tools) && protocol != asked.operation.protocol() {
            return Err(Exclusion::OtherProtocol);
        }
        let emulate = self.emulated(needs)?;
        if let Some(limit) = self.facts.input_limit().filter(|limit| asked.input_tokens / BOUND_TIMES > *limit) {
            return Err(Exclusion::TooLong { limit });
        }
        let context = self.facts.context.or(self.facts.input_max);
        if group.min_context.is_some_and(|least| context.is_none_or(|context| context < least)) {
            return Err(Exclusion::SmallWindow { context });
        }
        if asked.budgeted && self.facts.price.is_none() && !assumed {
            return Err(Exclusion::PriceUnknown);
        }
        Ok(Fit { protocol, emulate })
    }

    fn protocol(&self, operation: Operation) -> Option<Protocol> {
        let wanted = operation.protocol();
        match operation {
            Operation::Embeddings if !self.place.kind.embeds() => None,
            _ if self.protocols.contains(&wanted) => Some(wanted),
            Operation::Embeddings => None,
            _ => self.protocols.first().copied(),
        }
    }

    /// What of the needs is done by prompt. What can be neither done nor emulated excludes it.
    fn emulated(&self, needs: &Needs) -> Result<Lacks, Exclusion> {
        let mut lacks = Lacks::default();
        for capability in Capabilities::needed(needs) {
            let can = self.facts.capabilities.get(capability);
            let by_prompt = match capability {
                Capability::Tools => self.emulate.contains(&Emulate::Tools).then_some(&mut lacks.tools),
                Capability::JsonSchema => self.emulate.contains(&Emulate::Schema).then_some(&mut lacks.json_schema),
                _ => None,
            };
            match (can, by_prompt) {
                (Some(true), _) | (None, None) => {}
                (Some(false) | None, Some(lack)) => *lack = true,
                (Some(false), None) => return Err(Exclusion::Lacks(capability)),
            }
        }
        let knows_schema = self.facts.capabilities.json_schema == Some(true);
        lacks.json_object = needs.json_object && self.emulate.contains(&Emulate::Schema) && !knows_schema;
        Ok(lacks)
    }
}

#[cfg(test)]
mod tests;
