//! One allowed call: the proof for the engine, and its record, which is closed by telling how the call ended. One that is dropped
//! is recorded as abandoned.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_authority::{Authorized, Party};
use agentos_failpoint::{Point, hit};
use agentos_store::{Noted, Tx};
use agentos_tasks::Lease;
use agentos_types::{Code, Fault, Result, audit::AuditEvent};
use tokio::time::{Instant, sleep};

use super::{ModelEnd, ModelOutcome};
use crate::monitor::{HOLD_FIRST, HOLD_MAX, Inner, may_pass};

/// What has come of a call until now, for the record of one that nobody closes.
pub type SoFar = Arc<Mutex<ModelOutcome>>;

/// What is spent by asking a provider and closed by telling what came of it.
#[derive(Debug)]
#[must_use = "what came of a call has to be recorded"]
pub struct ModelPass<T> {
    pub call: Authorized<T, Party>,
    pub record: ModelRecord,
}

/// The two records of a call.
#[must_use = "a record that is dropped says that the call was abandoned"]
pub struct ModelRecord {
    inner: Arc<Inner>,
    /// On its way to the log since before the provider is asked. `None` once it is durable.
    intent: Option<Noted>,
    /// `None` once it is closed.
    open: Option<Open>,
    so_far: SoFar,
}

#[derive(Clone)]
struct Open {
    record: AuditEvent,
    /// Of an agent at work on a task.
    step: Option<(Lease, String)>,
}

impl ModelRecord {
    pub(super) fn new(
        inner: Arc<Inner>,
        intent: Option<Noted>,
        record: AuditEvent,
        step: Option<(Lease, String)>,
    ) -> Self {
        let so_far = Arc::new(Mutex::new(ModelOutcome::new(ModelEnd::Abandoned, 0)));
        Self { inner, intent, open: Some(Open { record, step }), so_far }
    }

    /// To be kept up to date by whoever carries the call out.
    pub fn so_far(&self) -> SoFar {
        self.so_far.clone()
    }

    /// The call is a step of a task, so that its answer is worth keeping.
    pub fn is_step(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.step.is_some())
    }

    /// Nothing of a secret stands in it, so that it may be kept as it is.
    pub fn may_be_kept(&self, text: &str) -> bool {
        !self.inner.redactor.would_mask(text)
    }

    /// Does the work beside the intent. One that is in a file already outlives this process, and the disk has it with the outcome, or
    /// before the first byte of an answer leaves: [`Self::close`] or [`Self::begun`], one of which has to come before anything does.
    /// One that only waits for its commit may still be refused: then the work is stopped and its answer withheld.
    pub async fn beside<R>(&mut self, work: impl Future<Output = R>) -> Result<R> {
        if self.intent.as_ref().is_none_or(Noted::outlives_process) {
            return Ok(work.await);
        }
        let mut work = pin!(work);
        let begun = self.begun();
        let mut begun = pin!(begun);
        let (intent, answer) = tokio::select! {
            biased;
            intent = &mut begun => (intent, None),
            answer = &mut work => (begun.await, Some(answer)),
        };
        intent?;
        match answer {
            Some(answer) => Ok(answer),
            None => Ok(work.await),
        }
    }

    /// The intent is durable when it returns: before the first byte of an answer whose outcome nobody knows yet.
    pub async fn begun(&mut self) -> Result<()> {
        let Some(intent) = self.intent.take() else { return Ok(()) };
        let outcome = durable(intent).await;
        if outcome.is_err() {
            // There is nothing in the log that an outcome could belong to.
            self.open = None;
        }
        outcome
    }

    /// Durable when it returns. While the log cannot take it, it is held for as long as the result of a call would be. A fault
    /// means that the answer must not leave.
    pub async fn close(mut self, outcome: ModelOutcome) -> Result<()> {
        let Some(open) = self.open.take() else { return Err(Fault::internal("a model call was closed twice")) };
        close(self.inner.clone(), self.intent.take(), open, outcome).await
    }
}

impl Drop for ModelRecord {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (inner, intent, so_far) = (self.inner.clone(), self.intent.take(), self.so_far.clone());
        // Outside of a runtime the server is ending, and its next start finds the intent without an outcome.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // Read here, after everything that was dropped with the record has said its part.
            let mut outcome = so_far.lock().unwrap_or_else(PoisonError::into_inner).clone();
            outcome.end = ModelEnd::Abandoned;
            outcome.fault = Some(Fault::new(Code::CONNECTION_LOST, "the caller went away before the answer"));
            if let Err(fault) = close(inner, intent, open, outcome).await {
                tracing::warn!(%fault, detail = fault.detail, "the end of a model call was not recorded");
            }
        });
    }
}

async fn durable(intent: Noted) -> Result<()> {
    intent.durable().await?;
    hit(Point::MonitorModelIntentDurable);
    Ok(())
}

async fn close(inner: Arc<Inner>, mut intent: Option<Noted>, open: Open, mut outcome: ModelOutcome) -> Result<()> {
    // Behind a refused intent there is nothing to write. One that is in its file is before the outcome there, and the sync of
    // that is its own.
    if let Some(intent) = intent.take_if(|intent| !intent.outlives_process()) {
        durable(intent).await?;
    }
    if let Some(answer) = &mut outcome.answer {
        inner.redactor.clean_json(answer);
    }
    let outcome = Arc::new(outcome);
    let (give_up_at, mut wait) = (Instant::now() + inner.hold, HOLD_FIRST);
    let mut again = false;
    loop {
        match inner.write_model_end(&open, &outcome, again).await {
            Err(fault) if may_pass(fault.code) && Instant::now() + wait < give_up_at => {
                tracing::warn!(%fault, "the end of a model call is held until the log takes it");
            }
            written => {
                if let (Ok(_), Some(intent)) = (&written, intent) {
                    durable(intent).await?;
                }
                if written.is_ok() {
                    hit(Point::MonitorModelOutcomeDurable);
                }
                return written?;
            }
        }
        // Shortened by chance, so that not everything that waited comes back at the same instant.
        let longest_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        sleep(Duration::from_millis(longest_ms / 2 + inner.ambient.random_up_to(longest_ms / 2))).await;
        (wait, again) = ((wait * 2).min(HOLD_MAX), true);
    }
}

impl Inner {
    /// The inner error of a step is a value, so that the record commits whatever became of the lease: it happened.
    async fn write_model_end(
        self: &Arc<Self>,
        open: &Open,
        outcome: &Arc<ModelOutcome>,
        again: bool,
    ) -> Result<Result<()>> {
        let Open { record, step } = open.clone();
        let ended = outcome.record(self.stamped(record));
        if step.is_none() && outcome.beside.is_empty() {
            return self.store.record(ended).await.map(Ok);
        }
        let (this, outcome) = (self.clone(), outcome.clone());
        let write = move |tx: &mut Tx<'_>| {
            // The answer to the last try may have been lost, and not the try itself.
            if again
                && let Some((lease, key)) = &step
                && this.tasks.is_step_settled(tx, lease, key)?
            {
                return Ok(Ok(()));
            }
            tx.record(ended);
            hit(Point::MonitorModelOutcomeRecorded);
            outcome.beside.iter().try_for_each(|beside| beside.write(tx))?;
            let Some((lease, key)) = step else { return Ok(Ok(())) };
            let unanswered = || Fault::new(Code::CONNECTION_LOST, "the model gave no answer");
            let result = match (&outcome.answer, &outcome.fault) {
                (Some(answer), _) => Ok(answer.clone()),
                (None, fault) => Err(fault.clone().unwrap_or_else(unanswered)),
            };
            Ok(this.tasks.finish_step(tx, &lease, &key, result.as_ref()))
        };
        self.store.write(write).await
    }
}

impl std::fmt::Debug for ModelRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let correlation = self.open.as_ref().and_then(|open| open.record.correlation.clone());
        f.debug_struct("ModelRecord").field("correlation", &correlation).finish_non_exhaustive()
    }
}
