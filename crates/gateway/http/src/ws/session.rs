//! The loop of one WebSocket session: messages in, replies and pushes out, rights checked all the way.
//!
//! Commands run side by side, up to a limit, so that one connection can keep the store's group commit busy; replies carry
//! the message's id and may overtake each other. Subscribing happens in order.
//!
//! Each command is a task of its own and goes on whatever the session waits for. Were it only looked at between messages,
//! it could hold a reader of the store while the session waits for one, and with it everybody.

use std::{sync::Arc, time::Duration};

use agentos_base::trace::{self, Scope};
use agentos_types::{Code, Fault, RequestId, Result};
use axum::extract::ws::{Message, WebSocket};
use futures_util::{FutureExt, StreamExt, stream::SplitStream};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    identity::{Asker, Bearer, Caller, unauthenticated},
    reach::{Reach, Right},
    shared::{Connection, Shared},
    ws::{
        chats::{Chat, Reader},
        commands,
        messages::{self, Command, Incoming, MessageAccess},
        outbox::{self, Close, Outbox},
        subscriptions::Subscriptions,
    },
};

/// Time for the first message, which must authenticate; a shorter request timeout goes before it.
const AUTH_TIMEOUT_MAX: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Three pings without any answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pieces of chats that wait for the outbox. What else waits is kept by the chats.
const PIECES_MAX: usize = 8;
/// Commands of one session that run at the same time; more wait in the client's socket.
const IN_FLIGHT_MAX: usize = 64;
/// Messages in a row that are not of the protocol before the session is closed.
const BAD_MESSAGES_MAX: u32 = 8;
/// Time for the peer to take the close frame before the connection is dropped.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts open sessions, however they end.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.websockets.dec();
    }
}

pub(crate) async fn serve(socket: WebSocket, shared: Arc<Shared>, connection: Arc<Connection>, bearer: Option<Bearer>) {
    shared.metrics.websockets.inc();
    let _counted = Counted(Arc::clone(&shared));
    let (sink, mut stream) = socket.split();
    // Shorter than the patience of the connection's stall guard, which would cut without a word.
    let (outbox, writing) = outbox::open(sink, shared.request_timeout / 2);
    let mut writing = std::pin::pin!(writing);
    let auth_timeout = shared.request_timeout.min(AUTH_TIMEOUT_MAX);
    let auth_deadline = bearer.is_none().then(|| Instant::now() + auth_timeout);
    let session = Session {
        shared,
        connection,
        bearer,
        outbox,
        subscriptions: Subscriptions::default(),
        in_flight: JoinSet::new(),
        chats: Vec::new(),
        followed: JoinSet::new(),
        pieces: mpsc::channel(PIECES_MAX),
        bad_messages: 0,
        heard_at: Instant::now(),
        auth_deadline,
    };
    tokio::select! {
        () = session.run(&mut stream) => writing.await,
        () = &mut writing => {}
    }
    // The peer's last bytes are read, so that closing the socket does not reset it before the close frame arrived.
    let _ = timeout(FAREWELL_TIMEOUT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
}

struct Session {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    /// The token that the session was authenticated with.
    bearer: Option<Bearer>,
    outbox: Outbox,
    subscriptions: Subscriptions,
    /// Ends with the session.
    in_flight: JoinSet<String>,
    /// Those that were begun or resumed here.
    chats: Vec<Arc<Chat>>,
    /// Hands their pieces over; ends with the session.
    followed: JoinSet<()>,
    pieces: (mpsc::Sender<String>, mpsc::Receiver<String>),
    bad_messages: u32,
    heard_at: Instant,
    auth_deadline: Option<Instant>,
}

impl Session {
    async fn run(mut self, stream: &mut SplitStream<WebSocket>) {
        let (mut ping, mut recheck) = (every(PING_INTERVAL), every(self.shared.recheck_interval));
        let close = loop {
            if let Err(close) = self.step(stream, &mut ping, &mut recheck).await {
                break close;
            }
        };
        if close == Close::GoingAway {
            // What was begun is answered; the drain of the gateway bounds this as well.
            let _ = timeout(FAREWELL_TIMEOUT, self.finish_commands()).await;
        }
        if close == Close::Unauthenticated {
            self.chats.iter().for_each(|chat| chat.cancel());
        }
        self.outbox.close(close).await;
    }

    async fn finish_commands(&mut self) {
        while let Some(Ok(reply)) = self.in_flight.join_next().await {
            if self.outbox.send(reply).await.is_err() {
                return;
            }
        }
    }

    /// Waits for one thing to do and does it.
    async fn step(
        &mut self,
        stream: &mut SplitStream<WebSocket>,
        ping: &mut Interval,
        recheck: &mut Interval,
    ) -> Result<(), Close> {
        let auth_deadline = self.auth_deadline;
        tokio::select! {
            () = self.shared.shutdown.cancelled() => Err(Close::GoingAway),
            () = self.connection.slot.displaced() => Err(Close::Displaced),
            () = sleep_until(auth_deadline.unwrap_or_else(Instant::now)), if auth_deadline.is_some() => {
                Err(Close::Unauthenticated)
            }
            _ = ping.tick() => self.keep_alive().await,
            _ = recheck.tick(), if auth_deadline.is_none() => self.recheck().await,
            message = stream.next(), if self.in_flight.len() < IN_FLIGHT_MAX => {
                self.heard_at = Instant::now();
                self.hear(message).await
            }
            Some(done) = self.in_flight.join_next(), if !self.in_flight.is_empty() => match done {
                Ok(reply) => self.outbox.send(reply).await,
                // Panics are caught inside; what is left is the end of the runtime.
                Err(_) => Err(Close::GoingAway),
            },
            Some(piece) = self.pieces.1.recv() => self.outbox.send(piece).await,
            Some(_) = self.followed.join_next(), if !self.followed.is_empty() => Ok(()),
            () = self.subscriptions.changed() => Ok(()),
            () = std::future::ready(()), if self.subscriptions.has_due() => self.push_due().await,
        }
    }

    async fn push_due(&mut self) -> Result<(), Close> {
        for push in self.subscriptions.due_batch(&self.shared).await {
            self.outbox.send(push).await?;
        }
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), Close> {
        if self.heard_at.elapsed() > IDLE_TIMEOUT { Err(Close::Idle) } else { self.outbox.ping().await }
    }

    /// Ends the session when its token is no longer valid. A store that cannot say so now is asked again.
    async fn recheck(&mut self) -> Result<(), Close> {
        match &self.bearer {
            Some(bearer) if matches!(self.shared.identify(bearer).await, Ok(None)) => Err(Close::Unauthenticated),
            _ => Ok(()),
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Close> {
        match message {
            Some(Ok(Message::Text(text))) => match messages::parse(&text) {
                Ok(incoming) => self.handle(incoming).await,
                Err(malformed) => self.refuse(&malformed.id, malformed.fault).await,
            },
            Some(Ok(Message::Binary(_))) => {
                let fault = Fault::new(Code::WS_PROTOCOL, "messages are JSON in text frames");
                self.refuse(&Value::Null, fault).await
            }
            // Answered by the library; a flood of them counts like any other message.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.shared.take_from_peer(self.connection.peer).map_err(|_| Close::TooFast)
            }
            Some(Err(failure)) if is_too_large(&failure) => Err(Close::TooLarge),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Close::Gone),
        }
    }

    /// Replies to a message that is not of the protocol.
    async fn refuse(&mut self, id: &Value, fault: Fault) -> Result<(), Close> {
        self.bad_messages += 1;
        let is_rate_exceeded = self.shared.take_from_peer(self.connection.peer).is_err();
        self.reply(id, Err(fault)).await?;
        match (self.auth_deadline, self.bad_messages >= BAD_MESSAGES_MAX) {
            (Some(_), _) => Err(Close::Unauthenticated),
            (None, true) => Err(Close::Protocol),
            (None, false) if is_rate_exceeded => Err(Close::TooFast),
            (None, false) => Ok(()),
        }
    }

    async fn reply(&mut self, id: &Value, outcome: Result<Value>) -> Result<(), Close> {
        self.outbox.send(commands::reply(id, &outcome, self.shared.ambient.request_id())).await
    }

    async fn handle(&mut self, incoming: Incoming) -> Result<(), Close> {
        let (id, kind) = (incoming.id.clone(), incoming.kind);
        let command = match incoming.command() {
            Ok(command) => command,
            Err(fault) => return self.refuse(&id, fault).await,
        };
        if self.bearer.is_none() {
            return self.authenticate(&id, command).await;
        }
        let request_id = self.shared.ambient.request_id();
        let caller = match self.admit(kind.name, kind.access, &request_id).await {
            Ok(caller) => caller,
            Err(fault) => {
                let is_over = [Code::UNAUTHENTICATED, Code::AUTH_LOCKED].contains(&fault.code);
                self.reply(&id, Err(fault)).await?;
                return if is_over { Err(Close::Unauthenticated) } else { Ok(()) };
            }
        };
        self.bad_messages = 0;
        match command {
            Command::Authenticate(_) => {
                self.refuse(&id, Fault::new(Code::WS_PROTOCOL, "the session is authenticated already")).await
            }
            Command::Subscribe(topic) => {
                let opened = self.subscriptions.open(&self.shared, &caller, topic).await;
                self.reply(&id, opened.map(|number| json!({ "subscription": number }))).await
            }
            Command::Unsubscribe(number) => {
                let closed = self.subscriptions.close(number);
                self.reply(&id, closed.map(|()| json!({}))).await
            }
            Command::Chat(asked) => {
                let begun = self.shared.chats.begin(&self.shared, &caller, asked);
                let read = begun.and_then(|chat| Ok((chat.attach(0)?, chat)));
                self.follow(&id, read).await
            }
            Command::ResumeChat(chat, after_seq) => {
                let found = self.shared.chats.find(&caller, &chat);
                let read = found.and_then(|chat| Ok((chat.attach(after_seq)?, chat)));
                self.follow(&id, read).await
            }
            command => {
                let scope = Scope { request_id: Some(request_id.to_string()), ..trace::current().unwrap_or_default() };
                self.in_flight.spawn(trace::scoped(scope, run(Arc::clone(&self.shared), id, caller, command)));
                Ok(())
            }
        }
    }

    /// Replies with the chat's id, then pushes its pieces.
    async fn follow(&mut self, id: &Value, read: Result<(Reader, Arc<Chat>)>) -> Result<(), Close> {
        let (reader, chat) = match read {
            Ok(read) => read,
            Err(fault) => return self.reply(id, Err(fault)).await,
        };
        self.reply(id, Ok(json!({ "chat": chat.id() }))).await?;
        self.followed.spawn(reader.follow(self.pieces.0.clone()));
        self.chats.retain(|known| !known.is_over() && !Arc::ptr_eq(known, &chat));
        self.chats.push(chat);
        Ok(())
    }

    /// Token, rate and scope of one message.
    async fn admit(&mut self, name: &'static str, access: MessageAccess, request_id: &RequestId) -> Result<Caller> {
        let asker = Asker { peer: self.connection.peer, request_id, route: name };
        let principal = self.shared.admit(&asker, self.bearer.as_ref()).await?;
        let reach = match access {
            MessageAccess::Session => Reach::Nothing,
            MessageAccess::Scope(needed) => self.shared.require(&asker, &principal, Right::Whole(needed)).await?,
            MessageAccess::Own(needed) => self.shared.require(&asker, &principal, Right::OrOwn(needed)).await?,
        };
        let bearer = self.bearer.clone().ok_or_else(|| unauthenticated(false))?;
        Ok(asker.caller(&principal, bearer, reach))
    }

    /// The first message. Anything but a valid token ends the session.
    async fn authenticate(&mut self, id: &Value, command: Command) -> Result<(), Close> {
        let Command::Authenticate(token) = command else {
            let fault = Fault::new(Code::WS_PROTOCOL, "the first message must be of the type auth");
            return self.refuse(id, fault).await;
        };
        let bearer = Bearer::new(&token);
        let request_id = self.shared.ambient.request_id();
        let asker = Asker { peer: self.connection.peer, request_id: &request_id, route: "auth" };
        match self.shared.admit_on(&self.connection, &asker, Some(&bearer)).await {
            Ok(principal) => {
                (self.bearer, self.auth_deadline) = (Some(bearer), None);
                let welcome = json!({ "token": principal.token, "name": principal.name, "role": principal.role, "scopes": principal.scopes });
                self.reply(id, Ok(welcome)).await
            }
            Err(fault) => {
                self.reply(id, Err(fault)).await?;
                Err(Close::Unauthenticated)
            }
        }
    }
}

/// A command on its own, with a panic in it confined to its reply.
async fn run(shared: Arc<Shared>, id: Value, caller: Caller, command: Command) -> String {
    let executed = std::panic::AssertUnwindSafe(commands::execute(&shared, &caller, command)).catch_unwind().await;
    let outcome = executed.unwrap_or_else(|_| Err(Fault::internal("a command panicked")));
    commands::reply(&id, &outcome, caller.context.request_id)
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// The library reports a message above its limit only as text.
fn is_too_large(failure: &axum::Error) -> bool {
    failure.to_string().contains("too long") || failure.to_string().contains("too large")
}
