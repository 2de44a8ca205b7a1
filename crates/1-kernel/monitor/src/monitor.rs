//! The one door, as one readable line of steps.

use std::sync::Arc;

use agentos_authority::{Authorized, Caller, Minter};
use agentos_base::{
    Ambient, names,
    redact::Redactor,
    trace::{Kind, Span, TraceContext},
};
use agentos_protocol::{Syscall, frame::CallError};
use agentos_store::Store;
use agentos_tasks::{Lease, NewStep, StepStart, Tasks};
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision, Phase},
    hex, json,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    Call, CallRequest, Executors,
    canonical::{Canonical, canonicalise, checked_step},
    class::class_of,
    rate::RateLimiter,
};

/// Characters of an error's message. Some quote what the worker sent, which may be a whole frame.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tasks: Tasks,
    ambient: Ambient,
    executors: Box<dyn Executors>,
    redactor: Redactor,
    rate: RateLimiter,
    minter: Minter,
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
    ) -> Self {
        let inner =
            Inner { store, tasks, ambient, executors, redactor, rate: RateLimiter::default(), minter: Minter::new() };
        Self { inner: Arc::new(inner) }
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
        if let Err(fault) = self.minter.authorize(caller, &canonical.demands, ()) {
            let record = self.refusal(caller, lease, &request, &canonical.shown, &fault);
            return self.refuse(Some(record), fault).await;
        }
        let step = NewStep {
            key: request.step,
            syscall: canonical.syscall.name(),
            safety: canonical.syscall.safety(),
            request_hash: request_hash(&canonical.syscall)?,
        };
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
                this.redactor.clean_json(&mut result);
                this.tasks.finish_step(tx, &lease, &key, Ok(&result))?;
                tx.record(record.phase(Phase::Fact, Decision::Succeeded));
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
        let mut result = self.executors.outward(call).await;
        if let Ok(value) = &mut result {
            self.redactor.clean_json(value);
        }
        self.settle(lease, key, record, result).await
    }

    /// Journals and records what came of an effect. The record is written even if the lease is lost meanwhile: it happened.
    async fn settle(
        self: Arc<Self>,
        lease: Lease,
        key: String,
        record: AuditEvent,
        result: Result<Value>,
    ) -> Result<Value> {
        let this = self.clone();
        self.store
            .write(move |tx| {
                let record = this.stamped(record);
                tx.record(match &result {
                    Ok(_) => record.phase(Phase::Outcome, Decision::Succeeded),
                    Err(fault) => record.phase(Phase::Outcome, Decision::Failed).fact("code", fault.code.to_string()),
                });
                // The inner error is returned as a value, so that the transaction with the record commits.
                Ok(this.tasks.finish_step(tx, &lease, &key, result.as_ref()).and(result))
            })
            .await?
    }

    /// Makes the proof that executors take. The grants are asked again, here, where the proof is made.
    fn mint(&self, decided: Decided, traceparent: String) -> Result<Authorized<Call>> {
        let Decided { caller, lease, step, canonical } = decided;
        let call = Call { syscall: canonical.syscall, task: lease.task, step: step.key, traceparent };
        self.minter.authorize(&caller, &canonical.demands, call)
    }

    /// What the span of a refusal will need, while the request is still there; nothing if nobody records it.
    fn asked(&self, lease: &Lease, request: &CallRequest) -> Option<Asked> {
        let attempt = self.ambient.tracer().wanted(&lease.traceparent)?;
        Some(Asked {
            attempt,
            syscall: known_name(&request.syscall),
            step: request.step.clone(),
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
            .correlation(request.step.chars().take(agentos_types::limits::STEP_KEY_BYTES_MAX).collect::<String>())
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
    fn stamped(&self, record: AuditEvent) -> AuditEvent {
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
        }
        Err(fault)
    }
}

/// The name comes from the worker: unknown ones are told as such, not as they were spelled.
fn known_name(syscall: &str) -> &'static str {
    let known = agentos_protocol::syscall::TABLE.iter().find(|entry| entry.name == syscall);
    known.map_or("unknown", |entry| entry.name)
}

/// What makes two calls the same: name and canonical arguments.
fn request_hash(syscall: &Syscall) -> Result<String> {
    let value = serde_json::to_value(syscall).map_err(Fault::internal)?;
    Ok(hex::encode(&Sha256::digest(json::canonical(&value))))
}

fn clipped(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    message
}
