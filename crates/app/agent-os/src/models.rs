//! The gateway's port of model calls bound to monitor and engine: who asks becomes a party, the body a call, and what goes wrong
//! an error in the client's own protocol.

use std::sync::Arc;

use agentos_api::models::{ModelBody, ModelCaller, ModelInfo, ModelOperation, ModelReply, ModelRequest, Models};
use agentos_authority::{GrantSet, Party, Program};
use agentos_base::{Ambient, Background, config::Config as Settings};
use agentos_dialer::{Reach, Tls};
use agentos_ledger::{Ledger, Payer};
use agentos_models::{
    Body, Engine, EngineOptions, ModelCall, Operation, Policy, Reply, SealedKeys, Upstream, UpstreamOptions, reply_of,
};
use agentos_monitor::{ModelStart, Monitor};
use agentos_router::Router;
use agentos_secrets::Secrets;
use agentos_store::Store;
use agentos_supervisor::Quarters;
use agentos_types::{Category, Code, Fault, Grant, Result, TaskId};
use async_trait::async_trait;

pub struct ServerModels {
    pub engine: Engine,
    pub monitor: Monitor,
    /// Who lives in which sandbox, with which grants.
    pub quarters: Quarters,
    pub ledger: Ledger,
    /// The grants of a token that names no models.
    every: Arc<GrantSet>,
}

/// A caller with what it may, what it works on and who pays.
struct Known {
    party: Party,
    task: Option<TaskId>,
    payer: Payer,
}

impl ServerModels {
    pub fn new(engine: Engine, monitor: Monitor, quarters: Quarters, ledger: Ledger) -> Result<Self> {
        let every = Arc::new(grants(vec!["*".to_owned()])?);
        Ok(Self { engine, monitor, quarters, ledger, every })
    }

    fn known(&self, caller: ModelCaller) -> Result<Known> {
        match caller {
            ModelCaller::Token { token, name, models, .. } => {
                let grants = if models.is_empty() { self.every.clone() } else { Arc::new(grants(models)?) };
                let payer = Payer { token: Some(token.clone()), ..Payer::default() };
                Ok(Known { party: Party::Program(Program { token, name, grants }), task: None, payer })
            }
            ModelCaller::Agent { agent, instance, task, step } => {
                let caller = self.quarters.caller(&agent, &instance)?;
                let payer = self.ledger.payer(&agent, task.clone());
                // The journal has the system call already whose effect this is.
                let task = task.filter(|_| step.is_none());
                Ok(Known { party: Party::Agent(caller), task, payer })
            }
        }
    }

    async fn answer(&self, caller: ModelCaller, request: ModelRequest) -> Result<Reply> {
        let Known { party, task, payer } = self.known(caller)?;
        let ModelRequest { operation, body, headers, request_id, idempotency_key, .. } = request;
        let operation = operation_of(operation);
        let mut call = ModelCall::read(operation, body, request_id.clone(), payer)
            .map_err(|refusal| Fault::new(Code::MODEL_REQUEST_INVALID, refusal.to_string()))?;
        (call.headers, call.idempotency_key) = (headers, idempotency_key);
        match self.monitor.model(&party, task.as_ref(), call).await? {
            ModelStart::Go(pass) => Ok(self.engine.run(pass).await),
            ModelStart::Recorded(answer) => Ok(self.engine.recorded(operation, &request_id, &answer)),
        }
    }
}

#[async_trait]
impl Models for ServerModels {
    async fn call(&self, caller: ModelCaller, request: ModelRequest) -> ModelReply {
        let (operation, request_id) = (operation_of(request.operation), request.request_id.clone());
        let answered = self.answer(caller, request).await;
        let Reply { status, headers, body } = answered.unwrap_or_else(|fault| reply_of(operation, &request_id, &fault));
        let body = match body {
            Body::Whole(body) => ModelBody::Whole(body),
            Body::Stream(events) => ModelBody::Stream(events),
        };
        ModelReply { status, headers, body }
    }

    async fn list(&self, caller: &ModelCaller) -> Result<Vec<ModelInfo>> {
        let known = self.known(caller.clone())?;
        let named = self.engine.names().into_iter();
        let visible = named.filter(|(id, _)| self.monitor.may_name(&known.party, id));
        Ok(visible.map(|(id, owned_by)| ModelInfo { id, owned_by }).collect())
    }

    /// A refusal that cannot be recorded is a refusal all the same.
    async fn refused(&self, caller: &ModelCaller, target: &str, code: Code) {
        let ModelCaller::Agent { agent, instance, .. } = caller else { return };
        let written = match self.quarters.caller(agent, instance) {
            Ok(caller) => self.monitor.capture_refused(&caller, target, code).await,
            // Its life is over; so are the counts of it.
            Err(_) => return,
        };
        if let Err(fault) = written {
            tracing::warn!(%fault, "a refusal at a provider's host is not recorded");
        }
    }
}

fn operation_of(operation: ModelOperation) -> Operation {
    match operation {
        ModelOperation::Chat => Operation::Chat,
        ModelOperation::Responses => Operation::Responses,
        ModelOperation::Embeddings => Operation::Embeddings,
        ModelOperation::Messages => Operation::Messages,
        ModelOperation::CountTokens => Operation::CountTokens,
    }
}

fn grants(resources: Vec<String>) -> Result<GrantSet> {
    GrantSet::compile(&[Grant { category: Category::Model, actions: vec!["call".into()], resources }])
}

/// The engine as the settings say, on the ways out of the dialer.
pub fn open_engine(config: &Settings, parts: EngineParts) -> Result<Engine> {
    let EngineParts { router, ledger, secrets, store, node, ambient, background } = parts;
    let dialer = crate::server::dialer_options(config)?;
    let upstream = Upstream::new(UpstreamOptions {
        reach: Reach::default(),
        tls: Tls::new(&dialer.extra_roots)?,
        private_exceptions: dialer.private_exceptions,
    });
    Ok(Engine::new(EngineOptions {
        routing: Arc::new(router),
        ledger,
        keys: Arc::new(SealedKeys::new(secrets)),
        upstream,
        store,
        node,
        ambient,
        background,
        policy: Policy {
            output_max: config.models_answer_tokens_max(),
            lowers_output: config.models_shorten_answers(),
            deadline: config.models_answer_timeout(),
        },
    }))
}

/// What an engine is made of.
pub struct EngineParts {
    pub router: Router,
    pub ledger: Ledger,
    pub secrets: Secrets,
    pub store: Store,
    pub node: String,
    pub ambient: Ambient,
    pub background: Background,
}
