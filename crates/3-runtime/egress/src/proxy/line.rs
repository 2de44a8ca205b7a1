//! Questions and reports to the server, and its answers. All sandboxes share one line.
//!
//! Memory is bounded by turns: a question holds its turn until it is answered, a report of a refusal until it is sent. The
//! end of a granted wish needs no turn, because there is one for each answer.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use agentos_protocol::egress::{FromProxy, Refusal, Verdict, Wish};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{channel::Channel, grant::Grant, guest::Guest, stop::Stop};

/// Questions without an answer. A server that falls this far behind slows sandboxes down instead of filling the memory.
const ASKS_MAX: usize = 4_096;
/// Reports of refusals that wait for the socket.
const REFUSALS_MAX: usize = 256;

/// Characters of a target in a report: a name, a port, and some more to see that it is too long.
const TARGET_MAX: usize = 300;

pub(super) struct Line {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    pending: Mutex<HashMap<u64, Pending>>,
    next: AtomicU64,
    asks: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// A message, and its turn if it has one, given back when it is sent.
pub(super) struct Outgoing {
    message: FromProxy,
    _turn: Option<OwnedSemaphorePermit>,
}

/// A question that waits. Who asked may be gone by the time of the answer.
struct Pending {
    guest: Arc<Guest>,
    answer: oneshot::Sender<Answer>,
    _turn: OwnedSemaphorePermit,
}

/// What was allowed to a connection.
pub(super) enum Allowed {
    Out(Grant),
    /// It ends at the models of the server, by this socket.
    Models(OwnedFd),
}

/// A grant reports its own end when it is dropped, so one that nobody waits for any more is reported as well.
enum Answer {
    Granted(Grant),
    Models(OwnedFd),
    Named { number: Option<u32> },
    Denied { code: String, message: String },
}

impl Line {
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let line = Self {
            outgoing,
            pending: Mutex::default(),
            next: AtomicU64::new(1),
            asks: Arc::new(Semaphore::new(ASKS_MAX)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        };
        (Arc::new(line), queue)
    }

    /// Waits for the answer, however long the server takes: the limits of the connection end it.
    pub async fn ask(self: &Arc<Self>, guest: &Arc<Guest>, wish: Wish) -> Result<Grant, Stop> {
        match self.ask_either(guest, wish).await? {
            Allowed::Out(grant) => Ok(grant),
            // What was asked has no end here; its socket is closed.
            Allowed::Models(_) => Err(Stop::Broken),
        }
    }

    /// The same for a connection that may also end at models.
    pub async fn ask_either(self: &Arc<Self>, guest: &Arc<Guest>, wish: Wish) -> Result<Allowed, Stop> {
        match self.answer(guest, wish).await? {
            Answer::Granted(grant) => Ok(Allowed::Out(grant)),
            Answer::Models(end) => Ok(Allowed::Models(end)),
            Answer::Denied { code, message } => Err(Stop::Denied { code, message }),
            Answer::Named { .. } => Err(Stop::Broken),
        }
    }

    /// Whether a program may know a name, and by which number; without one it has had all that it may have.
    pub async fn ask_name(self: &Arc<Self>, guest: &Arc<Guest>, host: String) -> Result<Option<u32>, Stop> {
        match self.answer(guest, Wish::Name { host }).await? {
            Answer::Named { number } => Ok(number),
            Answer::Denied { code, message } => Err(Stop::Denied { code, message }),
            Answer::Granted(_) | Answer::Models(_) => Err(Stop::Broken),
        }
    }

    async fn answer(self: &Arc<Self>, guest: &Arc<Guest>, wish: Wish) -> Result<Answer, Stop> {
        let turn = Arc::clone(&self.asks).acquire_owned().await.map_err(|_| Stop::NobodyToAsk)?;
        let ask = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.pending().insert(ask, Pending { guest: Arc::clone(guest), answer, _turn: turn });
        self.post(FromProxy::Ask { ask, sandbox: guest.id, wish });
        answered.await.map_err(|_| Stop::NobodyToAsk)
    }

    /// The server's answer, with what came beside it. One to a question that was never asked, or a second one, changes
    /// nothing.
    pub fn answered(self: &Arc<Self>, ask: u64, verdict: Verdict, mut descriptors: Vec<OwnedFd>) {
        let Some(pending) = self.pending().remove(&ask) else {
            tracing::warn!(ask, "an answer without a question");
            return;
        };
        let answer = match verdict {
            Verdict::Allowed { headers, private_allowed } => {
                Answer::Granted(Grant::new(Arc::clone(self), ask, pending.guest, headers, private_allowed))
            }
            Verdict::Named { number } => Answer::Named { number },
            Verdict::Models => match (descriptors.pop(), descriptors.is_empty()) {
                (Some(end), true) => Answer::Models(end),
                // Without its socket it leads nowhere; whoever asked sees that nobody answers.
                _ => return,
            },
            Verdict::Denied { code, message } => Answer::Denied { code, message },
        };
        drop(pending.answer.send(answer));
    }

    pub async fn refuse(&self, sandbox: u64, target: Option<String>, reason: Refusal) {
        // What a program calls a name can be as long as a head.
        let target =
            target.map(|text| text.chars().filter(|character| !character.is_control()).take(TARGET_MAX).collect());
        let Ok(turn) = Arc::clone(&self.refusals).acquire_owned().await else { return };
        self.post_in_turn(FromProxy::Refused { sandbox, target, reason }, Some(turn));
    }

    /// Without a turn: what the server has caused itself, by an answer or by a ping.
    pub fn post(&self, message: FromProxy) {
        self.post_in_turn(message, None);
    }

    fn post_in_turn(&self, message: FromProxy, turn: Option<OwnedSemaphorePermit>) {
        // The other end lives as long as the proxy.
        let _ = self.outgoing.send(Outgoing { message, _turn: turn });
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what is posted, in order, until the socket fails.
pub(super) async fn deliver(channel: &Channel, mut queue: mpsc::UnboundedReceiver<Outgoing>) -> io::Result<()> {
    while let Some(outgoing) = queue.recv().await {
        let bytes = serde_json::to_vec(&outgoing.message).map_err(io::Error::other)?;
        channel.send(&bytes).await?;
    }
    Ok(())
}
