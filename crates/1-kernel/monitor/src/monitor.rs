//! The one door, as one readable line of steps.

use std::{sync::Arc, time::Duration};

use agentos_authority::{Authorized, Caller, Minter};
use agentos_base::{
    Ambient, names,
    redact::Redactor,
    trace::{Kind, Span, TraceContext},
};
use agentos_failpoint::{Point, hit};
use agentos_protocol::{Syscall, frame::CallError};
use agentos_store::{Store, Tx};
use agentos_tasks::{Lease, NewStep, StepStart, Tasks};
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision, Phase},
    hex, json,
    limits::STEP_KEY_BYTES_MAX,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::{
    Bounds, Call, CallRequest, Executors, Rules,
    canonical::{Canonical, canonicalise, checked_step},
    class::class_of,
    egress::Egress,
    model::Models,
    rate::RateLimiter,
};

/// Characters of an error's message. Some quote what the worker sent, which may be a whole frame.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Pauses between two tries to write a result: the first, doubled up to the last.
pub(crate) const HOLD_FIRST: Duration = Duration::from_millis(100);
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) tasks: Tasks,
    pub(crate) ambient: Ambient,
    executors: Box<dyn Executors>,
    pub(crate) redactor: Redactor,
    rate: RateLimiter,
    pub(crate) minter: Minter,
    bounds: Bounds,
    pub(crate) egress: Egress,
    pub(crate) models: Models,
    /// How long a result is held while the store cannot take it.
    pub(crate) hold: Duration,
}

/// What an effect came to, until it is written.
struct Outcome {
    lease: Lease,
    key: String,
    record: AuditEvent,
    result: Result<Value>,
}

/// A call that passed every check and waits for its record.
struct Decided {
    caller: Caller,
    lease: Lease,
    step: NewStep,
    canonical: Canonical,
}

/// A call as it came, for the span of its refusal.
struct Asked {
    attempt: TraceContext,
    syscall: &'static str,
    step: String,
    at: Timestamp,
}

impl Monitor {
    pub fn new(
        store: Store,
        tasks: Tasks,
        ambient: Ambient,
        executors: Box<dyn Executors>,
        redactor: Redactor,
        rules: Rules,
    ) -> Self {
        let Rules { bounds, egress } = rules;
        let hold = tasks.options().lease;
        // Calls and connections are bound by the same domains.
        let (rate, minter) = (RateLimiter::default(), Minter::new().within(egress.allowed_domains));
        let egress = Egress::new(egress.private_exceptions);
        Self {
            inner: Arc::new(Inner {
                store,
                tasks,
                ambient,
                executors,
                redactor,
                rate,
                minter,
                bounds,
                egress,
                models: Models::default(),
                hold,
            }),
        }
    }

    /// Another patience than one lease, after which somebody else may have the task. Nobody else has a handle yet; one that
    /// somebody had would keep what it has.
    pub fn holding(self, hold: Duration) -> Self {
        let inner = Arc::try_unwrap(self.inner).map(|inner| Arc::new(Inner { hold, ..inner }));
        Self { inner: inner.unwrap_or_else(|shared| shared) }
    }

    /// One system call. The answer is returned only after its outcome is durable.
    pub async fn call(&self, caller: &Caller, lease: &Lease, request: CallRequest) -> Result<Value, CallError> {
        let asked = self.inner.asked(lease, &request);
        let outcome = match self.inner.decide(caller, lease, request).await {
            Ok(decided) if decided.canonical.local => self.inner.clone().run_local(decided).await,
            Ok(decided) => self.inner.clone().run_outward(decided).await,
            Err(fault) => {
                self.inner.trace_refusal(lease, asked, &fault);
                Err(fault)
            }
        };
        outcome.map_err(|mut fault| {
            if let Some(detail) = &fault.detail {
                tracing::warn!(agent = %caller.agent, task = %lease.task, code = %fault.code, detail, "call failed");
            }
            fault.message = clipped(self.inner.redactor.clean(&fault.message));
            let class = class_of(&fault);
            CallError::new(&fault, class)
        })
    }
}

impl Inner {
    /// Identify, limit, parse, spell, check grants. A refusal is itself a record.
    async fn decide(&self, caller: &Caller, lease: &Lease, mut request: CallRequest) -> Result<Decided> {
        if lease.agent != caller.agent {
            let fault = Fault::new(Code::TASK_UNKNOWN_TO_WORKER, "the task belongs to another agent")
                .detail(format!("agent {} used a lease of {}", caller.agent, lease.agent));
            let record = self.refusal(caller, lease, &request, "-", &fault);
            return self.refuse(Some(record), fault).await;
        }
        if let Err(limited) = self.rate.take(&caller.agent, caller.calls_per_minute, self.ambient.now()) {
            let fault = Fault::new(
                Code::RATE_LIMITED,
                format!("more than {} calls a minute (limits.calls_per_minute)", caller.calls_per_minute),
            )
            .retry_after(limited.wait);
            let record = limited.first.then(|| self.refusal(caller, lease, &request, "-", &fault));
            return self.refuse(record, fault).await;
        }
        let args = std::mem::take(&mut request.args);
        let parsed = checked_step(&request.step).and_then(|()| Syscall::parse(&request.syscall, args));
        let canonical = match parsed.and_then(canonicalise) {
            Ok(canonical) => canonical,
            Err(fault) => {
                let record = self.refusal(caller, lease, &request, "-", &fault);
                return self.refuse(Some(record), fault).await;
            }
        };
        // Asked here for the refusal's record; the proof itself is minted where it is spent.
        let granted = self.minter.authorize(caller, &canonical.demands, ());
        if let Err(fault) = granted.and_then(|_| self.bounds.check(&canonical.demands)) {
            let record = self.refusal(caller, lease, &request, &canonical.shown, &fault);
            return self.refuse(Some(record), fault).await;
        }
        let step = NewStep {
            key: request.step,
            syscall: canonical.syscall.name(),
            safety: canonical.syscall.safety(),
            request_hash: request_hash(&canonical.syscall)?,
        };
        hit(Point::MonitorCallDecided);
        Ok(Decided { caller: caller.clone(), lease: lease.clone(), step, canonical })
    }

    /// Our own store: step, effect and record are one transaction, so the effect happens exactly once.
    async fn run_local(self: Arc<Self>, decided: Decided) -> Result<Value> {
        let this = self.clone();
        let record = self.record_of(&decided);
        let outcome = self
            .store
            .write(move |tx| {
                let traceparent = match this.tasks.begin_step(tx, &decided.lease, &decided.step)? {
                    StepStart::Recorded(result) => return Ok(result),
                    StepStart::Fresh { traceparent, .. } => traceparent,
                };
                let record = this.record_of(&decided);
                let (lease, key) = (decided.lease.clone(), decided.step.key.clone());
                let call = this.mint(decided, traceparent)?;
                let mut result = this.executors.local(tx, call)?;
                hit(Point::MonitorLocalActed);
                this.redactor.clean_json(&mut result);
                this.tasks.finish_step(tx, &lease, &key, Ok(&result))?;
                tx.record(record.phase(Phase::Fact, Decision::Succeeded));
                hit(Point::MonitorLocalRecorded);
                Ok(result)
            })
            .await;
        match outcome {
            Err(fault) => self.not_done(record, fault).await,
            done => done,
        }
    }

    /// The world: the intent is durable before the effect, the outcome before the answer.
    async fn run_outward(self: Arc<Self>, decided: Decided) -> Result<Value> {
        let record = self.record_of(&decided);
        let (lease, key) = (decided.lease.clone(), decided.step.key.clone());
        let (this, intent_lease, intent_step) = (self.clone(), decided.lease.clone(), decided.step.clone());
        let intent = record.clone().phase(Phase::Intent, Decision::Allowed);
        let start = self
            .store
            .write(move |tx| {
                let start = this.tasks.begin_step(tx, &intent_lease, &intent_step)?;
                if let StepStart::Fresh { .. } = start {
                    tx.record(intent);
                    hit(Point::MonitorIntentRecorded);
                }
                Ok(start)
            })
            .await;
        let traceparent = match start {
            Ok(StepStart::Recorded(result)) => return Ok(result),
            Ok(StepStart::Fresh { traceparent, .. }) => traceparent,
            Err(fault) => return self.not_done(record, fault).await,
        };
        let call = self.mint(decided, traceparent)?;
        hit(Point::MonitorIntentDurable);
        let mut result = self.executors.outward(call).await;
        hit(Point::MonitorEffectReturned);
        if let Ok(value) = &mut result {
            self.redactor.clean_json(value);
        }
        let settled = self.settle(lease, key, record, result).await;
        hit(Point::MonitorOutcomeDurable);
        settled
    }

    /// Journals and records what came of an effect. While the store is away the result is held and written again: what
    /// happened outside cannot be taken back, and a result that is lost would leave the step in doubt.
    async fn settle(
        self: Arc<Self>,
        lease: Lease,
        key: String,
        record: AuditEvent,
        result: Result<Value>,
    ) -> Result<Value> {
        let outcome = Arc::new(Outcome { lease, key, record, result });
        let (give_up_at, mut wait) = (Instant::now() + self.hold, HOLD_FIRST);
        let mut again = false;
        loop {
            let (this, held) = (self.clone(), outcome.clone());
            match self.store.write(move |tx| this.write_outcome(tx, &held, again)).await {
                Err(fault) if may_pass(fault.code) && Instant::now() + wait < give_up_at => {
                    tracing::warn!(task = %outcome.lease.task, step = outcome.key, %fault, "a result is held until the store takes it");
                }
                written => return written?,
            }
            // Shortened by chance, so that not everything that waited comes back at the same instant.
            let longest_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            sleep(Duration::from_millis(longest_ms / 2 + self.ambient.random_up_to(longest_ms / 2))).await;
            (wait, again) = ((wait * 2).min(HOLD_MAX), true);
        }
    }

    /// The record is written even if the lease is lost meanwhile: it happened. The inner error is returned as a value, so
    /// that the transaction with the record commits.
    fn write_outcome(&self, tx: &mut Tx<'_>, held: &Outcome, again: bool) -> Result<Result<Value>> {
        let Outcome { lease, key, record, result } = held;
        // The answer to the last try may have been lost, and not the try itself.
        if again && self.tasks.is_step_settled(tx, lease, key)? {
            return Ok(result.clone());
        }
        let record = self.stamped(record.clone());
        tx.record(match result {
            Ok(_) => record.phase(Phase::Outcome, Decision::Succeeded),
            Err(fault) => record.phase(Phase::Outcome, Decision::Failed).fact("code", fault.code.to_string()),
        });
        let finished = self.tasks.finish_step(tx, lease, key, result.as_ref()).and_then(|()| result.clone());
        hit(Point::MonitorOutcomeRecorded);
        Ok(finished)
    }

    /// Makes the proof that executors take. The grants are asked again, here, where the proof is made.
    fn mint(&self, decided: Decided, traceparent: String) -> Result<Authorized<Call>> {
        let Decided { caller, lease, step, canonical } = decided;
        let call = Call { syscall: canonical.syscall, lease, step: step.key, traceparent };
        self.minter.authorize(&caller, &canonical.demands, call)
    }

    /// What the span of a refusal will need, while the request is still there; nothing if nobody records it.
    fn asked(&self, lease: &Lease, request: &CallRequest) -> Option<Asked> {
        let attempt = self.ambient.tracer().wanted(&lease.traceparent)?;
        Some(Asked {
            attempt,
            syscall: known_name(&request.syscall),
            step: shown_step(request),
            at: self.ambient.now(),
        })
    }

    /// A call that was refused has no step in the journal; its record is in the audit log by now.
    fn trace_refusal(&self, lease: &Lease, asked: Option<Asked>, fault: &Fault) {
        let Some(Asked { attempt, syscall, step, at }) = asked else { return };
        let name = format!("{} {syscall}", names::spans::EXECUTE_TOOL);
        let span = Span::new(name, Kind::Internal, attempt.child(&self.ambient), at)
            .parent(Some(attempt))
            .ended(self.ambient.now())
            .text(names::GEN_AI_OPERATION_NAME, "execute_tool")
            .text(names::GEN_AI_TOOL_NAME, syscall)
            .text(names::GEN_AI_TOOL_TYPE, "function")
            .text(names::GEN_AI_TOOL_CALL_ID, step)
            .text(names::TASK_ID, lease.task.to_string())
            .text(names::DECISION, "denied")
            .failed(Some(fault.code.to_string()));
        self.ambient.tracer().record(span);
    }

    /// What every record of the call says, whatever its phase.
    fn record_of(&self, decided: &Decided) -> AuditEvent {
        let resource = self.redactor.clean(&decided.canonical.shown);
        self.event(&decided.caller, &decided.lease, decided.step.syscall, resource)
            .correlation(decided.step.key.clone())
            .fact("request_sha256", decided.step.request_hash.clone())
    }

    fn refusal(&self, caller: &Caller, lease: &Lease, request: &CallRequest, shown: &str, fault: &Fault) -> AuditEvent {
        self.event(caller, lease, known_name(&request.syscall), self.redactor.clean(shown))
            .correlation(shown_step(request))
            .decision(Decision::Denied)
            .fact("code", fault.code.to_string())
    }

    fn event(&self, caller: &Caller, lease: &Lease, action: &str, resource: String) -> AuditEvent {
        let actor = Actor::Agent {
            agent: caller.agent.clone(),
            instance: caller.instance.clone(),
            task: Some(lease.task.clone()),
        };
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), actor, action, resource)
            .task(Some(lease.task.clone()))
    }

    /// The record as of now, under an id of its own: intent and outcome are two events at two instants.
    pub(crate) fn stamped(&self, record: AuditEvent) -> AuditEvent {
        AuditEvent { id: self.ambient.event_id(), at: self.ambient.now(), ..record }
    }

    /// Allowed and all the same not done: the lease is lost, the step is in doubt, a value changed meanwhile.
    async fn not_done<T>(&self, record: AuditEvent, fault: Fault) -> Result<T> {
        let record = self.stamped(record).phase(Phase::Fact, Decision::Failed).fact("code", fault.code.to_string());
        self.refuse(Some(record), fault).await
    }

    async fn refuse<T>(&self, record: Option<AuditEvent>, fault: Fault) -> Result<T> {
        if let Some(record) = record {
            self.store.record(record).await?;
            hit(Point::MonitorRefusalRecorded);
        }
        Err(fault)
    }
}

/// The step of a call that may be refused for it: a worker may have sent a whole frame of it.
fn shown_step(request: &CallRequest) -> String {
    request.step.chars().take(STEP_KEY_BYTES_MAX).collect()
}

/// The name comes from the worker: unknown ones are told as such, not as they were spelled.
fn known_name(syscall: &str) -> &'static str {
    let known = agentos_protocol::syscall::TABLE.iter().find(|entry| entry.name == syscall);
    known.map_or("unknown", |entry| entry.name)
}

/// The store may take it later.
pub(crate) fn may_pass(code: Code) -> bool {
    [Code::STORE_UNAVAILABLE, Code::STORE_BUSY, Code::AUDIT_UNAVAILABLE].contains(&code)
}

/// What makes two calls the same: name and canonical arguments.
fn request_hash(syscall: &Syscall) -> Result<String> {
    let value = serde_json::to_value(syscall).map_err(Fault::internal)?;
    Ok(hex::encode(&Sha256::digest(json::canonical(&value))))
}

pub(crate) fn clipped(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    message
}
