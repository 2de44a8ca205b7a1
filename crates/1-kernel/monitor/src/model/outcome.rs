//! What came of a call of a model, as its record says it.

use std::{fmt, sync::Arc};

use agentos_store::Tx;
use agentos_types::{
    Fault, Result,
    audit::{AuditEvent, Decision, Phase},
};
use serde_json::Value;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelEnd {
    /// The client has the whole answer, or will have.
    Done,
    /// From memory: the provider was not asked.
    Replayed,
    /// From the exact cache of its caller: the provider was not asked.
    Cached,
    /// No answer: refused before anything was sent, or every attempt failed.
    Failed,
    /// The answer began and broke off.
    Broken,
    /// The client went away; the provider was stopped.
    ClientGone,
    /// Nobody told how it ended.
    Abandoned,
}

impl ModelEnd {
    pub fn as_str(self) -> &'static str {
        match self {
            ModelEnd::Done => "done",
            ModelEnd::Replayed => "replayed",
            ModelEnd::Cached => "cached",
            ModelEnd::Failed => "failed",
            ModelEnd::Broken => "broken",
            ModelEnd::ClientGone => "client-gone",
            ModelEnd::Abandoned => "abandoned",
        }
    }

    fn decision(self) -> Decision {
        match self {
            ModelEnd::Done | ModelEnd::Replayed | ModelEnd::Cached => Decision::Succeeded,
            _ => Decision::Failed,
        }
    }
}

/// What is written in the transaction of an outcome, such as an answer that is kept. Asked again for the same outcome, when nobody
/// knows whether a try came through, it has to come to the same.
pub trait Beside: fmt::Debug + Send + Sync {
    fn write(&self, tx: &mut Tx<'_>) -> Result<()>;
}

/// Sums over all attempts.
#[derive(Clone, Debug)]
pub struct ModelOutcome {
    pub end: ModelEnd,
    /// What the client was told.
    pub status: u16,
    /// `PROVIDER/MODEL` of the last attempt.
    pub target: Option<String>,
    pub attempts: u32,
    /// Of the attempts, those that were begun beside a slow one.
    pub hedges: u32,
    /// Times that a stream broke off and another attempt wrote on.
    pub continued: u32,
    pub tokens_input: u64,
    pub tokens_output: u64,
    pub nano_usd: i64,
    /// Some of the usage was counted by us.
    pub estimated: bool,
    /// Tokens to which a budget has lowered the longest answer.
    pub shortened_to: Option<u64>,
    /// Class of the failure, if a provider was involved.
    pub class: Option<&'static str>,
    /// Of everything but `Done`, `Replayed` and `Cached`.
    pub fault: Option<Fault>,
    /// What the journal keeps of an answer; a step without it has failed.
    pub answer: Option<Value>,
    pub beside: Vec<Arc<dyn Beside>>,
}

impl ModelOutcome {
    pub fn new(end: ModelEnd, status: u16) -> Self {
        Self {
            end,
            status,
            target: None,
            attempts: 0,
            hedges: 0,
            continued: 0,
            tokens_input: 0,
            tokens_output: 0,
            nano_usd: 0,
            estimated: false,
            shortened_to: None,
            class: None,
            fault: None,
            answer: None,
            beside: Vec::new(),
        }
    }

    pub(super) fn record(&self, record: AuditEvent) -> AuditEvent {
        let record = record
            .phase(Phase::Outcome, self.end.decision())
            .fact("end", self.end.as_str())
            .fact("status", self.status)
            .fact("attempts", self.attempts)
            .fact("tokens_input", self.tokens_input)
            .fact("tokens_output", self.tokens_output)
            .fact("nano_usd", self.nano_usd)
            .fact("estimated", self.estimated);
        // Rare, and only told where it happened.
        let counts = [("hedges", self.hedges), ("continued", self.continued)];
        let record = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .fold(record, |record, (name, count)| record.fact(name, *count));
        let record = self.target.iter().fold(record, |record, target| record.fact("target", target.clone()));
        let record = self.shortened_to.iter().fold(record, |record, tokens| record.fact("shortened_to", *tokens));
        let record = self.class.iter().fold(record, |record, class| record.fact("class", *class));
        self.fault.iter().fold(record, |record, fault| record.fact("code", fault.code.to_string()))
    }
}
