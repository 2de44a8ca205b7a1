//! A request for a model, read once: its bytes, and what the router, the ledger and the log need to know of them.

use agentos_ledger::Payer;
use agentos_monitor::{ModelRequest, Told};
use agentos_router::Operation;
use agentos_types::RequestId;
use agentos_wire::{Peek, Protocol, Refusal, peek, peek_embeddings};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// A request whose body is sound JSON with a model in it. What else it says is the provider's to judge.
#[derive(Clone, Debug)]
pub struct ModelCall {
    pub operation: Operation,
    pub body: Bytes,
    pub peek: Peek,
    /// Those that mean something to a provider, lower-case.
    pub headers: Vec<(String, String)>,
    pub request_id: RequestId,
    pub idempotency_key: Option<String>,
    pub payer: Payer,
    request_sha256: [u8; 32],
}

impl ModelCall {
    pub fn read(operation: Operation, body: Bytes, request_id: RequestId, payer: Payer) -> Result<Self, Refusal> {
        let peek = peeked(operation, &body)?;
        if peek.model.is_empty() {
            return Err(Refusal::malformed("model", "the name of a model is missing"));
        }
        let request_sha256 = Sha256::new().chain_update(name_of(operation)).chain_update(&body).finalize().into();
        let (headers, idempotency_key) = (Vec::new(), None);
        Ok(Self { operation, body, peek, headers, request_id, idempotency_key, payer, request_sha256 })
    }

    pub fn protocol(&self) -> Protocol {
        self.operation.protocol()
    }

    /// The client waits for events.
    pub fn is_stream(&self) -> bool {
        self.peek.stream && !matches!(self.operation, Operation::Embeddings | Operation::CountTokens)
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.request_sha256
    }
}

impl ModelRequest for ModelCall {
    fn told(&self) -> Told<'_> {
        Told {
            operation: name_of(self.operation),
            model: &self.peek.model,
            request_id: &self.request_id,
            request_sha256: self.request_sha256,
            bytes: self.body.len() as u64,
            is_stream: self.is_stream(),
        }
    }
}

pub(crate) fn peeked(operation: Operation, body: &[u8]) -> Result<Peek, Refusal> {
    match operation {
        Operation::Embeddings => peek_embeddings(body),
        _ => peek(operation.protocol(), body),
    }
}

/// As records call it.
pub(crate) fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "chat",
        Operation::Responses => "responses",
        Operation::Messages => "messages",
        Operation::Gemini => "gemini",
        Operation::Embeddings => "embeddings",
        Operation::CountTokens => "count-tokens",
    }
}
