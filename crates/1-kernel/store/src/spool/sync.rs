//! Who syncs. A caller whom nobody is before does it by itself, as long as the disk is quick; a thread does it for all others, as
//! many as wait at once. The same thread asks the writer for a transaction when nothing else brings one.
//!
//! A caller that syncs blocks its thread, and whoever else is served there, for the length of a few page faults. Handing that over and
//! back would take two wakes of threads, which hold them up as long. Where the disk is not quick the thread does it.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agentos_failpoint::{Point, hit};
use agentos_types::{Fault, Result};
use tokio::sync::{mpsc, oneshot};

use super::{Spool, Standing, State, files::Part};
use crate::writer::{Drain, Operation};

/// A disk whose syncs take longer on average is waited for by the thread.
const QUICK_US: u64 = 300;
/// What one sync counts at most, so that a single slow one does not turn away who comes next.
const SYNC_US_MAX: u64 = 1_000;
/// The newest sync weighs one part in so many.
const WEIGHT: u64 = 8;

/// Those in line for a sync.
#[derive(Debug)]
pub(super) struct Line {
    /// Every frame up to this number is durable, here or in the database.
    pub(super) durable: u64,
    is_syncing: bool,
    /// One a frame at most, so that the bound of the queue is theirs too.
    waiters: Vec<Waiter>,
    /// Running average. Begins as slow: the first sync has to write the file's size too.
    sync_us: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self { durable: 0, is_syncing: false, waiters: Vec::new(), sync_us: 2 * QUICK_US }
    }
}

#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    reply: oneshot::Sender<bool>,
}

impl Waiter {
    pub(super) fn answer(self, is_durable: bool) {
        // The caller may have gone away; its records are there all the same.
        let _ = self.reply.send(is_durable);
    }
}

impl Line {
    /// Everything up to `number` is durable. Returns whom that serves.
    pub(super) fn advance(&mut self, number: u64) -> Vec<Waiter> {
        self.durable = self.durable.max(number);
        let durable = self.durable;
        self.waiters.extract_if(.., |waiter| waiter.number <= durable).collect()
    }

    /// As after many quick syncs.
    #[cfg(test)]
    pub(super) fn quick(&mut self) {
        self.sync_us = 0;
    }

    fn measured(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(SYNC_US_MAX).min(SYNC_US_MAX);
        self.sync_us = (self.sync_us.saturating_mul(WEIGHT - 1).saturating_add(took)) / WEIGHT;
    }
}

/// A sync that was begun: nobody else begins one until it has ended.
struct Sync {
    parts: Vec<Arc<dyn Part>>,
    until: u64,
}

impl State {
    fn begin_sync(&mut self) -> Sync {
        self.line.is_syncing = true;
        let halves = [&mut self.present, &mut self.other].into_iter().filter(|half| half.is_unsynced);
        let parts = halves.filter_map(|half| {
            half.is_unsynced = false;
            half.part()
        });
        Sync { parts: parts.collect(), until: self.number }
    }
}

/// How a caller's frame stands.
enum Place {
    Decided(bool),
    First(Sync),
    InLine(oneshot::Receiver<bool>),
}

impl Spool {
    /// Waits until the frame is durable. False if this file cannot make it so: then the database has to.
    pub(crate) async fn durable(&self, number: u64) -> bool {
        match self.place(number) {
            Place::Decided(is_durable) => is_durable,
            Place::First(sync) => self.sync(&sync),
            Place::InLine(served) => served.await.unwrap_or(false),
        }
    }

    fn place(&self, number: u64) -> Place {
        let mut state = self.state();
        if state.line.durable >= number {
            return Place::Decided(true);
        }
        if state.standing == Standing::Failed {
            return Place::Decided(false);
        }
        if !state.line.is_syncing && state.line.waiters.is_empty() && state.line.sync_us <= QUICK_US {
            return Place::First(state.begin_sync());
        }
        let (reply, served) = oneshot::channel();
        state.line.waiters.push(Waiter { number, reply });
        if !state.line.is_syncing {
            self.wake.notify_one();
        }
        Place::InLine(served)
    }

    /// Never tried again when it fails: the kernel may have forgotten what it could not write.
    fn sync(&self, sync: &Sync) -> bool {
        let began = Instant::now();
        let outcome: io::Result<()> = sync.parts.iter().try_for_each(|part| part.sync());
        let mut state = self.state();
        state.line.is_syncing = false;
        state.line.measured(began.elapsed());
        let served = match &outcome {
            Ok(()) => state.line.advance(sync.until),
            Err(source) => {
                state.fail(source);
                std::mem::take(&mut state.line.waiters)
            }
        };
        if !state.line.waiters.is_empty() {
            self.wake.notify_one();
        }
        drop(state);
        if outcome.is_ok() {
            hit(Point::StoreSpoolSynced);
        }
        served.into_iter().for_each(|waiter| waiter.answer(outcome.is_ok()));
        outcome.is_ok()
    }

    /// The transaction that the thread has asked for has ended.
    pub(crate) fn answered(&self, is_done: bool) {
        self.state().queue.answered(is_done);
        self.wake.notify_one();
    }

    /// Until the end of the store.
    fn keep(self: &Arc<Self>, writer: &mpsc::WeakSender<Box<dyn Operation>>) {
        let mut state = self.state();
        while !state.is_ended {
            if !state.line.is_syncing && !state.line.waiters.is_empty() {
                let sync = state.begin_sync();
                drop(state);
                self.sync(&sync);
                state = self.state();
                continue;
            }
            let now = Instant::now();
            state = match state.queue.due() {
                Some(due) if due <= now => {
                    state.queue.asked();
                    drop(state);
                    // Where there is no room, those who take it bring a transaction.
                    let asked =
                        writer.upgrade().is_some_and(|writer| writer.try_send(Box::new(Drain(self.clone()))).is_ok());
                    if !asked {
                        self.state().queue.answered(true);
                    }
                    self.state()
                }
                Some(due) => {
                    let waited = self.wake.wait_timeout(state, due - now);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
        // Whoever is still in line is served by the last commit.
    }
}

/// The thread. Dropped, it waits for its end.
#[derive(Debug)]
pub(crate) struct Keeper {
    spool: Arc<Spool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(spool: Arc<Spool>, writer: mpsc::WeakSender<Box<dyn Operation>>) -> Result<Self> {
        let kept = spool.clone();
        let thread = thread::Builder::new().name("store-spool".into()).spawn(move || kept.keep(&writer));
        Ok(Self { spool, thread: Some(thread.map_err(Fault::internal)?) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.spool.state().is_ended = true;
        self.spool.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
