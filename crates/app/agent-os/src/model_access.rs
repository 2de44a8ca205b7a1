//! The port of the tools for models, bound to the port of the edges: a question that comes as a system call is asked as one
//! that a program inside of the sandbox asks by itself.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use agentos_api::{
    Models,
    models::{ModelBody, ModelCaller, ModelOperation, ModelReply, ModelRequest},
};
use agentos_base::{Ambient, Room};
use agentos_protocol::syscall::{ModelCallResult, ModelProtocol, ModelUsage};
use agentos_tools::{ModelAccess, ModelAsk};
use agentos_types::{Code, Fault, Result};
use agentos_wire::{Ask, Delta, Gather, Protocol, Refusal, Seen, StreamReader, Tap, Usage, sse, write_answer};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

/// Between two questions whether an earlier attempt has stopped, and how many there are: a lost lease is noticed within a second.
const IN_FLIGHT_WAIT: Duration = Duration::from_millis(500);
const IN_FLIGHT_ROUNDS_MAX: usize = 20;

/// The models stand behind the monitor, whose tools ask them: they come when both are made.
#[derive(Clone, Default)]
pub struct LateModels(Arc<OnceLock<Arc<dyn Models>>>);

impl LateModels {
    /// The first one stays.
    pub fn bind(&self, models: Arc<dyn Models>) {
        let _ = self.0.set(models);
    }
}

pub struct ServedModels {
    pub models: LateModels,
    pub ambient: Ambient,
    /// For the bodies of all calls at once, those of the gateway too.
    pub room: Room,
}

#[async_trait]
impl ModelAccess for ServedModels {
    async fn ask(&self, ask: ModelAsk, pieces: mpsc::Sender<String>) -> Result<ModelCallResult> {
        let models =
            self.models.0.get().ok_or_else(|| Fault::new(Code::ROUTE_NOT_FOUND, "this server calls no models"))?;
        let (operation, tap) = match ask.protocol {
            ModelProtocol::Chat => (ModelOperation::Chat, Tap::new(Protocol::Chat)),
            ModelProtocol::Responses => (ModelOperation::Responses, Tap::new(Protocol::Responses)),
            ModelProtocol::Messages => (ModelOperation::Messages, Tap::new(Protocol::Messages)),
            ModelProtocol::Embeddings => (ModelOperation::Embeddings, Tap::embeddings()),
        };
        let caller =
            ModelCaller::Agent { agent: ask.agent, instance: ask.instance, task: Some(ask.task), step: Some(ask.step) };
        let body = Bytes::from(ask.body);
        let share = self.room.hold(body.len())?;
        let request = ModelRequest {
            operation,
            body,
            headers: Vec::new(),
            request_id: self.ambient.request_id(),
            idempotency_key: Some(ask.idempotency_key),
            traceparent: Some(ask.traceparent),
        };
        let reply = asked(models.as_ref(), (caller, request), IN_FLIGHT_WAIT).await?;
        drop(share);
        match reply.body {
            ModelBody::Whole(body) => whole(reply.status, &body, tap),
            ModelBody::Stream(stream) => Reading::new(ask.protocol, tap, pieces).read(stream).await,
        }
    }
}

/// An attempt whose worker died may be asking still. It stops once its lease is lost, and what it is told in between is no
/// answer that a journal should keep.
async fn asked(
    models: &dyn Models,
    (caller, request): (ModelCaller, ModelRequest),
    wait: Duration,
) -> Result<ModelReply> {
    for _ in 0..IN_FLIGHT_ROUNDS_MAX {
        let reply = models.call(caller.clone(), request.clone()).await;
        if !is_in_flight(&reply) {
            return Ok(reply);
        }
        sleep(wait).await;
    }
    Err(Fault::new(Code::CONNECTION_LOST, "an earlier attempt of this step is still being answered"))
}

fn is_in_flight(reply: &ModelReply) -> bool {
    let ModelBody::Whole(body) = &reply.body else { return false };
    // Each family has its own place for what its clients do not know.
    let code = |body: &Value| {
        let notes = body.get("agent_os").or_else(|| body.pointer("/error/agent_os"))?;
        Some(notes.get("code")?.as_str()? == Code::MODEL_CALL_IN_FLIGHT.to_string())
    };
    let body = serde_json::from_slice::<Value>(body).ok();
    reply.status == Code::MODEL_CALL_IN_FLIGHT.entry().http_status && body.as_ref().and_then(code) == Some(true)
}

fn whole(status: u16, body: &[u8], mut tap: Tap) -> Result<ModelCallResult> {
    let body_value = serde_json::from_slice(body).map_err(|_| broken("the answer is not JSON"))?;
    if (200..300).contains(&status) {
        tap.whole(body);
    }
    Ok(ModelCallResult { status, body: body_value, usage: tap.usage().map(usage) })
}

/// A stream on its way to becoming a result.
struct Reading {
    tap: Tap,
    pieces: mpsc::Sender<String>,
    whole: Whole,
}

/// Who knows what the stream came to.
enum Whole {
    /// Its deltas.
    Deltas { protocol: Protocol, reader: Box<StreamReader>, gather: Box<Gather> },
    /// Its last event holds all of it.
    Told(Option<Value>),
}

impl Reading {
    fn new(protocol: ModelProtocol, tap: Tap, pieces: mpsc::Sender<String>) -> Self {
        let deltas = |protocol| Whole::Deltas {
            protocol,
            reader: Box::new(StreamReader::new(protocol)),
            gather: Box::default(),
        };
        let whole = match protocol {
            ModelProtocol::Chat => deltas(Protocol::Chat),
            ModelProtocol::Messages => deltas(Protocol::Messages),
            ModelProtocol::Responses | ModelProtocol::Embeddings => Whole::Told(None),
        };
        Self { tap, pieces, whole }
    }

    async fn read(mut self, mut stream: mpsc::Receiver<Bytes>) -> Result<ModelCallResult> {
        let mut scanner = sse::Scanner::default();
        while let Some(piece) = stream.recv().await {
            scanner.push(&piece);
            while let Some(frame) = scanner.next_frame().map_err(broken)? {
                self.frame(&frame).await?;
            }
        }
        if let Some(frame) = scanner.end().map_err(broken)? {
            self.frame(&frame).await?;
        }
        self.end()
    }

    async fn frame(&mut self, frame: &sse::Frame) -> Result<()> {
        match self.tap.frame(frame) {
            Seen::Error(error) => return Err(in_stream(&error)),
            Seen::Malformed => return Err(broken("an event is not of the protocol")),
            Seen::Other if frame.is_comment() => return Ok(()),
            Seen::Content | Seen::Usage | Seen::Terminal | Seen::Other => {}
        }
        match &mut self.whole {
            Whole::Deltas { reader, gather, .. } => {
                for delta in reader.frame(frame).map_err(unread)? {
                    if let Delta::Text { choice: 0, text } = &delta {
                        say(&self.pieces, text).await;
                    }
                    gather.delta(delta).map_err(unread)?;
                }
            }
            Whole::Told(told) => {
                let Ok(event) = serde_json::from_slice::<Value>(&frame.data) else { return Ok(()) };
                match event.get("type").and_then(Value::as_str) {
                    Some("response.output_text.delta") => {
                        say(&self.pieces, event.get("delta").and_then(Value::as_str).unwrap_or_default()).await;
                    }
                    Some("response.completed" | "response.incomplete") => *told = event.get("response").cloned(),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn end(self) -> Result<ModelCallResult> {
        if !self.tap.is_terminal() {
            return Err(broken("it ended before its end"));
        }
        let body = match self.whole {
            Whole::Told(told) => told.ok_or_else(|| broken("its last event holds no answer"))?,
            Whole::Deltas { protocol, mut reader, mut gather } => {
                for delta in reader.end().map_err(unread)? {
                    gather.delta(delta).map_err(unread)?;
                }
                let answer = gather.end().map_err(unread)?;
                let bytes = write_answer(protocol, &answer, &Ask::default()).map_err(unread)?;
                serde_json::from_slice(&bytes).map_err(Fault::internal)?
            }
        };
        Ok(ModelCallResult { status: 200, body, usage: self.tap.usage().map(usage) })
    }
}

/// Who listens may be gone already; the result tells all.
async fn say(pieces: &mpsc::Sender<String>, text: &str) {
    if !text.is_empty() {
        let _ = pieces.send(text.to_owned()).await;
    }
}

fn usage(usage: Usage) -> ModelUsage {
    let Usage { input, cache_read, cache_write, output, reasoning, .. } = usage;
    ModelUsage { input, cache_read, cache_write, output, reasoning }
}

/// What the stream itself said of its end.
fn in_stream(error: &[u8]) -> Fault {
    let told = serde_json::from_slice::<Value>(error).ok();
    let message =
        told.as_ref().and_then(|told| told.pointer("/error/message").or_else(|| told.get("message"))?.as_str());
    broken(message.unwrap_or("it says so itself"))
}

fn unread(refusal: Refusal) -> Fault {
    broken(refusal)
}

fn broken(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::CONNECTION_LOST, format!("the model's answer broke off: {why}"))
}

#[cfg(test)]
mod tests;
