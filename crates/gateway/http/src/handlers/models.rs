//! Calls of models, in the protocols of OpenAI and Anthropic. The body is not looked at: it goes to the kernel as it came.

use std::sync::Arc;

use agentos_api::models::{ModelCaller, ModelInfo, ModelOperation, Models};
use agentos_base::trace::TraceContext;
use agentos_types::{Actor, Code, Fault, RequestId, Result, Scope};
use agentos_wire::Protocol;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};

use crate::{
    extract::{HeldBody, ModelCall},
    handlers::Gateway,
    layers::{errors::Answer, guard::Caller},
    models::{
        answer::{self, Watch},
        request, told,
    },
    reach::Right,
    shared::Shared,
};

macro_rules! call {
    ($name:ident $path:literal $operation:ident $doc:literal) => {
        #[doc = $doc]
        #[utoipa::path(post, path = $path, tag = "models",
            params(
                ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible ASCII characters. A repeat with the same key and body returns the first answer."),
                ("x-api-key" = Option<String>, Header, description = "A gateway token, where the client has no other place for it"),
            ),
            request_body(content = Object, description = "As the provider documents it", content_type = "application/json"),
            responses((status = 200, description = "As the provider documents it; a stream where the body asks for one",
                content((Object = "application/json"), (String = "text/event-stream")))))]
        pub(crate) async fn $name(gateway: Gateway, caller: Caller, context: Extension<TraceContext>, body: ModelCall) -> Answer<Response> {
            call(gateway.0, caller, context.0, ModelOperation::$operation, body).await
        }
    };
}

call!(create_chat_completion "/v1/chat/completions" Chat "OpenAI's chat completions.");
call!(create_response "/v1/responses" Responses "OpenAI's responses.");
call!(create_embeddings "/v1/embeddings" Embeddings "OpenAI's embeddings.");
call!(create_message "/v1/messages" Messages "Anthropic's messages.");
call!(count_message_tokens "/v1/messages/count_tokens" CountTokens "Counts what Anthropic's messages would take in.");

/// The models that the token may name: aliases, and `PROVIDER/MODEL`. In OpenAI's form, or with the header
/// `anthropic-version` in Anthropic's.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    params(("anthropic-version" = Option<String>, Header, description = "Answers in the form of Anthropic")),
    responses((status = 200, description = "All of them", body = Object)))]
pub(crate) async fn list_models(
    State(shared): Gateway,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let protocol = told::protocol_of(&uri, &headers).unwrap_or(Protocol::Chat);
    let models: Vec<ModelInfo> = port(&shared)?.list(&who(&caller)?).await?;
    Ok(answer::response(answer::list(protocol, &models), None)?)
}

async fn call(
    shared: Arc<Shared>,
    caller: Caller,
    context: TraceContext,
    operation: ModelOperation,
    ModelCall { headers, body }: ModelCall,
) -> Answer<Response> {
    let id: RequestId = caller.context.request_id.clone();
    let HeldBody { bytes, share } = body;
    let request = request::request(operation, &headers, bytes, id, Some(context.to_string()))?;
    // They hold the connection's buffer, and a call waits long.
    drop(headers);
    let reply = port(&shared)?.call(who(&caller)?, request).await;
    // Of a stream only what is under way is left.
    drop(share);
    let watch = Watch::new(Arc::clone(&shared), caller, Right::Whole(Scope::Models));
    Ok(answer::response(reply, Some(watch))?)
}

pub(crate) fn port(shared: &Shared) -> Result<&dyn Models> {
    shared.models.as_deref().ok_or_else(|| Fault::new(Code::ROUTE_NOT_FOUND, "this server calls no models"))
}

pub(crate) fn who(caller: &Caller) -> Result<ModelCaller> {
    let Actor::Token { token, name } = &caller.context.actor else {
        return Err(Fault::internal("a model was called without a token"));
    };
    let (context, models) = (caller.context.clone(), caller.models.clone());
    Ok(ModelCaller::Token { context, token: token.clone(), name: name.clone(), models })
}
