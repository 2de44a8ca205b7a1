//! A record is durable in an append-only file before the embedded database has it.
//!
//! A call that writes records and nothing else would pay for a whole transaction: two wakes of threads, a commit, a signature.
//! Here it pays for one write to a file and one sync of it, done by its own thread where nobody else is in line. The writer takes
//! what has gathered into its next transaction, before that transaction's own operations, so that the log has the order in which
//! callers were answered; with it goes a row that says how far it came, so that nothing is sealed twice.
//!
//! What is not possible here goes the ordinary way, through the writer: more than the bounds allow, records while the database
//! refuses, everything once a file has failed. Postgres has no spool.

mod files;
mod frame;
mod queue;
mod recovery;
mod sync;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, audit::AuditEvent};

use self::{
    files::{Disk, Half, Medium, NAMES, TURN_BYTES},
    frame::{Draft, Head, Link, SpoolId},
    queue::Queue,
    sync::Line,
};
pub(crate) use self::{
    queue::{Backlog, DRAIN_MAX},
    recovery::{Mark, recover},
    sync::Keeper,
};

/// Events that one call may bring. More than that is no call.
const EVENTS_MAX: usize = 64;

pub(crate) struct Spool {
    id: SpoolId,
    medium: Box<dyn Medium>,
    state: Mutex<State>,
    /// Wakes the thread that syncs and asks for drains.
    wake: Condvar,
    /// Events that the database does not have yet. Told without the lock to those who read.
    waiting: AtomicUsize,
    /// The last thing that the database said was a refusal: what it would not take is not acknowledged either.
    is_refused: AtomicBool,
}

struct State {
    standing: Standing,
    /// Number and checksum of the newest frame.
    number: u64,
    link: Link,
    present: Half,
    other: Half,
    queue: Queue,
    line: Line,
    is_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The database does not know this spool yet: its frames would be nobody's after a crash.
    Unknown,
    Open,
    /// A file has failed. What a sync that failed has lost, no later sync can tell.
    Failed,
}

impl Spool {
    pub(crate) fn new(directory: &Path, id: SpoolId) -> Arc<Self> {
        Self::on(Box::new(Disk(directory.to_owned())), id)
    }

    fn on(medium: Box<dyn Medium>, id: SpoolId) -> Arc<Self> {
        let [present, other] = NAMES.map(Half::new);
        let state = State {
            standing: Standing::Unknown,
            number: 0,
            link: Link::default(),
            present,
            other,
            queue: Queue::default(),
            line: Line::default(),
            is_ended: false,
        };
        Arc::new(Self {
            id,
            medium,
            state: Mutex::new(state),
            wake: Condvar::new(),
            waiting: AtomicUsize::new(0),
            is_refused: AtomicBool::new(false),
        })
    }

    /// Nothing under the lock can panic halfway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that the database does not have yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// The database refuses: until a commit of records succeeds, every record waits for one.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// Puts the events into the file, all in one frame, and in line for the database. Gives them back where that is not possible.
    pub(crate) fn append(&self, events: Vec<AuditEvent>) -> Result<u64, Vec<AuditEvent>> {
        if self.is_refused() || events.is_empty() || events.len() > EVENTS_MAX {
            return Err(events);
        }
        let Some(draft) = Draft::of(&events) else { return Err(events) };
        let mut state = self.state();
        let number = state.number.saturating_add(1);
        if state.standing != Standing::Open || state.is_ended || !state.queue.has_room(events.len(), draft.len()) {
            return Err(events);
        }
        if let Err(source) = state.make_room(self.medium.as_ref(), draft.len()) {
            // A full disk has room again some day. Nothing of the frame is written.
            if source.kind() != io::ErrorKind::StorageFull {
                state.fail(&source);
            }
            return Err(events);
        }
        let durable = state.line.durable;
        let head = Head { spool: self.id, number, durable, previous: state.link };
        let (bytes, link) = draft.placed(&head);
        if let Err(source) = state.present.append(&bytes, number) {
            state.fail(&source);
            return Err(events);
        }
        hit(Point::StoreSpoolWritten);
        (state.number, state.link) = (number, link);
        // Before the writer can take them.
        self.waiting.fetch_add(events.len(), Ordering::Release);
        let is_first = state.queue.push(number, link, events, bytes.len());
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
        Ok(number)
    }

    /// Hands the writer what waits, up to what one transaction takes. What it holds already, it keeps.
    pub(crate) fn hand_over(&self, backlog: &mut Backlog) {
        self.state().queue.hand_over(backlog);
    }

    /// What the row says once the backlog is in the database. `None` where it says so already.
    pub(crate) fn mark(&self, backlog: &Backlog) -> Option<Mark> {
        let first = Mark { spool: self.id, number: 0, link: Link::default() };
        match backlog.newest() {
            Some((number, link)) => Some(Mark { spool: self.id, number, link }),
            None if self.state().standing == Standing::Unknown => Some(first),
            None => None,
        }
    }

    /// A commit is durable, with the backlog in it and perhaps more.
    pub(crate) fn drained(&self, backlog: &mut Backlog, has_sealed: bool) {
        if !has_sealed {
            return;
        }
        if backlog.newest().is_some() {
            hit(Point::StoreSpoolDrained);
        }
        self.is_refused.store(false, Ordering::Relaxed);
        let mut state = self.state();
        if state.standing == Standing::Unknown {
            state.standing = Standing::Open;
        }
        let events = state.queue.drained(backlog);
        self.waiting.fetch_sub(events, Ordering::Release);
        let number = state.queue.drained_to();
        let served = state.line.advance(number);
        drop(state);
        served.into_iter().for_each(|waiter| waiter.answer(true));
    }

    /// Whether the database has this frame.
    pub(crate) fn has_drained(&self, number: u64) -> bool {
        self.state().queue.drained_to() >= number
    }

    /// The orderly end, after the last commit. What the database has is needed nowhere else.
    pub(crate) fn remove(&self) {
        if self.waiting() > 0 {
            tracing::warn!(events = self.waiting(), "records wait in the data directory for the next start");
            return;
        }
        let state = self.state();
        if state.number > 0
            && let Err(failure) = self.medium.remove(&NAMES)
        {
            tracing::warn!(%failure, "the empty files of waiting records could not be removed");
        }
    }
}

/// Takes away what a dead server has left, once the database has it.
pub(crate) fn clear(directory: &Path) -> io::Result<()> {
    if NAMES.iter().any(|name| directory.join(name).exists()) {
        Disk(directory.to_owned()).remove(&NAMES)
    } else {
        Ok(())
    }
}

/// A program that knows of no spool would start without the records that wait in it.
pub(crate) fn require_none(directory: &Path) -> Result<(), Fault> {
    if NAMES.iter().any(|name| directory.join(name).exists()) {
        return Err(Fault::new(Code::USAGE, "the server has not ended in order: records wait for the audit log")
            .hint("start this release once more and stop it with: agent-os down"));
    }
    Ok(())
}

impl State {
    /// In the present file, or in the other one when it is time and nothing in it is needed any more.
    fn make_room(&mut self, medium: &dyn Medium, bytes: usize) -> io::Result<()> {
        let end = self.present.used.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if end > TURN_BYTES && self.other.newest <= self.queue.drained_to() {
            std::mem::swap(&mut self.present, &mut self.other);
            self.present.used = 0;
        }
        self.present.make_room(medium, bytes)
    }

    fn fail(&mut self, source: &io::Error) {
        if self.standing != Standing::Failed {
            tracing::error!(%source, "a file of waiting records fails: until the next start records go to the database itself");
        }
        self.standing = Standing::Failed;
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
