//! One attempt at one target: hold, send, judge, settle. What it brings is a whole answer, or a stream whose first event was
//! valid; anything else is a failure of which the client has seen nothing.

use std::sync::PoisonError;

use agentos_failpoint::{Point, hit};
use agentos_monitor::SoFar;
use agentos_router::{Kind, Target};
use agentos_types::{Code, Fault, Result};
use agentos_wire::{
    Phase, Protocol, Refusal, Seen, StreamReader, StreamWriter, Tap, emulate, input_tokens_max,
    sse::{Frame, Scanner},
};
use bytes::Bytes;
use tokio::time::{Duration, Instant, timeout};

use crate::{
    ModelCall, Operation,
    amounts::{Counted, Held, Stake},
    answers::{Judged, judge, streamed, translated},
    engine::Inner,
    failing::{Failing, is_success},
    fates::Fates,
    prepare::{Prepared, Translation, outgoing, prepare},
    upstream::{Answer, AnswerBody, Outgoing, Stopped, Unanswered},
};

/// Comments that a provider may send before its first event. A stream of nothing else ends by its time.
const COMMENTS_MAX: usize = 10_000;

/// What all attempts of one call share.
pub(crate) struct Asking<'a> {
    pub call: &'a ModelCall,
    pub so_far: &'a SoFar,
    pub fates: &'a Fates,
    /// What was delivered already, for an attempt that writes on from there.
    pub prefill: Option<&'a str>,
}

/// What came, and when its first byte did, if that says anything about the target.
pub(crate) struct Brought {
    pub given: Given,
    pub first_byte: Option<Duration>,
}

/// What an attempt brought.
pub(crate) enum Given {
    Whole(Whole),
    Stream(Box<Live>),
}

/// An answer that is complete, in the client's protocol.
pub(crate) struct Whole {
    pub status: u16,
    pub body: Bytes,
    /// Events, though the provider sent none.
    pub is_stream: bool,
    /// What the client is told of how it came.
    pub notes: Notes,
}

/// How an answer differs from what a provider of the client's protocol would have sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// By the operator's word.
    pub dropped: Vec<String>,
    pub emulated: Vec<&'static str>,
    pub left: Vec<String>,
}

/// A stream whose first event has come.
pub(crate) struct Live {
    pub body: AnswerBody,
    pub scanner: Scanner,
    pub tap: Tap,
    pub first: Option<(Frame, Seen)>,
    pub protocol: Protocol,
    pub translator: Option<Translator>,
    pub stake: Stake,
    pub idle: Duration,
    /// The client asked for usage at the end of the stream.
    pub wants_usage: bool,
    pub notes: Notes,
}

/// From a provider's events to a client's.
pub(crate) struct Translator {
    pub reader: StreamReader,
    pub emulation: Option<emulate::Stream>,
    pub writer: StreamWriter,
}

pub(crate) enum Missed {
    /// The next target may do better.
    Failing(Failing),
    /// No target can help: a budget, a defect, a key that cannot be read.
    Final(Fault),
}

impl From<Fault> for Missed {
    fn from(fault: Fault) -> Self {
        Missed::Final(fault)
    }
}

impl From<Failing> for Missed {
    fn from(failing: Failing) -> Self {
        Missed::Failing(failing)
    }
}

/// An attempt whose request is out.
struct Sent<'a> {
    call: &'a ModelCall,
    target: &'a Target,
    prepared: Prepared,
    stake: Stake,
    at: Instant,
}

impl Inner {
    pub(crate) async fn attempt(&self, asking: &Asking<'_>, target: &Target) -> Result<Brought, Missed> {
        let brought = self.attempted(asking, target).await;
        if let Err(Missed::Failing(failing)) = &brought {
            asking.fates.failed(target, failing);
        }
        brought
    }

    async fn attempted(&self, asking: &Asking<'_>, target: &Target) -> Result<Brought, Missed> {
        let call = asking.call;
        if call.operation == Operation::CountTokens && !counts(target) {
            return Ok(count(call, asking.so_far));
        }
        let Held { mut stake, max_output } = self.hold(asking, target).await?;
        hit(Point::ModelsAttemptHeld);
        let prepared = match prepare(call, target, max_output, asking.prefill) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                stake.release();
                return Err(Failing::refused(&refusal).into());
            }
        };
        let key = match &target.key {
            None => None,
            Some(name) => match self.keys.reveal(name).await {
                Ok(key) => Some(key),
                Err(fault) => {
                    stake.release();
                    // Another key or another provider may do.
                    return Err(Failing::keyless(name, &fault).into());
                }
            },
        };
        let idempotency_key = asking.fates.key(call, target, &prepared.body);
        let outgoing = match outgoing(&self.addresses, call, target, &prepared, key.as_ref(), self.ambient.now()) {
            Ok(outgoing) => outgoing,
            Err(fault) => {
                stake.release();
                return Err(match (&target.key, fault.code) {
                    // As a key that is not there: another one may do.
                    (Some(name), Code::SECRET_KEY_UNUSABLE) => Failing::keyless(name, &fault).into(),
                    _ => fault.into(),
                });
            }
        };
        let head = if prepared.is_stream { target.waits.first_byte } else { target.waits.whole };
        let outgoing = Outgoing { sent: stake.on_its_way(prepared.is_stream), idempotency_key, ..outgoing };
        let sent = Sent { call, target, prepared, stake, at: Instant::now() };
        hit(Point::ModelsRequestReady);
        match self.upstream.send(outgoing, target.waits.connect, head).await {
            // Boxed: what waits for a provider should be small.
            Ok(answer) => Box::pin(sent.judge(answer)).await,
            Err(unanswered) => Err(sent.unanswered(&unanswered).into()),
        }
    }
}

/// Providers that count no tokens are not asked: our own upper bound is the answer, and says so.
fn count(call: &ModelCall, so_far: &SoFar) -> Brought {
    // Sums: whole after any panic.
    so_far.lock().unwrap_or_else(PoisonError::into_inner).estimated = true;
    let body = format!(r#"{{"input_tokens":{}}}"#, input_tokens_max(&call.peek)).into();
    let given = Given::Whole(Whole { status: 200, body, is_stream: false, notes: Notes::default() });
    Brought { given, first_byte: None }
}

impl Sent<'_> {
    fn unanswered(mut self, unanswered: &Unanswered) -> Failing {
        tracing::debug!(target = self.target.id, detail = unanswered.detail, "no answer of a provider");
        if unanswered.phase == Phase::Connect {
            self.stake.release();
        } else {
            let counted = self.stake.unanswered();
            self.stake.settle(counted, true);
        }
        Failing::unanswered(self.prepared.protocol, unanswered)
    }

    async fn judge(mut self, mut answer: Answer) -> Result<Brought, Missed> {
        let protocol = self.prepared.protocol;
        if !is_success(&answer) {
            let body = answer.body.whole(self.target.waits.idle).await;
            // Who says no has written nothing; no provider bills it.
            self.stake.settle(Counted::default(), true);
            return Err(match body {
                Ok(body) => Failing::answered(protocol, answer.status, &answer.headers, body),
                Err(stopped) => Failing::stopped(protocol, answer.status, &stopped),
            }
            .into());
        }
        if protocol == Protocol::Gemini {
            self.stake.served(answer.headers.get("x-gemini-service-tier").and_then(|tier| tier.to_str().ok()));
        }
        if self.prepared.is_stream && answer.begins_events() {
            return self.first_event(answer).await;
        }
        self.whole(answer).await
    }

    async fn whole(mut self, mut answer: Answer) -> Result<Brought, Missed> {
        let (protocol, operation) = (self.prepared.protocol, self.call.operation);
        let first_byte = self.at.elapsed();
        let mut tap = if operation == Operation::Embeddings { Tap::embeddings() } else { Tap::new(protocol) };
        let body = match answer.body.whole(self.target.waits.idle).await {
            Ok(body) => body,
            Err(stopped) => {
                let counted = self.stake.unanswered();
                self.stake.settle(counted, true);
                return Err(Failing::stopped(protocol, answer.status, &stopped).into());
            }
        };
        if let Judged::Unsound = judge(operation, &mut tap, &body) {
            let failing = Failing::answered(protocol, answer.status, &answer.headers, body);
            // An error inside of a 200 may come after the model has read; usage, if it is told, says how much.
            let counted = match tap.usage_so_far() {
                Some(_) => self.stake.counted(&tap, true),
                None => Counted::default(),
            };
            self.stake.settle(counted, true);
            return Err(failing.into());
        }
        hit(Point::ModelsAnswerReturned);
        let counted = match operation {
            Operation::CountTokens => Counted::default(),
            _ => self.stake.counted(&tap, true),
        };
        let client = self.call.protocol();
        let is_stream = self.call.is_stream();
        let translation = self.prepared.translation.clone().or_else(|| own_translation(self.call, is_stream));
        let notes = notes_of(translation.as_ref(), &self.prepared.dropped);
        let told = match &translation {
            None => Ok(body),
            Some(translation) if is_stream => streamed(protocol, client, &body, translation),
            Some(translation) => translated(protocol, client, &body, translation),
        };
        self.stake.settle(counted, told.is_err());
        let body = told.map_err(|refusal| Failing::malformed(&refusal.to_string()))?;
        let given = Given::Whole(Whole { status: answer.status, body, is_stream, notes });
        Ok(Brought { given, first_byte: Some(first_byte) })
    }

    /// Reads up to the first valid event. Until then another target can take over.
    async fn first_event(mut self, mut answer: Answer) -> Result<Brought, Missed> {
        let protocol = self.prepared.protocol;
        let mut scanner = Scanner::default();
        let mut tap = Tap::new(protocol);
        let until = self.at + self.target.waits.first_byte;
        let found = timeout(
            until.saturating_duration_since(Instant::now()),
            first_frame(&mut answer.body, &mut scanner, &mut tap, until),
        )
        .await
        .unwrap_or(Err(None));
        let (frame, seen) = match found {
            Ok(found) => found,
            Err(stopped) => {
                let counted = self.stake.unanswered();
                self.stake.settle(counted, true);
                let stopped = stopped.unwrap_or(Stopped::Idle);
                return Err(Failing::stopped(protocol, answer.status, &stopped).into());
            }
        };
        match &seen {
            Seen::Error(body) => {
                self.stake.settle(Counted::default(), true);
                return Err(Failing::answered(protocol, answer.status, &answer.headers, body.clone()).into());
            }
            Seen::Malformed => {
                let counted = self.stake.unanswered();
                self.stake.settle(counted, true);
                return Err(Failing::malformed("the provider's first event is none of its protocol").into());
            }
            _ => {}
        }
        let first_byte = self.at.elapsed();
        hit(Point::ModelsStreamBegun);
        let notes = notes_of(self.prepared.translation.as_ref(), &self.prepared.dropped);
        let translator = self.prepared.translation.as_ref().map(|translation| Translator {
            reader: StreamReader::new(protocol),
            emulation: translation.emulation.as_ref().map(emulate::Emulation::stream),
            writer: StreamWriter::new(self.call.protocol(), &translation.ask),
        });
        let live = Live {
            body: answer.body,
            scanner,
            tap,
            first: Some((frame, seen)),
            protocol,
            translator,
            stake: self.stake,
            idle: self.target.waits.idle,
            wants_usage: self.call.peek.stream_usage,
            notes,
        };
        Ok(Brought { given: Given::Stream(Box::new(live)), first_byte: Some(first_byte) })
    }
}

/// It has an operation that counts tokens for nothing. Bedrock's speaks another protocol.
fn counts(target: &Target) -> bool {
    target.protocol == Protocol::Messages && target.kind != Kind::Bedrock
}

/// The first frame that is no comment. `Err(None)`: comments without end.
async fn first_frame(
    body: &mut AnswerBody,
    scanner: &mut Scanner,
    tap: &mut Tap,
    until: Instant,
) -> Result<(Frame, Seen), Option<Stopped>> {
    for _ in 0..COMMENTS_MAX {
        match scanner.next_frame() {
            Err(_) => return Err(Some(Stopped::TooLarge)),
            Ok(Some(frame)) if frame.is_comment() => {}
            Ok(Some(frame)) => {
                let seen = tap.frame(&frame);
                return Ok((frame, seen));
            }
            Ok(None) => match body.piece(until).await.map_err(Some)? {
                Some(piece) => scanner.push(&piece),
                None => return Err(Some(Stopped::Cut("the stream ended before its first event".into()))),
            },
        }
    }
    Err(None)
}

/// Client and provider speak the same protocol and the provider sent no events though the client waits for them.
fn own_translation(call: &ModelCall, is_stream: bool) -> Option<Translation> {
    let read = |call: &ModelCall| -> Result<_, Refusal> { agentos_wire::read_ask(call.protocol(), &call.body) };
    let ask = is_stream.then(|| read(call).ok()).flatten()?;
    Some(Translation { ask, emulation: None, left: Vec::new() })
}

fn notes_of(translation: Option<&Translation>, dropped: &[String]) -> Notes {
    let emulation = translation.and_then(|translation| translation.emulation.as_ref());
    Notes {
        dropped: dropped.to_vec(),
        emulated: emulation.map(emulate::Emulation::what).unwrap_or_default(),
        left: translation.map(|translation| translation.left.clone()).unwrap_or_default(),
    }
}
