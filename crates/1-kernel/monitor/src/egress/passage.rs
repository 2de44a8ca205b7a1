//! The proof that one connection or one request was granted, and the record of what came of it.

use std::sync::Arc;

use agentos_authority::Authorized;
use agentos_failpoint::{Point, hit};
use agentos_protocol::egress::WishEnd;
use agentos_types::audit::{AuditEvent, Decision, Phase};
use tokio::time::{Duration, Instant, sleep};

use super::Exit;
use crate::monitor::{HOLD_FIRST, HOLD_MAX, Inner, may_pass};

/// A way out that was granted once. Its intent is durable; it is spent by telling how it ended.
#[must_use = "what came of a passage has to be recorded"]
pub struct Passage {
    pub(super) exit: Authorized<Exit>,
    /// Of the intent; the outcome says the same and what came of it.
    pub(super) record: AuditEvent,
    pub(super) inner: Arc<Inner>,
}

/// What came of a passage.
#[derive(Clone, Debug)]
pub struct Closing {
    /// From the sandbox to the target.
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub duration_ms: u64,
    pub end: WishEnd,
}

impl Passage {
    /// What may be done, for whoever puts the secrets in.
    pub fn exit(&self) -> &Authorized<Exit> {
        &self.exit
    }

    /// Records the outcome. While the log cannot take it, it is held for as long as the result of a call would be: what
    /// went out cannot be taken back.
    pub async fn close(self, closing: Closing) {
        let outcome = outcome(self.record, &closing);
        settle(&self.inner, self.exit, outcome).await;
    }

    /// Nobody can tell any more how it ended or what went through: the proxy that carried it is gone.
    pub async fn lose(self) {
        let outcome = self.record.phase(Phase::Outcome, Decision::Failed).fact("end", "proxy-lost");
        settle(&self.inner, self.exit, outcome).await;
    }
}

/// Spends the proof.
async fn settle(inner: &Inner, exit: Authorized<Exit>, outcome: AuditEvent) {
    let target = exit.into_inner().target;
    let (give_up_at, mut wait) = (Instant::now() + inner.hold, HOLD_FIRST);
    loop {
        let stamped = inner.stamped(outcome.clone());
        match inner.store.record(stamped).await {
            Ok(()) => break,
            Err(fault) if may_pass(fault.code) && Instant::now() + wait < give_up_at => {
                tracing::warn!(%target, %fault, "the end of a connection is held until the log takes it");
            }
            Err(fault) => {
                tracing::error!(%target, %fault, "the end of a connection was not recorded");
                return;
            }
        }
        // Shortened by chance, so that not everything that waited comes back at the same instant.
        let longest_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        sleep(Duration::from_millis(longest_ms / 2 + inner.ambient.random_up_to(longest_ms / 2))).await;
        wait = (wait * 2).min(HOLD_MAX);
    }
    hit(Point::MonitorEgressOutcomeDurable);
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passage").field("exit", self.exit.get()).finish_non_exhaustive()
    }
}

fn outcome(record: AuditEvent, closing: &Closing) -> AuditEvent {
    let record = record
        .fact("bytes_out", closing.bytes_out)
        .fact("bytes_in", closing.bytes_in)
        .fact("duration_ms", closing.duration_ms);
    let failed = |record: AuditEvent| record.phase(Phase::Outcome, Decision::Failed);
    match &closing.end {
        WishEnd::Done { status } => {
            let record = record.phase(Phase::Outcome, Decision::Succeeded).fact("end", "done");
            status.iter().fold(record, |record, status| record.fact("status", *status))
        }
        WishEnd::Unreachable { code, address } => {
            let record = failed(record).fact("end", "unreachable").fact("code", code.clone());
            // Where a name led to is what a reviewer of a rebinding wants to know.
            address.iter().fold(record, |record, address| record.fact("address", address.to_string()))
        }
        WishEnd::Broken => failed(record).fact("end", "broken"),
        WishEnd::Limited { limit } => failed(record).fact("end", "limited").fact("limit", word(limit)),
        WishEnd::Detached => failed(record).fact("end", "detached"),
    }
}

/// The name of a refusal as it crosses the socket.
pub(super) fn word(refusal: &agentos_protocol::egress::Refusal) -> String {
    serde_json::to_value(refusal).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
