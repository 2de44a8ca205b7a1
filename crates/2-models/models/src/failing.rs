//! From what went wrong to what the client reads: a provider's own words where both speak one protocol and the request is at
//! fault, ours in the client's protocol in every other case.

use std::time::Duration;

use agentos_types::{Code, Fault, SecretName};
use agentos_wire::{Class, Evidence, Failure, Object, Phase, Protocol, Refusal, WireError, classify};
use bytes::Bytes;
use hyper::HeaderMap;

use crate::upstream::{Answer, Stopped, Unanswered};

/// Characters of a provider's words in our message.
const WORDS_MAX: usize = 2_000;

/// An attempt that brought no answer.
#[derive(Debug)]
pub(crate) struct Failing {
    pub failure: Failure,
    /// What the provider said, if it said anything.
    pub said: Option<Said>,
}

/// A provider's error as it came.
#[derive(Debug)]
pub(crate) struct Said {
    pub protocol: Protocol,
    pub status: u16,
    pub body: Bytes,
}

impl Failing {
    pub fn unanswered(protocol: Protocol, unanswered: &Unanswered) -> Self {
        let failure = classify(protocol, &Evidence::new(unanswered.phase, None, b""));
        Self { failure, said: None }
    }

    /// A head came and its body stopped.
    pub fn stopped(protocol: Protocol, status: u16, stopped: &Stopped) -> Self {
        let failure = match stopped {
            Stopped::Idle => classify(protocol, &Evidence::new(Phase::TimedOut, Some(status), b"")),
            Stopped::Cut(detail) => {
                tracing::debug!(detail, "a provider's answer broke off");
                classify(protocol, &Evidence::new(Phase::Cut, Some(status), b""))
            }
            Stopped::TooLarge => malformed("the provider's answer is larger than what is read of one"),
        };
        Self { failure, said: None }
    }

    /// It said so itself, by status or inside of a 200.
    pub fn answered(protocol: Protocol, status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let evidence = Evidence {
            phase: Phase::Answered,
            status: Some(status),
            retry_after: header("retry-after"),
            retry_after_ms: header("retry-after-ms"),
            date: header("date"),
            error_type: header("x-amzn-errortype"),
            body: &body,
        };
        let failure = classify(protocol, &evidence);
        Self { failure, said: Some(Said { protocol, status, body }) }
    }

    /// The provider has said what became of it, or never got it.
    pub fn is_fate_known(&self) -> bool {
        self.said.is_some() || matches!(self.failure.class, Class::Malformed)
    }

    pub fn malformed(reason: &str) -> Self {
        Self { failure: malformed(reason), said: None }
    }

    /// The provider's key is not there.
    pub fn keyless(name: &SecretName, fault: &Fault) -> Self {
        tracing::warn!(secret = %name, %fault, detail = fault.detail, "the key of a provider cannot be used");
        let message = format!("the provider's key '{name}' cannot be used: {}", fault.message);
        let failure = Failure { class: Class::Auth, retry_after: None, code: None, message };
        Self { failure, said: None }
    }

    /// The time of the whole request is over.
    pub fn late(deadline: Duration) -> Self {
        let message = format!("no answer within {deadline:?}");
        let failure = Failure { class: Class::Timeout, retry_after: None, code: None, message };
        Self { failure, said: None }
    }

    /// Decided before anything was sent.
    pub fn refused(refusal: &Refusal) -> Self {
        let class = match refusal {
            Refusal::Malformed { .. } => Class::BadRequest,
            Refusal::NoPlace { .. } | Refusal::NotCapable { .. } => Class::NotCapable,
        };
        let failure = Failure { class, retry_after: None, code: None, message: refusal.to_string() };
        Self { failure, said: None }
    }
}

pub(crate) fn malformed(reason: &str) -> Failure {
    Failure { class: Class::Malformed, retry_after: None, code: None, message: reason.to_owned() }
}

/// After the first event nothing can be tried again.
pub(crate) fn broken(protocol: Protocol, body: &[u8], reason: &str) -> Failure {
    let mut failure = classify(protocol, &Evidence::new(Phase::Streaming, None, body));
    if body.is_empty() {
        reason.clone_into(&mut failure.message);
    }
    failure
}

pub(crate) fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// The status that a client gets. A provider that refuses *our* key is no matter of the client's credentials.
pub(crate) fn status_of(class: Class) -> u16 {
    match class {
        Class::RateLimited => 429,
        Class::Overloaded => 503,
        Class::Timeout => 504,
        Class::BadRequest | Class::ContextOverflow | Class::ContentFilter | Class::NotCapable => 400,
        Class::QuotaExhausted
        | Class::Auth
        | Class::Server
        | Class::Connect
        | Class::Malformed
        | Class::StreamBroken => 502,
    }
}

/// The client's own fault, in the words of the provider.
pub(crate) fn is_told_verbatim(class: Class) -> bool {
    matches!(class, Class::BadRequest | Class::ContextOverflow | Class::ContentFilter)
}

pub(crate) fn fault_of(failure: &Failure) -> Fault {
    let code = match failure.class {
        Class::BadRequest | Class::ContextOverflow | Class::ContentFilter | Class::NotCapable => {
            Code::MODEL_REQUEST_INVALID
        }
        Class::StreamBroken => Code::MODEL_STREAM_BROKEN,
        _ => Code::MODEL_PROVIDER_FAILED,
    };
    let fault = Fault::new(code, failure.message.chars().take(WORDS_MAX).collect::<String>());
    match failure.retry_after {
        Some(wait) => fault.retry_after(wait),
        None => fault,
    }
}

/// For a client that has to be told by us.
pub(crate) fn wire_error(failure: &Failure) -> WireError {
    let fault = fault_of(failure);
    let mut facts = Object::default();
    if let Some(code) = &failure.code {
        put(&mut facts, "provider_code", code);
    }
    WireError {
        status: status_of(failure.class),
        kind: Some(failure.class),
        code: fault.code.to_string(),
        message: fault.message,
        retry_after: failure.retry_after.or_else(|| wait_of(failure.class)),
        facts,
    }
}

/// Who may come back gets told when.
fn wait_of(class: Class) -> Option<Duration> {
    matches!(class, Class::RateLimited | Class::Overloaded).then_some(Duration::from_secs(1))
}

/// Numbers as numbers, so that programs need not parse them out of text.
pub(crate) fn put(facts: &mut Object, name: &str, value: &str) {
    let put = match value.parse::<i64>() {
        Ok(number) => facts.put_as(name, &number),
        Err(_) => facts.put_as(name, value),
    };
    if let Err(error) = put {
        tracing::debug!(%error, name, "a fact of an error could not be written");
    }
}
