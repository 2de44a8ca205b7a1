//! From an allowed call to its reply: the loop over attempts, and the one place where a call is closed.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use agentos_base::{Ambient, Background, Room};
use agentos_ledger::Ledger;
use agentos_monitor::{ModelEnd, ModelOutcome, ModelPass, ModelRecord, SoFar};
use agentos_router::{Asked, Observed, Target};
use agentos_store::Store;
use agentos_types::{Code, Fault, RequestId, Result, limits::PAYLOAD_BYTES_MAX};
use agentos_wire::{Object, input_tokens_max};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Body, Course, Keys, ModelCall, Operation, Reply, Routing, Upstream,
    addresses::Addresses,
    attempt::{Asking, Given, Live, Missed, Notes, Whole},
    continuation::{CONTINUED_BYTES_MAX, Continuation},
    decisions::Decisions,
    failing::{Failing, fault_of, is_told_verbatim, wire_error},
    fates::Fates,
    flights::Flights,
    given::CACHE_HEADER,
    kept::Answer,
    pump::{Kept, Pump},
    recall::{Keeper, Recalled},
    reply::{error_reply, reply_of},
};

/// Pieces of a stream that may wait for a slow client. Then the provider waits too.
const STREAM_PIECES_MAX: usize = 32;
/// The router ends sooner; this bounds the loop whatever it says.
const ATTEMPTS_MAX: u32 = 8;

/// What the operator decides about all calls.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Tokens of one answer where neither client nor model names a limit, and the most that is reserved without one.
    pub output_max: u64,
    /// A budget that cannot pay for the longest answer lowers its limit instead of refusing the call.
    pub lowers_output: bool,
    /// Over all attempts, up to the first event of a stream or the end of a whole answer.
    pub deadline: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { output_max: 16_384, lowers_output: false, deadline: Duration::from_secs(600) }
    }
}

pub struct EngineOptions {
    pub routing: Arc<dyn Routing>,
    pub ledger: Ledger,
    pub keys: Arc<dyn Keys>,
    pub upstream: Upstream,
    /// Of answers that are given again, and of how targets were chosen.
    pub store: Store,
    /// As the store knows this node.
    pub node: String,
    pub ambient: Ambient,
    pub background: Background,
    pub policy: Policy,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub routing: Arc<dyn Routing>,
    pub ledger: Ledger,
    pub keys: Arc<dyn Keys>,
    pub upstream: Upstream,
    pub ambient: Ambient,
    pub background: Background,
    pub policy: Policy,
    pub store: Store,
    pub addresses: Addresses,
    pub flights: Flights,
    pub decisions: Decisions,
    /// For what streams keep that may have to be continued.
    pub continued: Room,
}

/// Attempts that came to something.
struct Tried {
    given: Given,
    course: Box<dyn Course>,
    target: Arc<Target>,
}

/// Attempts that came to nothing.
pub(crate) enum Ended {
    /// The last provider's failure.
    Failing(Box<Failing>),
    Fault(Fault),
}

impl Engine {
    pub fn new(options: EngineOptions) -> Self {
        let EngineOptions { routing, ledger, keys, upstream, store, node, ambient, background, policy } = options;
        let inner = Inner {
            routing,
            ledger,
            keys,
            upstream,
            policy,
            addresses: Addresses::default(),
            flights: Flights::default(),
            decisions: Decisions::new(&node, store.clone(), ambient.clone(), background.clone()),
            ambient,
            background,
            store,
            continued: Room::new(CONTINUED_BYTES_MAX),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Carries an allowed call out. What leaves is recorded before it does.
    pub async fn run(&self, pass: Box<ModelPass<ModelCall>>) -> Reply {
        let ModelPass { call, mut record } = *pass;
        let call = call.into_inner();
        let keeper = match Box::pin(self.inner.recall(&call, &mut record)).await {
            Recalled::Ask(keeper) => keeper,
            Recalled::Known(known) => return Box::pin(self.known(&call, record, known)).await,
        };
        let so_far = record.so_far();
        // Boxed, as is what follows: a call waits long for its provider, and what waits should be small.
        let tried = record.beside(Box::pin(self.inner.tries(&call, &so_far))).await;
        match tried {
            // The log took no intent, so that nothing may leave.
            Err(fault) => withheld(&call, fault, keeper),
            Ok(Err(ended)) => Box::pin(self.failed(&call, record, ended, keeper)).await,
            Ok(Ok(tried)) => match *tried {
                Tried { given: Given::Whole(whole), .. } => Box::pin(self.whole(&call, record, whole, keeper)).await,
                Tried { given: Given::Stream(live), course, target } => match record.begun().await {
                    Ok(()) => self.stream(&call, record, live, (course, target), keeper),
                    Err(fault) => withheld(&call, fault, keeper),
                },
            },
        }
    }

    /// The answer that the journal of a task holds.
    pub fn recorded(&self, operation: Operation, request_id: &RequestId, answer: &Value) -> Reply {
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let body = match (text("body"), text("body_base64")) {
            (Some(body), _) => Some(Bytes::copy_from_slice(body.as_bytes())),
            (None, encoded) => encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok()).map(Bytes::from),
        };
        let Some(body) = body else {
            let fault = Fault::new(
                Code::MODEL_ANSWER_NOT_KEPT,
                "an earlier attempt of the task got this answer, which was too large for its journal; it is not asked for again",
            );
            return reply_of(operation, request_id, &fault);
        };
        let status = answer.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
        let content_type = text("content_type").unwrap_or("application/json").to_owned();
        let mut reply = Reply::new(status.unwrap_or(200), &content_type, Body::Whole(body));
        reply.header("x-agent-os-request-id", request_id);
        reply.header("x-agent-os-replayed", "journal");
        reply
    }

    /// What can be named, and whose it is.
    pub fn names(&self) -> Vec<(String, String)> {
        self.inner.routing.names()
    }

    async fn whole(&self, call: &ModelCall, record: ModelRecord, whole: Whole, keeper: Keeper) -> Reply {
        let Whole { status, body, is_stream, notes } = whole;
        let mut outcome = snapshot(&record.so_far(), ModelEnd::Done, status);
        let content_type = if is_stream { "text/event-stream" } else { "application/json" };
        outcome.answer = record.is_step().then(|| recorded(&outcome, content_type, Some(&body)));
        let told = outcome.clone();
        let mut noted = noted(&notes, &outcome);
        if is_stream {
            noted.push(("x-agent-os-stream".into(), "whole".into()));
        }
        let answer = keeper.wants_answer().then(|| Answer::new(&outcome, content_type, noted.clone(), body.clone()));
        if let Some(answer) = &answer {
            keeper.keep(answer, &record, &mut outcome, self.inner.ambient.now());
        }
        if let Err(fault) = record.close(outcome).await {
            return withheld(call, fault, keeper);
        }
        let mut reply = Reply::new(status, content_type, Body::Whole(body));
        reply.facts(&call.request_id, &told);
        reply.headers.extend(noted);
        asked_for(&mut reply, &keeper);
        if let Some(answer) = answer {
            keeper.answered(Arc::new(answer));
        }
        reply
    }

    fn stream(
        &self,
        call: &ModelCall,
        record: ModelRecord,
        live: Box<Live>,
        (course, target): (Box<dyn Course>, Arc<Target>),
        keeper: Keeper,
    ) -> Reply {
        let so_far = record.so_far();
        let (events, receiver) = mpsc::channel(STREAM_PIECES_MAX);
        let mut reply = Reply::new(200, "text/event-stream", Body::Stream(receiver));
        reply.header("cache-control", "no-cache");
        let facts = snapshot(&so_far, ModelEnd::Done, 200);
        reply.facts(&call.request_id, &facts);
        reply.headers.extend(noted(&live.notes, &facts));
        asked_for(&mut reply, &keeper);
        let is_kept = record.is_step() || keeper.wants_answer();
        let kept = is_kept.then(|| Kept::new(PAYLOAD_BYTES_MAX));
        let (client, ambient) = (call.protocol(), self.inner.ambient.clone());
        let continuation = Continuation::of(&self.inner, call, &live, &target).map(Box::new);
        let pump = Pump {
            live,
            client,
            events,
            record,
            course,
            target,
            ambient,
            so_far,
            kept,
            keeper,
            later: None,
            continuation,
        };
        self.inner.background.spawn_here("model-stream", Box::new(pump).run());
        reply
    }

    pub(crate) async fn failed(&self, call: &ModelCall, record: ModelRecord, ended: Ended, keeper: Keeper) -> Reply {
        let mut reply = match &ended {
            Ended::Fault(fault) => reply_of(call.operation, &call.request_id, fault),
            Ended::Failing(failing) => failing_reply(call, failing),
        };
        let mut outcome = snapshot(&record.so_far(), ModelEnd::Failed, reply.status);
        match ended {
            Ended::Fault(fault) => outcome.fault = Some(fault),
            Ended::Failing(failing) => {
                outcome.class = Some(failing.failure.class.as_str());
                outcome.fault = Some(fault_of(&failing.failure));
            }
        }
        reply.headers.retain(|(name, _)| name != "x-agent-os-request-id");
        reply.facts(&call.request_id, &outcome);
        let (fault, class) = (outcome.fault.clone(), outcome.class);
        match record.close(outcome).await {
            Ok(()) => {
                keeper.failed(&reply, fault, class);
                reply
            }
            Err(fault) => withheld(call, fault, keeper),
        }
    }
}

impl Inner {
    async fn tries(&self, call: &ModelCall, so_far: &SoFar) -> Result<Box<Tried>, Ended> {
        let deadline = Instant::now() + self.policy.deadline;
        let fates = Fates::default();
        let asking = Asking { call, so_far, fates: &fates, prefill: None };
        let mut course = self.planned(call).map_err(Ended::Fault)?;
        let mut last: Option<Failing> = None;
        for _ in 0..ATTEMPTS_MAX {
            let failure = last.as_ref().map(|failing| &failing.failure);
            let Some(target) = course.next(failure, self.ambient.now()).map(Arc::new) else { break };
            let begun = Instant::now() + target.pause;
            // Boxed: the timer around it would hold room for it once more.
            let attempt = Box::pin(async {
                // A timer counts whole milliseconds: one of zero would hold each call up for one.
                if !target.pause.is_zero() {
                    sleep(target.pause).await;
                }
                {
                    // Sums: whole after any panic.
                    let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                    so_far.target = Some(target.id.clone());
                    so_far.attempts += 1;
                }
                self.race(&asking, &target, &mut *course).await
            });
            match timeout_at(deadline, attempt).await {
                Ok(Ok((given, target))) => return Ok(Box::new(Tried { given, course, target })),
                Ok(Err(Missed::Final(fault))) => {
                    course.report(&target, Observed::Nothing, self.ambient.now());
                    return Err(Ended::Fault(fault));
                }
                Ok(Err(Missed::Failing(failing))) => last = Some(failing),
                Err(_) => {
                    let failing = Failing::late(self.policy.deadline);
                    // A target that had less time than it is given by its own is not to blame.
                    let own = if call.is_stream() { target.waits.first_byte } else { target.waits.whole };
                    let is_judged = begun.elapsed() >= own;
                    let observed = if is_judged { Observed::Failed(&failing.failure) } else { Observed::Nothing };
                    course.report(&target, observed, self.ambient.now());
                    return Err(Ended::Failing(Box::new(failing)));
                }
            }
        }
        Err(match last {
            Some(failing) => Ended::Failing(Box::new(failing)),
            None => Ended::Fault(Fault::internal("a plan without a target was made")),
        })
    }

    pub fn asked<'c>(&self, call: &'c ModelCall) -> Asked<'c> {
        let now = self.ambient.now();
        Asked {
            model: &call.peek.model,
            operation: call.operation,
            needs: call.peek.needs,
            stream: call.is_stream(),
            input_tokens: input_tokens_max(&call.peek),
            max_output_tokens: call.peek.max_output_tokens,
            budgeted: self.ledger.is_budgeted(&call.payer),
            now,
            deadline: now.after(self.policy.deadline),
            seed: u64::from_le_bytes(self.ambient.random()),
        }
    }
}

/// In the provider's own words, if the client speaks its language and has to change something.
fn failing_reply(call: &ModelCall, failing: &Failing) -> Reply {
    if let Some(said) = &failing.said
        && said.protocol == call.protocol()
        && !(200..300).contains(&said.status)
        && is_told_verbatim(failing.failure.class)
        && Object::parse(&said.body).is_ok()
    {
        return Reply::json(said.status, said.body.clone());
    }
    let mut error = wire_error(&failing.failure);
    if let Some(said) = &failing.said
        && let Err(reason) = error.facts.put_as("provider_status", &said.status)
    {
        tracing::debug!(%reason, "a provider's status could not be written");
    }
    error_reply(call.operation, &error)
}

/// The log did not take what has to stand in it before anything leaves.
pub(crate) fn withheld(call: &ModelCall, fault: Fault, keeper: Keeper) -> Reply {
    let reply = reply_of(call.operation, &call.request_id, &fault);
    keeper.failed(&reply, Some(fault), None);
    reply
}

/// What a client is told that asked for something its model has not, or gets it in another way.
pub(crate) fn noted(notes: &Notes, outcome: &ModelOutcome) -> Vec<(String, String)> {
    let notes = [
        ("x-agent-os-dropped-fields", notes.dropped.join(",")),
        ("x-agent-os-emulated", notes.emulated.join(",")),
        ("x-agent-os-left-to-provider", notes.left.join(",")),
        ("x-agent-os-shortened-to", outcome.shortened_to.map(|tokens| tokens.to_string()).unwrap_or_default()),
    ];
    let told = notes.into_iter().filter(|(_, text)| !text.is_empty());
    told.map(|(name, text)| (name.to_owned(), text)).collect()
}

/// The cache was asked first, and takes the answer if it comes whole.
fn asked_for(reply: &mut Reply, keeper: &Keeper) {
    if keeper.is_for_cache() {
        reply.header(CACHE_HEADER, "miss");
    }
}

/// The sums of all attempts, with how it ended.
pub(crate) fn snapshot(so_far: &SoFar, end: ModelEnd, status: u16) -> ModelOutcome {
    let so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
    ModelOutcome { end, status, ..so_far.clone() }
}

/// What a journal keeps of an answer; without its body if that is too large, so that nobody takes it for the answer.
pub(crate) fn recorded(outcome: &ModelOutcome, content_type: &str, body: Option<&[u8]>) -> Value {
    let facts = json!({
        "status": outcome.status,
        "content_type": content_type,
        "target": outcome.target,
        "nano_usd": outcome.nano_usd,
        "estimated": outcome.estimated,
    });
    let mut kept = facts.clone();
    if let (Some(body), Some(fields)) = (body, kept.as_object_mut()) {
        match std::str::from_utf8(body) {
            Ok(text) => fields.insert("body".into(), json!(text)),
            Err(_) => fields.insert("body_base64".into(), json!(BASE64_STANDARD.encode(body))),
        };
    }
    let fits = serde_json::to_vec(&kept).is_ok_and(|bytes| bytes.len() <= PAYLOAD_BYTES_MAX);
    if fits { kept } else { facts }
}
