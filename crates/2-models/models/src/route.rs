//! What the engine needs of whoever chooses: a target to try, the next one after a failure, and somebody to tell how it went.

use std::{fmt, sync::Arc, time::Duration};

use agentos_types::{Fault, Result, SecretName};
use agentos_wire::{Class, Dialect, Failure, Needs, Protocol, Usage, emulate::Lacks};

use crate::Operation;

/// What a request asks of its target.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As the client wrote it.
    pub model: String,
    pub operation: Operation,
    pub needs: Needs,
    pub is_stream: bool,
    /// Upper bound of the input's tokens.
    pub input_tokens: u64,
    pub max_output_tokens: Option<u64>,
}

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    Azure,
    Bedrock,
    Compatible,
}

impl Kind {
    /// The provider's protocol for a client's operation; `None`: it has nothing for it.
    pub(crate) fn protocol(self, operation: Operation) -> Option<Protocol> {
        match (self, operation) {
            (Kind::Anthropic, Operation::Embeddings) | (Kind::Gemini, Operation::Embeddings) => None,
            (Kind::Anthropic, _) => Some(Protocol::Messages),
            (Kind::Gemini, _) => Some(Protocol::Gemini),
            (Kind::OpenAi | Kind::Azure, Operation::Responses) => Some(Protocol::Responses),
            _ => Some(Protocol::Chat),
        }
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Kind::OpenAi | Kind::Azure => Dialect::Current,
            _ => Dialect::Compatible,
        }
    }
}

/// Money of a target. Integers in nano-USD, rounded up.
pub trait Price: Send + Sync {
    fn cost(&self, usage: &Usage) -> i64;
    /// The most that so many tokens can cost.
    fn worst(&self, input: u64, output: u64) -> i64;
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Name, connection and TLS.
    pub connect: Duration,
    /// From the request to the first event of a stream.
    pub first_byte: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// From the request to the head of an answer that is no stream: the model has written it all by then.
    pub whole: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            whole: Duration::from_secs(600),
        }
    }
}

/// One model of one provider with one of its keys.
#[derive(Clone)]
pub struct Target {
    /// `PROVIDER/MODEL`.
    pub id: String,
    pub kind: Kind,
    pub base_url: String,
    /// As the provider calls it.
    pub model: String,
    pub key: Option<SecretName>,
    /// Of the provider's settings.
    pub headers: Vec<(String, String)>,
    pub price: Option<Arc<dyn Price>>,
    /// Tokens of the model's window.
    pub context: Option<u64>,
    pub output_max: Option<u64>,
    /// What is done in words because the model has it not.
    pub emulate: Lacks,
    /// Answers only as a whole.
    pub is_whole_only: bool,
    pub waits: Waits,
    /// To be waited before this attempt.
    pub pause: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The first byte came after this long.
    Answered {
        first_byte: Duration,
    },
    Failed {
        class: Class,
        retry_after: Option<Duration>,
    },
    /// The client went away, or nothing was sent; it says nothing about the target.
    Nothing,
}

pub trait Routing: Send + Sync {
    /// Refused if nothing can answer, with what can be done about it.
    fn plan(&self, asked: &Asked) -> Result<Box<dyn Course>, Fault>;
}

/// The attempts of one request.
pub trait Course: Send {
    /// What is tried next, first or after a failure. `None`: it is over, and the last failure is told.
    fn next(&mut self, last: Option<&Failure>) -> Option<Target>;

    /// Of the target that [`Course::next`] gave last.
    fn report(&mut self, observed: Observed);
}
