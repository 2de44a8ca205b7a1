//! What a client gets, in its own protocol.

use agentos_monitor::ModelOutcome;
use agentos_types::{Fault, RequestId};
use agentos_wire::{Object, WireError, write_error};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Operation, failing::put};

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    /// Bytes of an event stream. Dropping the receiver stops the provider at once.
    Stream(mpsc::Receiver<Bytes>),
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body }
    }

    pub(crate) fn json(status: u16, body: Bytes) -> Self {
        Self::new(status, "application/json", Body::Whole(body))
    }

    pub(crate) fn header(&mut self, name: &str, value: impl ToString) {
        self.headers.push((name.to_owned(), value.to_string()));
    }

    /// What came of the call, beside its answer. Of a stream the cost is not known yet; its last comment tells it.
    pub(crate) fn facts(&mut self, request_id: &RequestId, outcome: &ModelOutcome) {
        self.header("x-agent-os-request-id", request_id);
        if let Some(target) = &outcome.target {
            self.header("x-agent-os-target", visible(target));
        }
        self.header("x-agent-os-attempts", outcome.attempts);
        if outcome.hedges > 0 {
            self.header("x-agent-os-hedges", outcome.hedges);
        }
        if matches!(self.body, Body::Whole(_)) {
            self.costs(outcome);
        }
    }

    pub(crate) fn costs(&mut self, outcome: &ModelOutcome) {
        self.header("x-agent-os-cost-nano-usd", outcome.nano_usd);
        self.header("x-agent-os-estimated", outcome.estimated);
    }
}

/// An error of ours for a client of this operation.
pub fn reply_of(operation: Operation, request_id: &RequestId, fault: &Fault) -> Reply {
    if let Some(detail) = &fault.detail {
        tracing::warn!(%request_id, code = %fault.code, detail, "a model call failed");
    }
    let error = wire_error_of(fault);
    let mut reply = error_reply(operation, &error);
    reply.header("x-agent-os-request-id", request_id);
    reply
}

pub(crate) fn error_reply(operation: Operation, error: &WireError) -> Reply {
    let mut reply = Reply::json(error.status, write_error(operation.protocol(), error).into());
    if let Some(wait) = error.retry_after {
        // Rounded up: who comes back a moment too early waits twice.
        reply.header("retry-after", wait.as_millis().div_ceil(1_000).max(1));
    }
    reply
}

pub(crate) fn wire_error_of(fault: &Fault) -> WireError {
    let mut facts = Object::default();
    for (name, value) in &fault.facts {
        put(&mut facts, name, value);
    }
    if let Some(hint) = &fault.hint
        && let Err(error) = facts.put_as("hint", hint)
    {
        tracing::debug!(%error, "a hint could not be written");
    }
    WireError {
        status: fault.code.entry().http_status,
        kind: None,
        code: fault.code.to_string(),
        message: fault.message.clone(),
        retry_after: fault.retry_after,
        facts,
    }
}

/// Names of models come from people; a header is visible ASCII.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
