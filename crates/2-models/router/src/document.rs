//! What the operator writes: providers, aliases, prices. TOML or JSON, one document that is checked and replaced as a whole.

use std::collections::BTreeMap;

use agentos_catalog::{Capabilities, Family, PerMillion, Price, Rates};
use agentos_types::{Code, Fault, Result};
use agentos_wire::{Class, Protocol};
use serde::{Deserialize, Serialize};

mod cache;
mod check;
mod kind;

pub use cache::{Cache, Caching, Decisions};
pub use check::Problem;
pub use kind::Kind;

/// Of a document, in bytes. A thousand models with overrides come to a quarter of it.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// What a call costs whose model has no price, if somebody pays for it from a budget.
    pub unknown_price: UnknownPrice,
    /// Whether it is kept with each call how its target was chosen.
    #[serde(skip_serializing_if = "Decisions::is_default")]
    pub decisions: Decisions,
    pub providers: BTreeMap<String, Provider>,
    /// Aliases: what clients name, and who answers.
    pub routes: BTreeMap<String, Route>,
    /// Whose answers are given again: `agent:NAME`, `token:ID`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cache: BTreeMap<String, Cache>,
}

/// `"refuse"`, or `{ input = "30", output = "150" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnknownPrice {
    Refuse(Refuse),
    Worst(FlatPrice),
}

impl Default for UnknownPrice {
    fn default() -> Self {
        UnknownPrice::Refuse(Refuse::Refuse)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refuse {
    Refuse,
}

/// USD per million tokens. What is not said costs what `input` costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatPrice {
    pub input: PerMillion,
    #[serde(default)]
    pub output: PerMillion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<PerMillion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<PerMillion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<PerMillion>,
}

impl From<FlatPrice> for Price {
    fn from(price: FlatPrice) -> Self {
        let pico = PerMillion::pico_usd_per_token;
        Price::flat(Rates {
            input: pico(price.input),
            output: pico(price.output),
            cache_read: price.cache_read.map(pico),
            cache_write: price.cache_write.map(pico),
            cache_write_1h: price.cache_write_1h.map(pico),
            ..Rates::default()
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub kind: Kind,
    /// Without it, that of the kind, if it has one. Paths of operations are put behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Names of secrets, never keys. A breaker holds for a group, since keys of one account share its limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Keys>,
    /// Sent with each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Protocols that it speaks, if they are not those of its kind; the first is written when none is the client's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
    /// Whose prices hold, if they are not those of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Family>,
    /// The price of models that have no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<FlatPrice>,
    /// What to do by prompt where a model cannot do it, or where nobody knows whether it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emulate: Vec<Emulate>,
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Azure's `api-version`: a date, and the older addresses with one of each deployment; without one, or with a word, those
    /// of `v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Bedrock alone: requests are signed for this region (SigV4), and the secrets hold access keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigv4_region: Option<String>,
    /// Models that are not listed here are refused.
    #[serde(default)]
    pub only_listed: bool,
    /// It is looked at by its list of models while nobody asks it. Not to be wanted of one that bills its list.
    #[serde(default = "yes")]
    pub probe: bool,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Model>,
}

/// `"openai-main"`, which is a group by itself, or `{ group = "eu", secrets = ["openai-eu-1", "openai-eu-2"] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Keys {
    One(String),
    Group(KeyGroup),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyGroup {
    pub group: String,
    pub secrets: Vec<String>,
}

impl Keys {
    pub fn group(&self) -> &str {
        match self {
            Keys::One(secret) => secret,
            Keys::Group(group) => &group.group,
        }
    }

    pub fn secrets(&self) -> &[String] {
        match self {
            Keys::One(secret) => std::slice::from_ref(secret),
            Keys::Group(group) => &group.secrets,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emulate {
    Schema,
    Tools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    pub connect_ms: u64,
    pub first_byte_ms: u64,
    /// Between two pieces of a stream.
    pub idle_ms: u64,
    /// Until an answer that is no stream begins, which is when the model has written it all.
    pub whole_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 2_000, first_byte_ms: 30_000, idle_ms: 30_000, whole_ms: 600_000 }
    }
}

/// What is known better than in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// As the provider names it, if not like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The name in the catalog whose facts hold: for Azure's deployments and own names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// What it is spoken to in, if that is not what its provider speaks: for names of Bedrock that do not tell their vendor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<FlatPrice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u64>,
    /// The most that one image costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tokens: Option<u64>,
    pub capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulate: Option<Vec<Emulate>>,
    /// Fields of the request that this model must not see. They are named in the answer's headers, since a field is never
    /// dropped in silence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop_fields: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// It cannot stream; its answers are delivered as streams that say so.
    pub whole_only: bool,
    pub disabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The first that can.
    #[default]
    Order,
    /// By chance, in proportion.
    Weight,
    /// The better one of two that were drawn, by the time to the first byte and `price_weight`.
    Latency,
    /// The cheapest for this request at the most that it can cost.
    Price,
}

/// What follows upon a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It goes to the client.
    Stop,
    /// Another target at once.
    Next,
    /// The same target once more, then another one.
    Retry,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    #[serde(default)]
    pub policy: Policy,
    pub targets: Vec<RouteTarget>,
    /// Tokens of the window that a target must have at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_context: Option<u64>,
    /// Other rules than the usual ones, by class of failure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallback: BTreeMap<FailureClass, Rule>,
    /// Ask another target when a filter took the request. Final without it.
    #[serde(default)]
    pub content_filter_fallback: bool,
    /// Let a model that takes a prefill write on where a stream broke off.
    #[serde(default)]
    pub continuation: bool,
    /// A second request to another target when the first is slower than usual; both are paid for.
    #[serde(default)]
    pub hedge: bool,
    /// The same after a fixed time. Names it, wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_after_ms: Option<u64>,
    /// Percent by which a price that is twice as high counts against a target, with policy `latency`.
    #[serde(default)]
    pub price_weight: u8,
    /// When a target dies that carried much more than the next one, let its traffic onto that one by and by.
    #[serde(default = "yes")]
    pub ramp: bool,
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTarget {
    /// `PROVIDER/MODEL`.
    pub model: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub disabled: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// [`Class`] as a key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureClass(pub Class);

impl PartialOrd for FailureClass {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FailureClass {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl Document {
    pub fn from_toml(text: &str) -> Result<Self> {
        small(text)?;
        // Its message has the line and the field.
        toml::from_str(text).map_err(|error| unreadable(&error))
    }

    pub fn from_json(text: &str) -> Result<Self> {
        small(text)?;
        serde_json::from_str(text).map_err(|error| unreadable(&error))
    }
}

fn small(text: &str) -> Result<()> {
    if text.len() <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the document of models has {} bytes; at most {DOCUMENT_BYTES_MAX} are read", text.len());
    Err(Fault::new(Code::MODELS_INVALID, message))
}

fn unreadable(error: &impl std::fmt::Display) -> Fault {
    Fault::new(Code::MODELS_INVALID, format!("the document of models cannot be read: {}", error.to_string().trim_end()))
}
