//! The door for calls of models: who asks, for which model, and the two records that frame each call.
//!
//! The intent is on its way to the log, and on the embedded database in a file, before the provider is asked; it is on the disk
//! before the first byte of an answer leaves, by itself or, where an answer is whole, by the sync of the outcome. The outcome is
//! before the answer, or the last event of a stream, leaves. Nothing of a prompt or an answer stands in
//! a record; its hash does. A call of an agent at work on one task is a step of it, whose answer is kept and given again
//! after a crash. Not here: protocols, providers, prices, budgets; the engine above has them.

mod ordinals;
mod outcome;
mod pass;

use std::sync::Arc;

use agentos_authority::{Demand, Party};
use agentos_store::Tx;
use agentos_tasks::{Lease, NewStep, StepStart};
use agentos_types::{
    Action, Actor, Category, Code, Fault, RequestId, Result, TaskId,
    audit::{AuditEvent, Decision, Phase},
    hex,
    task::Safety,
};
use serde_json::Value;

pub(crate) use self::ordinals::Ordinals;
pub use self::{
    outcome::{Beside, ModelEnd, ModelOutcome},
    pass::{ModelPass, ModelRecord, SoFar},
};
use crate::{
    Monitor,
    monitor::{Inner, clipped},
};

/// As the audit log and the journal call it.
const ACTION: &str = "model.call";
/// Characters of a model's name in a record. The grammar of grants has shorter ones.
const MODEL_CHARS_MAX: usize = 256;

/// A request for a model that says itself what it is, so that what is decided and what is carried out cannot differ.
pub trait ModelRequest: Send + 'static {
    fn told(&self) -> Told<'_>;
}

/// What the door reads of a request.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Which of the protocols' operations: `chat`, `responses`, `messages`, `embeddings`, `count-tokens`.
    pub operation: &'static str,
    /// As the client wrote it: an alias, `PROVIDER/MODEL`, or a bare name.
    pub model: &'a str,
    pub request_id: &'a RequestId,
    /// Of the operation and the body; the same request has the same one.
    pub request_sha256: [u8; 32],
    pub bytes: u64,
    pub is_stream: bool,
}

/// What becomes of a call that was allowed.
#[derive(Debug)]
pub enum ModelStart<T> {
    /// The task has asked this before, and this was the answer.
    Recorded(Value),
    Go(Box<ModelPass<T>>),
}

impl Monitor {
    /// Identify ▸ rate ▸ grants ▸ intent. `task` is the one that the agent works on, if it is exactly one.
    pub async fn model<T: ModelRequest>(
        &self,
        party: &Party,
        task: Option<&TaskId>,
        request: T,
    ) -> Result<ModelStart<T>> {
        let inner = &self.inner;
        inner.clone().open_model(party, task, request).await.map_err(|mut fault| {
            fault.message = clipped(inner.redactor.clean(&fault.message));
            fault
        })
    }

    /// Whether a call of this model would be granted. For lists, which show nobody what it may not ask for.
    pub fn may_name(&self, party: &Party, model: &str) -> bool {
        demand_of(model).and_then(|demand| self.inner.minter.authorize_party(party, &demand, ())).is_ok()
    }
}

impl Inner {
    async fn open_model<T: ModelRequest>(
        self: Arc<Self>,
        party: &Party,
        task: Option<&TaskId>,
        request: T,
    ) -> Result<ModelStart<T>> {
        let record = self.model_event(party, task, &request.told());
        if let Err(refused) = self.decide_model(party, request.told().model) {
            let (fault, is_told) = *refused;
            let record = record.decision(Decision::Denied).fact("code", fault.code.to_string());
            if is_told {
                self.store.record(record).await?;
            }
            return Err(fault);
        }
        let intent = self.stamped(record.clone()).phase(Phase::Intent, Decision::Allowed);
        let told = request.told();
        let (step, intent) = match (party, task) {
            (Party::Agent(caller), Some(task)) => {
                let (this, agent, task) = (self.clone(), caller.agent.clone(), task.clone());
                let hash = told.request_sha256;
                let started = self.store.write(move |tx| this.begin_model_step(tx, &agent, &task, &hash, intent)).await;
                match started? {
                    (_, StepStart::Recorded(answer)) => return Ok(ModelStart::Recorded(answer)),
                    (step, StepStart::Fresh { .. }) => (Some(step), None),
                }
            }
            _ => (None, Some(intent)),
        };
        // Made here, where it is spent; the grants are asked again.
        let demand = demand_of(told.model)?;
        let call = self.minter.authorize_party(party, &demand, request)?;
        let intent = intent.map(|intent| self.store.note(vec![intent])).transpose()?;
        let record = ModelRecord::new(self, intent, record, step);
        Ok(ModelStart::Go(Box::new(ModelPass { call, record })))
    }

    /// The fault, and whether it is to be recorded: a flood must not fill the log.
    fn decide_model(&self, party: &Party, model: &str) -> Result<(), Box<(Fault, bool)>> {
        if let Party::Agent(caller) = party
            && let Err(limited) = self.models.rate.take(&caller.agent, caller.calls_per_minute, self.ambient.now())
        {
            let text = format!("more than {} model calls a minute (limits.calls_per_minute)", caller.calls_per_minute);
            return Err(Box::new((Fault::new(Code::RATE_LIMITED, text).retry_after(limited.wait), limited.first)));
        }
        let demand = demand_of(model).map_err(|fault| Box::new((fault, true)))?;
        self.minter.authorize_party(party, &demand, ()).map(drop).map_err(|fault| Box::new((fault, true)))
    }

    fn begin_model_step(
        &self,
        tx: &mut Tx<'_>,
        agent: &agentos_types::AgentName,
        task: &TaskId,
        hash: &[u8; 32],
        intent: AuditEvent,
    ) -> Result<((Lease, String), StepStart)> {
        let lease = self.tasks.held_lease(tx, agent, task)?.ok_or_else(|| {
            Fault::new(Code::LEASE_LOST, format!("{task} is not at work here any more")).hint("stop work on the task")
        })?;
        let short = hex::encode(hash.get(..8).unwrap_or_default());
        let ordinal = self.models.ordinals.next(&lease, hash, self.ambient.now());
        let step = NewStep {
            key: format!("model-{short}-{ordinal}"),
            syscall: ACTION,
            // Reading: asked again it may cost again, which is why an answer that is recorded is never asked for again.
            safety: Safety::Idempotent,
            request_hash: hex::encode(hash),
        };
        let start = self.tasks.begin_step(tx, &lease, &step)?;
        if let StepStart::Fresh { .. } = start {
            tx.record(intent);
        }
        Ok(((lease, step.key), start))
    }

    fn model_event(&self, party: &Party, task: Option<&TaskId>, told: &Told<'_>) -> AuditEvent {
        let actor = match party {
            Party::Agent(caller) => {
                Actor::Agent { agent: caller.agent.clone(), instance: caller.instance.clone(), task: task.cloned() }
            }
            Party::Program(program) => Actor::Token { token: program.token.clone(), name: program.name.clone() },
        };
        let shown: String = told.model.chars().filter(|c| !c.is_control()).take(MODEL_CHARS_MAX).collect();
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), actor, ACTION, self.redactor.clean(&shown))
            .task(task.cloned())
            .correlation(told.request_id.to_string())
            .fact("operation", told.operation)
            .fact("request_sha256", hex::encode(&told.request_sha256))
            .fact("bytes", told.bytes)
            .fact("stream", told.is_stream)
    }
}

/// What the door remembers about models.
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// Apart from that of calls: thinking must not use up what an agent needs to act.
    rate: crate::rate::RateLimiter,
    ordinals: Ordinals,
}

fn demand_of(model: &str) -> Result<Demand> {
    let action = Action::of(Category::Model, "call").ok_or_else(|| Fault::internal("no action model:call"))?;
    Ok(Demand { action, resource: model.to_owned() })
}
