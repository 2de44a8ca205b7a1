//! The port of model calls: what the edges of the protocols ask of the kernel. The gateway's routes use it for tokens, and the
//! listeners inside of sandboxes for agents; both write nothing of their own, because errors too are told in the client's
//! protocol.

use agentos_types::{AgentName, Code, InstanceId, RequestId, Result, TaskId, TokenId};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::body::Context;

/// Pieces of a stream that may wait for a slow client. Then the provider waits too.
pub const STREAM_PIECES_MAX: usize = 32;

/// Which route was called, and so in which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelOperation {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
}

/// Who asks, as it was proven.
#[derive(Clone, Debug)]
pub enum ModelCaller {
    /// A program outside, by its token.
    /// `models` are the patterns that the token names, as those of grants; empty: no bound but its scope.
    Token { context: Context, token: TokenId, name: String, models: Vec<String> },
    /// A program inside of a sandbox, by the listener that it reached. `task` is the one that its agent works on, if it is
    /// exactly one: the call then is a step of it, unless it is the effect of `step`, a system call that the journal has already.
    Agent { agent: AgentName, instance: InstanceId, task: Option<TaskId>, step: Option<String> },
}

#[derive(Clone, Debug)]
pub struct ModelRequest {
    pub operation: ModelOperation,
    /// As it came; parsed by the kernel, once.
    pub body: Bytes,
    /// Headers that mean something to a provider (`anthropic-beta`, `anthropic-version`, `openai-beta`), lower-case. Never a
    /// credential.
    pub headers: Vec<(String, String)>,
    pub request_id: RequestId,
    pub idempotency_key: Option<String>,
    /// Of the request, for the trace.
    pub traceparent: Option<String>,
}

/// What the client gets, in its own protocol, errors included.
#[derive(Debug)]
pub struct ModelReply {
    pub status: u16,
    /// With `content-type`; lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: ModelBody,
}

#[derive(Debug)]
pub enum ModelBody {
    Whole(Bytes),
    /// Bytes of an event stream, with heartbeats. Dropping the receiver is the client's cancel, and reaches the provider at
    /// once. A sender that goes away without the protocol's own end was a broken stream, and its last event said so.
    Stream(mpsc::Receiver<Bytes>),
}

/// One line of `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelInfo {
    /// An alias, or `PROVIDER/MODEL`.
    pub id: String,
    /// Whose it is: a provider's name, or `agent-os` for an alias.
    pub owned_by: String,
}

#[async_trait]
pub trait Models: Send + Sync + 'static {
    /// One call, through the monitor. Never fails: what goes wrong is a reply.
    async fn call(&self, caller: ModelCaller, request: ModelRequest) -> ModelReply;

    /// What this caller may name.
    async fn list(&self, caller: &ModelCaller) -> Result<Vec<ModelInfo>>;

    /// Something that a connection which was caught on its way to a provider asked for is no call of a model, and was not
    /// done: for the log. `target` is a URL without its query.
    async fn refused(&self, caller: &ModelCaller, target: &str, code: Code);
}
