//! Why an attempt at a provider failed: ten classes, of which each has one answer. Which class it is depends on the evidence
//! alone, so the same failure always leads to the same action, here and in a replay.
//!
//! Providers say the same thing in different places: a status, a word in `code`, `type` or `status`, or only a sentence. The
//! word counts most, then the sentence, then the status; see [`mod@words`] for both tables.

mod body;
mod retry;
#[cfg(test)]
mod tests;
mod words;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Protocol;
use body::ErrorBody;

/// What kind of failure it was, which decides what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Too many requests or tokens for now. Cools the key, not the provider.
    RateLimited,
    /// The key's money or its share of the day is used up: as [`Class::Auth`], and waiting for seconds does not help.
    QuotaExhausted,
    /// The provider has no room for anybody.
    Overloaded,
    Server,
    /// DNS, TCP or TLS: nothing was sent, so another try is always safe.
    Connect,
    /// Something was sent and no answer came in time: another try may be billed twice.
    Timeout,
    Auth,
    /// The request is at fault. The provider's words go to the client.
    BadRequest,
    /// The request and its answer do not fit into the model's window.
    ContextOverflow,
    /// The provider's filter took the request or the answer. Final.
    ContentFilter,
    /// An answer that is none: not JSON, nothing in it, not what was asked for.
    Malformed,
    /// It broke off after its first event had been passed on. Nothing can be tried again.
    StreamBroken,
    /// The model or its server lacks what the request needs.
    NotCapable,
}

impl Class {
    pub const ALL: [Class; 13] = [
        Class::RateLimited,
        Class::QuotaExhausted,
        Class::Overloaded,
        Class::Server,
        Class::Connect,
        Class::Timeout,
        Class::Auth,
        Class::BadRequest,
        Class::ContextOverflow,
        Class::ContentFilter,
        Class::Malformed,
        Class::StreamBroken,
        Class::NotCapable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::RateLimited => "rate_limited",
            Class::QuotaExhausted => "quota_exhausted",
            Class::Overloaded => "overloaded",
            Class::Server => "server",
            Class::Connect => "connect",
            Class::Timeout => "timeout",
            Class::Auth => "auth",
            Class::BadRequest => "bad_request",
            Class::ContextOverflow => "context_overflow",
            Class::ContentFilter => "content_filter",
            Class::Malformed => "malformed",
            Class::StreamBroken => "stream_broken",
            Class::NotCapable => "not_capable",
        }
    }

    /// The target itself is ill, so that a breaker counts it. Limits and faulty requests say nothing about its health.
    pub fn is_ill_health(self) -> bool {
        matches!(
            self,
            Class::Overloaded
                | Class::Server
                | Class::Connect
                | Class::Timeout
                | Class::Malformed
                | Class::StreamBroken
        )
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the attempt had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name, connection or TLS; not a byte of the request was sent.
    Connect,
    /// Sent, and the time for a first byte, or for the next one of a whole answer, ran out.
    TimedOut,
    /// Sent, and the connection ended before the answer was whole.
    Cut,
    /// There is a status and a body, or an event of a stream of which nothing was passed on yet.
    Answered,
    /// Events were passed on already. An error event, a bad line, a stall and an end too early are the same to the client.
    Streaming,
}

/// All that is known of a failed attempt. Fields that the phase cannot have are `None` or empty.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub phase: Phase,
    pub status: Option<u16>,
    /// The headers `retry-after`, `retry-after-ms` (OpenAI, Azure) and `date`, as they came. A date to retry at is told against
    /// the provider's own clock, so that nobody else's is needed.
    pub retry_after: Option<&'a str>,
    pub retry_after_ms: Option<&'a str>,
    pub date: Option<&'a str>,
    /// The header `x-amzn-errortype` of AWS, whose bodies have a sentence alone.
    pub error_type: Option<&'a str>,
    /// Of a stream: the data of the event.
    pub body: &'a [u8],
}

impl<'a> Evidence<'a> {
    /// Evidence without headers.
    pub fn new(phase: Phase, status: Option<u16>, body: &'a [u8]) -> Self {
        Self { phase, status, retry_after: None, retry_after_ms: None, date: None, error_type: None, body }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: Class,
    /// When the provider wants to see us again.
    pub retry_after: Option<Duration>,
    /// The provider's most telling word.
    pub code: Option<String>,
    /// The provider's sentence, else ours. At most [`body::MESSAGE_MAX`] bytes, without control characters.
    pub message: String,
}

/// Any evidence has a class: what nobody has seen yet falls to its status, and what has none to its phase.
pub fn classify(protocol: Protocol, evidence: &Evidence<'_>) -> Failure {
    let mut said = ErrorBody::read(evidence.body);
    said.is_typed(evidence.error_type);
    let class = match evidence.phase {
        Phase::Connect => Class::Connect,
        Phase::TimedOut => Class::Timeout,
        Phase::Cut => Class::Server,
        Phase::Streaming => Class::StreamBroken,
        Phase::Answered => answered(protocol, evidence.status, &said),
    };
    let retry_after = retry::from_headers(evidence.retry_after_ms, evidence.retry_after, evidence.date)
        .or_else(|| said.retry_delay.as_deref().and_then(retry::seconds));
    let message = said.message.clone().unwrap_or_else(|| match evidence.status {
        Some(status) => format!("{} (status {status})", ours(class)),
        None => ours(class).to_owned(),
    });
    Failure { class, retry_after, code: said.telling_word().map(str::to_owned), message }
}

fn answered(protocol: Protocol, status: Option<u16>, said: &ErrorBody) -> Class {
    // An error inside a 200 carries its status in its body, if at all.
    let status = match status {
        Some(status) if !(200..300).contains(&status) => Some(status),
        _ => said.status(),
    };
    if said.blocked {
        return Class::ContentFilter;
    }
    if said.words().any(|word| words::of_daily_quota(protocol, word)) {
        return Class::QuotaExhausted;
    }
    let by_word = said.words().find_map(words::strong);
    let by_sentence = said.message.as_deref().and_then(|message| words::sentence(status, message));
    match (by_word, by_sentence) {
        // `rate_limit_error` and the like are also said of spent money; only the sentence tells.
        (Some(Class::RateLimited), Some(Class::QuotaExhausted)) => Class::QuotaExhausted,
        (Some(class), _) | (None, Some(class)) => class,
        (None, None) => status
            .and_then(words::status)
            .or_else(|| said.words().find_map(words::weak))
            .unwrap_or(if said.is_error { Class::Server } else { Class::Malformed }),
    }
}

fn ours(class: Class) -> &'static str {
    match class {
        Class::RateLimited => "the provider limits the rate of requests",
        Class::QuotaExhausted => "the quota of the provider's key is used up",
        Class::Overloaded => "the provider is overloaded",
        Class::Server => "the provider failed",
        Class::Connect => "the provider could not be reached",
        Class::Timeout => "the provider did not answer in time",
        Class::Auth => "the provider does not accept the key",
        Class::BadRequest => "the provider does not accept the request",
        Class::ContextOverflow => "the request does not fit into the model's context window",
        Class::ContentFilter => "the provider's content filter stopped the request",
        Class::Malformed => "the provider's answer cannot be read",
        Class::StreamBroken => "the provider's stream broke off",
        Class::NotCapable => "the model lacks what the request needs",
    }
}
