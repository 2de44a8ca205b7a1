//! Models and providers, for operators. Keys never pass: the document names secrets.

use agentos_api::{
    body::Page,
    model_admin::{
        ExplainModel, ModelCallDecision, ModelConfig, ModelEntry, ModelExplanation, ModelList, ModelReplay, ModelTest,
        ProviderInfo, ProviderTest, ReplayModel, SetModelConfig, SetProvider, TestModel,
    },
    models::{ModelBody, ModelOperation, ModelReply, ModelRequest},
};
use agentos_types::{Code, Fault, RequestId, Result};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    extract::{Body, Filter, Id, QueryCode},
    handlers::{Gateway, models, whole},
    layers::{errors::Answer, guard::Caller},
};

/// Longest name: a provider's, a slash, and its model's.
const NAME_BYTES_MAX: usize = 400;
/// Of an answer to a test.
const TEXT_CHARS_MAX: usize = 200;
const TEST_TOKENS_MAX: u64 = 16;

/// A name in the path: of a provider, an alias, or `PROVIDER%2FMODEL`. What it means is the kernel's to say.
pub(crate) struct Name(String);

impl std::str::FromStr for Name {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(Fault::new(Code::INVALID_ID, "this is no name of a model")) }
    }
}

impl QueryCode for ExplainModel {
    const CODE: Code = Code::MODEL_REQUEST_INVALID;
}

/// The revision that a change was made from: `If-Match: "7"`.
fn revision(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Fault::new(Code::MODELS_CHANGED, "If-Match is not the ETag of a document, such as \"7\"")),
    }
}

fn tagged(config: ModelConfig) -> Answer<Response> {
    let tag = HeaderValue::from_str(&format!("\"{}\"", config.revision)).map_err(Fault::internal)?;
    let mut response = Json(config).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// The document of providers and routes, with its revision as `ETag`.
#[utoipa::path(get, path = "/api/v1/model-config", tag = "model administration",
    responses((status = 200, description = "The document", body = ModelConfig, headers(("ETag" = String)))))]
pub(crate) async fn get_model_config(State(shared): Gateway) -> Answer<Response> {
    tagged(shared.kernel.model_config().await?)
}

/// Replaces the document. It is in force when the answer comes, on this node at once and on others as soon as they hear of it.
#[utoipa::path(put, path = "/api/v1/model-config", tag = "model administration", request_body = SetModelConfig,
    params(("If-Match" = Option<String>, Header, description = "ETag of the document that was changed")),
    responses((status = 200, description = "In force", body = ModelConfig, headers(("ETag" = String)))))]
pub(crate) async fn set_model_config(
    State(shared): Gateway,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<SetModelConfig>,
) -> Answer<Response> {
    let revision = revision(&headers)?.ok_or_else(|| {
        Fault::new(Code::MODELS_CHANGED, "the header If-Match has to name the revision that was changed")
    })?;
    tagged(shared.kernel.set_model_config(&caller.context, Some(revision), body).await?)
}

/// Aliases and models with window, price and health.
#[utoipa::path(get, path = "/api/v1/models", tag = "model administration",
    responses((status = 200, description = "What the document names", body = ModelList)))]
pub(crate) async fn list_known_models(State(shared): Gateway) -> Answer<Json<ModelList>> {
    Ok(Json(shared.kernel.list_models().await?))
}

/// One alias or model.
#[utoipa::path(get, path = "/api/v1/models/{id}", tag = "model administration", params(("id" = String, Path)),
    responses((status = 200, description = "The model", body = ModelEntry)))]
pub(crate) async fn get_model(State(shared): Gateway, Id(name): Id<Name>) -> Answer<Json<ModelEntry>> {
    Ok(Json(shared.kernel.get_model(&name.0).await?))
}

/// Nobody is asked under this name any more.
#[utoipa::path(post, path = "/api/v1/models/{id}/disable", tag = "model administration", params(("id" = String, Path)),
    responses((status = 200, description = "Disabled", body = ModelEntry)))]
pub(crate) async fn disable_model(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<Name>,
) -> Answer<Json<ModelEntry>> {
    Ok(Json(shared.kernel.switch_model(&caller.context, &name.0, true).await?))
}

/// Takes a disabled one back.
#[utoipa::path(post, path = "/api/v1/models/{id}/enable", tag = "model administration", params(("id" = String, Path)),
    responses((status = 200, description = "Enabled", body = ModelEntry)))]
pub(crate) async fn enable_model(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<Name>,
) -> Answer<Json<ModelEntry>> {
    Ok(Json(shared.kernel.switch_model(&caller.context, &name.0, false).await?))
}

/// Who would be asked now, and why the others would not. Asks nobody.
#[utoipa::path(get, path = "/api/v1/models/{id}/explain", tag = "model administration",
    params(("id" = String, Path), ExplainModel),
    responses((status = 200, description = "The choice", body = ModelExplanation)))]
pub(crate) async fn explain_model(
    State(shared): Gateway,
    Id(name): Id<Name>,
    Filter(query): Filter<ExplainModel>,
) -> Answer<Json<ModelExplanation>> {
    Ok(Json(shared.kernel.explain_model(&name.0, query).await?))
}

/// Makes a recorded choice again and compares.
#[utoipa::path(post, path = "/api/v1/models/replay", tag = "model administration", request_body = ReplayModel,
    responses((status = 200, description = "Whether it is the same", body = ModelReplay)))]
pub(crate) async fn replay_model(State(shared): Gateway, Body(body): Body<ReplayModel>) -> Answer<Json<ModelReplay>> {
    Ok(Json(shared.kernel.replay_model(body).await?))
}

/// How the target of a call was chosen, and whether this program would choose the same. The newest calls are kept.
#[utoipa::path(get, path = "/api/v1/model-calls/{id}", tag = "model administration",
    params(("id" = String, Path, description = "Request id of the call, as its answer says it")),
    responses((status = 200, description = "The choices", body = ModelCallDecision)))]
pub(crate) async fn model_call_decision(
    State(shared): Gateway,
    Id(id): Id<RequestId>,
) -> Answer<Json<ModelCallDecision>> {
    Ok(Json(shared.kernel.model_call_decision(&id).await?))
}

/// Lets a model write a few tokens, as a call of the token that asks: it is paid for, and recorded as every call is.
#[utoipa::path(post, path = "/api/v1/models/test", tag = "model administration", request_body = TestModel,
    responses((status = 200, description = "What came of it", body = ModelTest)))]
pub(crate) async fn test_model(
    State(shared): Gateway,
    caller: Caller,
    Body(body): Body<TestModel>,
) -> Answer<Json<ModelTest>> {
    let asked = json!({
        "model": body.model,
        "messages": [{"role": "user", "content": "Answer with the one word: ready"}],
        "max_tokens": TEST_TOKENS_MAX,
    });
    let request = ModelRequest {
        operation: ModelOperation::Chat,
        body: Bytes::from(asked.to_string()),
        headers: Vec::new(),
        request_id: caller.context.request_id.clone(),
        idempotency_key: None,
        traceparent: None,
    };
    let begun = shared.ambient.now();
    let reply = models::port(&shared)?.call(models::who(&caller)?, request).await;
    let duration_ms = u64::try_from(shared.ambient.now().since(begun).as_millis()).unwrap_or(u64::MAX);
    Ok(Json(told(&reply, duration_ms)))
}

fn told(reply: &ModelReply, duration_ms: u64) -> ModelTest {
    let header = |name: &str| reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let body: Value = match &reply.body {
        ModelBody::Whole(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
        ModelBody::Stream(_) => Value::Null,
    };
    let ok = (200..300).contains(&reply.status);
    let text = if ok { body.pointer("/choices/0/message/content") } else { body.pointer("/error/message") };
    ModelTest {
        ok,
        status: reply.status,
        target: header("x-agent-os-target"),
        attempts: header("x-agent-os-attempts").and_then(|text| text.parse().ok()),
        nano_usd: header("x-agent-os-cost-nano-usd").and_then(|text| text.parse().ok()),
        estimated: header("x-agent-os-estimated").is_some_and(|text| text == "true"),
        duration_ms,
        text: text.and_then(Value::as_str).unwrap_or_default().chars().take(TEXT_CHARS_MAX).collect(),
    }
}

/// Providers of the document, with the names of the secrets that hold their keys.
#[utoipa::path(get, path = "/api/v1/providers", tag = "model administration",
    responses((status = 200, description = "Providers", body = Page<ProviderInfo>)))]
pub(crate) async fn list_providers(State(shared): Gateway) -> Answer<Json<Page<ProviderInfo>>> {
    Ok(whole(shared.kernel.list_providers().await?))
}

/// Adds a provider, or replaces it.
#[utoipa::path(put, path = "/api/v1/providers/{name}", tag = "model administration", request_body = SetProvider,
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "ETag of the document")),
    responses((status = 200, description = "In force", body = ProviderInfo)))]
pub(crate) async fn set_provider(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<Name>,
    headers: HeaderMap,
    Body(body): Body<SetProvider>,
) -> Answer<Json<ProviderInfo>> {
    let revision = revision(&headers)?;
    Ok(Json(shared.kernel.set_provider(&caller.context, &name.0, revision, body).await?))
}

/// Removes a provider that no route names.
#[utoipa::path(delete, path = "/api/v1/providers/{name}", tag = "model administration",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "ETag of the document")),
    responses((status = 204, description = "Removed")))]
pub(crate) async fn remove_provider(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<Name>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let revision = revision(&headers)?;
    shared.kernel.remove_provider(&caller.context, &name.0, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a provider for its list of models, once with each key. Never a generation.
#[utoipa::path(post, path = "/api/v1/providers/{name}/test", tag = "model administration", params(("name" = String, Path)),
    responses((status = 200, description = "What it answered", body = ProviderTest)))]
pub(crate) async fn test_provider(
    State(shared): Gateway,
    caller: Caller,
    Id(name): Id<Name>,
) -> Answer<Json<ProviderTest>> {
    Ok(Json(shared.kernel.test_provider(&caller.context, &name.0).await?))
}
