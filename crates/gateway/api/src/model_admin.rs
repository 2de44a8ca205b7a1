//! Models and providers as operators see and set them: bodies, and their part of the port. Names of secrets pass here, keys
//! never do.

use agentos_types::{RequestId, Result, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::body::Context;

/// `GET /api/v1/model-config`: the document in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelConfig {
    /// Grows by one with each change; 0 before the first.
    pub revision: i64,
    /// Providers, routes and prices.
    #[schema(value_type = Object)]
    pub document: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<Timestamp>,
}

/// `PUT /api/v1/model-config`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetModelConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub document: Option<Value>,
    /// The document as TOML, whose mistakes are told by line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toml: Option<String>,
}

/// Which prices are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriceSource {
    /// The day on which they were taken.
    pub date: String,
    pub sha256: String,
}

/// `GET /api/v1/models`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    pub items: Vec<ModelEntry>,
    /// Of the document in force.
    pub revision: i64,
    pub prices: PriceSource,
}

/// An alias, or one model of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// What clients name.
    pub id: String,
    /// Absent for an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub disabled: bool,
    /// Of an alias: how one of its targets is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Of an alias.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Tokens of input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u64>,
    /// What it is known to be able to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Absent where nobody knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<ModelPrice>,
    /// Absent where it was neither asked nor looked at since the start of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ModelHealth>,
    /// The last look at its provider's list of models, which is taken while nobody asks it. Of several keys the one that was
    /// looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ModelProbe>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelProbe {
    pub at: Timestamp,
    /// Seconds since then, by the server's clock.
    pub age_s: u64,
    /// `answered`, `failed`, or `unsupported`: the provider has no list, or not for this key.
    pub outcome: String,
}

/// USD per million tokens, exact, for prompts of the first size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelPrice {
    pub input: String,
    pub output: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelHealth {
    /// Smoothed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    pub errors_permille: u32,
    pub in_flight: u32,
    /// Groups of keys whose breaker is not closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shut: Vec<ShutLane>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutLane {
    /// A group of keys, or the name of a secret.
    pub name: String,
    /// `open`, `half-open`, `rate-limited` or `refused`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// `GET /api/v1/models/{id}/explain`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ExplainModel {
    /// Tokens of the request.
    pub input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// What the request needs, with commas: `tools`, `images`, `json_schema`, `json_object`, `thinking`, `logprobs`, `audio`,
    /// `files`, `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// As for a caller with a budget, who cannot use a model without a price.
    pub budgeted: bool,
}

/// Who would be asked now, and why nobody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelExplanation {
    /// For people.
    pub text: String,
    /// Everything that the choice depends on; `POST /api/v1/models/replay` makes it again.
    #[schema(value_type = Object)]
    pub record: Value,
}

/// `POST /api/v1/models/replay`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayModel {
    #[schema(value_type = Object)]
    pub record: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelReplay {
    /// This program makes the same choice.
    pub same: bool,
    pub text: String,
}

/// `GET /api/v1/model-calls/{id}`: how the target of a call was chosen, made again by this program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelCallDecision {
    /// The call's request id.
    pub id: String,
    pub at: Timestamp,
    /// That made the call.
    pub node: String,
    /// This program makes the same choices.
    pub same: bool,
    /// For people: the first choice that differs, if one does, then all of them with their reasons.
    pub text: String,
    /// Everything that the choices depended on.
    #[schema(value_type = Object)]
    pub record: Value,
}

/// `POST /api/v1/models/test`: one real generation of a few tokens, which costs what the model costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestModel {
    pub model: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelTest {
    pub ok: bool,
    pub status: u16,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<i64>,
    /// The provider has told no usage.
    pub estimated: bool,
    pub duration_ms: u64,
    /// The beginning of the answer, or what went wrong.
    pub text: String,
}

/// A provider of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderInfo {
    pub name: String,
    pub kind: String,
    pub base_url: String,
    pub disabled: bool,
    pub keys: Vec<ProviderKey>,
    /// Models that the document lists; others of the provider can be named all the same, unless it says `only_listed`.
    pub models: Vec<String>,
}

/// The name of a secret that holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderKey {
    pub group: String,
    pub secret: String,
    /// An active secret has this name.
    pub present: bool,
}

/// `PUT /api/v1/providers/{name}`: a provider as the document has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct SetProvider(pub Value);

/// What a provider answered when it was asked for its models, once for each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTest {
    pub ok: bool,
    pub keys: Vec<ProviderKeyTest>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderKeyTest {
    /// Absent where the provider needs no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub duration_ms: u64,
    /// How many it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<u64>,
    pub text: String,
}

/// Part of the port. A change names the revision that it was made from; `None` takes the one in force.
#[async_trait]
pub trait ModelAdmin: Send + Sync + 'static {
    async fn model_config(&self) -> Result<ModelConfig>;
    async fn set_model_config(
        &self,
        context: &Context,
        revision: Option<i64>,
        body: SetModelConfig,
    ) -> Result<ModelConfig>;
    async fn list_models(&self) -> Result<ModelList>;
    async fn get_model(&self, id: &str) -> Result<ModelEntry>;
    async fn switch_model(&self, context: &Context, id: &str, disabled: bool) -> Result<ModelEntry>;
    async fn explain_model(&self, id: &str, query: ExplainModel) -> Result<ModelExplanation>;
    async fn replay_model(&self, body: ReplayModel) -> Result<ModelReplay>;
    async fn model_call_decision(&self, id: &RequestId) -> Result<ModelCallDecision>;
    async fn list_providers(&self) -> Result<Vec<ProviderInfo>>;
    async fn set_provider(
        &self,
        context: &Context,
        name: &str,
        revision: Option<i64>,
        body: SetProvider,
    ) -> Result<ProviderInfo>;
    async fn remove_provider(&self, context: &Context, name: &str, revision: Option<i64>) -> Result<()>;
    async fn test_provider(&self, context: &Context, name: &str) -> Result<ProviderTest>;
}
