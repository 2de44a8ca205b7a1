//! Calls of models over the WebSocket. A chat is a call that lives apart from the session that began it: a client that lost its
//! connection asks for the pieces after the last one that it saw, within a minute. Pieces are kept up to a bound; when a client
//! is slow the provider waits, and when nobody comes back it is stopped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentos_api::models::{ModelBody, ModelOperation, ModelReply};
use agentos_base::trace::TraceContext;
use agentos_types::{Code, Fault, RequestId, Result};
use agentos_wire::{Protocol, Tap, sse};
use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    handlers::models::{port, who},
    identity::Caller,
    models::request,
    shared::Shared,
};

/// How long a chat waits for its client to come back, and how long its end is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Bytes of pieces that one chat keeps; one larger piece may be kept alone.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Chats of one token, and of all: 64 MiB of pieces.
const CHATS_PER_OWNER_MAX: usize = 16;
const CHATS_MAX: usize = 256;

/// What a message `chat` brings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    #[serde(default)]
    protocol: Spoken,
    /// An object, or its JSON text, which is passed on as it is written.
    body: Value,
    #[serde(default)]
    idempotency_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Spoken {
    #[default]
    Chat,
    Responses,
    Messages,
}

/// Those that run, and those whose end is kept.
#[derive(Debug, Default)]
pub(crate) struct Chats(Mutex<HashMap<RequestId, Arc<Chat>>>);

#[derive(Debug)]
pub(crate) struct Chat {
    id: RequestId,
    owner: String,
    state: Mutex<State>,
    /// Anything of the state has changed.
    changed: watch::Sender<()>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<(u64, String)>,
    bytes: usize,
    last_seq: u64,
    /// What some session has taken.
    taken_seq: u64,
    readers: usize,
    is_over: bool,
}

impl Chats {
    /// Asks the model, beside the session.
    pub fn begin(&self, shared: &Arc<Shared>, caller: &Caller, asked: Asked) -> Result<Arc<Chat>> {
        let (operation, protocol) = match asked.protocol {
            Spoken::Chat => (ModelOperation::Chat, Protocol::Chat),
            Spoken::Responses => (ModelOperation::Responses, Protocol::Responses),
            Spoken::Messages => (ModelOperation::Messages, Protocol::Messages),
        };
        port(shared)?;
        let id = caller.context.request_id.clone();
        let context = TraceContext::to_string(&shared.ambient.root());
        let body = body_of(asked.body)?;
        let share = shared.model_room.hold(body.len())?;
        let mut request = request::request(operation, &HeaderMap::new(), body, id.clone(), Some(context))?;
        request.idempotency_key = asked.idempotency_key.map(|key| request::checked_key(&key)).transpose()?;
        let chat = self.enter(id, &caller.context.owner)?;
        let (shared, caller, running) = (Arc::clone(shared), who(caller)?, Arc::clone(&chat));
        let background = shared.background.clone();
        background.spawn_here("chat", async move {
            let asking = async {
                let reply = port(&shared)?.call(caller, request).await;
                drop(share);
                running.pass(reply, Tap::new(protocol)).await;
                Ok::<_, Fault>(())
            };
            tokio::select! {
                _ = asking => {}
                () = running.cancel.cancelled() => {}
                () = running.abandoned() => {}
                () = shared.shutdown.cancelled() => {}
            }
            // What was asked is dropped by now, which stops the provider; a chat that was told its end has it already.
            running.end(json!({ "complete": false, "canceled": true }));
            tokio::select! {
                () = sleep(KEPT_FOR) => {}
                () = shared.shutdown.cancelled() => {}
            }
            shared.chats.lock().remove(&running.id);
        });
        Ok(chat)
    }

    /// One of the caller's own; that of somebody else does not exist.
    pub fn find(&self, caller: &Caller, id: &RequestId) -> Result<Arc<Chat>> {
        let found = self.lock().get(id).filter(|chat| chat.owner == caller.context.owner).cloned();
        found.ok_or_else(|| Fault::new(Code::WS_PROTOCOL, format!("no chat has the id {id}")))
    }

    fn enter(&self, id: RequestId, owner: &str) -> Result<Arc<Chat>> {
        let mut chats = self.lock();
        let own = |chats: &HashMap<_, Arc<Chat>>| chats.values().filter(|chat| chat.owner == owner).count();
        // What is over makes room; ids are in the order of time.
        while own(&chats) >= CHATS_PER_OWNER_MAX {
            let over = chats.values().filter(|chat| chat.owner == owner && chat.is_over()).map(|chat| chat.id.clone());
            let Some(oldest) = over.min() else { break };
            chats.remove(&oldest);
        }
        let own = own(&chats);
        if own >= CHATS_PER_OWNER_MAX || chats.len() >= CHATS_MAX {
            let message = format!("a token has at most {CHATS_PER_OWNER_MAX} chats at once, all together {CHATS_MAX}");
            return Err(Fault::new(Code::GATEWAY_RATE_LIMITED, message).retry_after(KEPT_FOR));
        }
        let chat = Arc::new(Chat {
            id: id.clone(),
            owner: owner.to_owned(),
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            cancel: CancellationToken::new(),
        });
        chats.insert(id, Arc::clone(&chat));
        Ok(chat)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<Chat>>> {
        // A map of chats is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chat {
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The provider is stopped at once.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Follows the chat from after this piece. Fails if a later one is no longer kept.
    pub fn attach(self: &Arc<Self>, after_seq: u64) -> Result<Reader> {
        let mut state = self.lock();
        let first = state.pieces.front().map_or(state.last_seq + 1, |(seq, _)| *seq);
        if after_seq + 1 < first || after_seq > state.last_seq {
            let message = format!("pieces are kept from {first} to {}", state.last_seq);
            return Err(Fault::new(Code::CURSOR_INVALID, message));
        }
        state.readers += 1;
        drop(state);
        self.changed.send_replace(());
        Ok(Reader { chat: Arc::clone(self), after_seq })
    }

    /// Passes an answer on as pieces.
    async fn pass(&self, reply: ModelReply, mut tap: Tap) {
        match reply.body {
            ModelBody::Whole(body) => self.end(json!({ "status": reply.status, "complete": true, "body": raw(&body) })),
            ModelBody::Stream(mut stream) => {
                let mut scanner = sse::Scanner::default();
                while let Some(bytes) = stream.recv().await {
                    scanner.push(&bytes);
                    while let Ok(Some(frame)) = scanner.next_frame() {
                        self.say(&frame, &mut tap).await;
                    }
                }
                if let Ok(Some(frame)) = scanner.end() {
                    self.say(&frame, &mut tap).await;
                }
                self.end(json!({ "status": reply.status, "complete": tap.is_terminal() }));
            }
        }
    }

    async fn say(&self, frame: &sse::Frame, tap: &mut Tap) {
        tap.frame(frame);
        if !frame.is_comment() {
            let event = frame.event.as_deref().map(String::from_utf8_lossy);
            self.push(json!({ "type": "chat.piece", "event": event, "data": raw(&frame.data) })).await;
        }
    }

    /// Waits while more is kept than may be and nobody has taken the oldest of it.
    async fn push(&self, piece: Value) {
        let mut changed = self.changed.subscribe();
        let bytes = piece.to_string().len();
        loop {
            if self.lock().make_room(bytes) {
                return self.keep(piece);
            }
            // The sender is ours.
            let _ = changed.changed().await;
        }
    }

    /// The last piece, once. It is small and waits for nobody.
    fn end(&self, mut facts: Value) {
        if !self.lock().is_over {
            facts["type"] = "chat.end".into();
            self.keep(facts);
        }
    }

    fn keep(&self, mut piece: Value) {
        let mut state = self.lock();
        state.last_seq += 1;
        (piece["chat"], piece["seq"]) = (self.id.as_str().into(), state.last_seq.into());
        state.is_over |= piece["type"] == "chat.end";
        let (seq, text) = (state.last_seq, piece.to_string());
        state.bytes += text.len();
        state.pieces.push_back((seq, text));
        drop(state);
        self.changed.send_replace(());
    }

    /// Returns when nobody has followed the chat for as long as it may be left alone.
    async fn abandoned(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            while self.lock().readers > 0 {
                // The sender is ours.
                let _ = changed.changed().await;
            }
            let came = async {
                while self.lock().readers == 0 {
                    let _ = changed.changed().await;
                }
            };
            if timeout(KEPT_FOR, came).await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts and texts: whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.bytes > 0 && self.bytes + bytes > KEPT_BYTES_MAX {
            match self.pieces.front() {
                Some((seq, text)) if *seq <= self.taken_seq => self.bytes -= text.len(),
                _ => return false,
            }
            self.pieces.pop_front();
        }
        true
    }
}

/// One session's place in a chat.
#[derive(Debug)]
pub(crate) struct Reader {
    chat: Arc<Chat>,
    after_seq: u64,
}

impl Reader {
    /// Hands the pieces on until the last one, or until nobody takes them.
    pub async fn follow(mut self, out: mpsc::Sender<String>) {
        let mut changed = self.chat.changed.subscribe();
        loop {
            let (next, is_over) = {
                let state = self.chat.lock();
                let next = state.pieces.iter().find(|(seq, _)| *seq > self.after_seq).cloned();
                (next, state.is_over)
            };
            match next {
                Some((seq, text)) => {
                    if out.send(text).await.is_err() {
                        return;
                    }
                    self.after_seq = seq;
                    let mut state = self.chat.lock();
                    state.taken_seq = state.taken_seq.max(seq);
                    drop(state);
                    self.chat.changed.send_replace(());
                    changed.borrow_and_update();
                }
                None if is_over => return,
                None => {
                    let _ = changed.changed().await;
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.chat.lock().readers -= 1;
        self.chat.changed.send_replace(());
    }
}

/// A stream, unless the body says otherwise.
fn body_of(body: Value) -> Result<Bytes> {
    match body {
        Value::Object(mut fields) => {
            fields.entry("stream").or_insert(Value::Bool(true));
            Ok(Value::Object(fields).to_string().into())
        }
        Value::String(text) => Ok(text.into()),
        _ => Err(Fault::new(Code::WS_PROTOCOL, "a body is an object or its JSON text")),
    }
}

/// JSON as a value, and anything else as the text that it is.
fn raw(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}
