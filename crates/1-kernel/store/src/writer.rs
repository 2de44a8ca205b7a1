//! The writer thread: drain, run, seal, commit, answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use agentos_base::{
    Ambient, names,
    trace::{Kind, Span, TraceContext},
};
use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, Result, Timestamp, audit::AuditEvent, notify::Notice};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Conn, Sequencer,
    bell::Bell,
    link::Link,
    spool::{Backlog, DRAIN_MAX, Spool},
    sqlite::Checkpointer,
};

/// Operations in one commit. More would only delay the first answer: the fsync is already shared.
const BATCH_MAX: usize = 512;
/// Transactions that take nothing but waiting records, before one that does more: what waits is bounded by four of them.
const DRAINS_MAX: usize = 8;

/// A write transaction as an operation sees it. What it records and announces takes effect only if it returns `Ok` and
/// the batch commits.
#[derive(Debug)]
pub struct Tx<'c> {
    conn: Conn<'c>,
    events: Vec<AuditEvent>,
    notices: Vec<Notice>,
    spans: Vec<Span>,
    /// Sampled traces that this commit is for, and what it does for each.
    traced: Vec<(TraceContext, &'static str)>,
    /// Of the notices, those that other nodes need not hear.
    here: Vec<Notice>,
}

impl<'c> Tx<'c> {
    /// Puts an event into the audit log with this transaction.
    pub fn record(&mut self, event: AuditEvent) {
        self.events.push(event);
    }

    /// Sends a notice to the store's subscribers after the commit, here and on every other node of the database.
    pub fn announce(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Hands a span on after the commit: what the trace tells is what the journal holds.
    pub fn trace(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// Makes the commit part of a trace. `what` is one of the words of [`names::COMMIT_OF`]. Only for contexts that the
    /// tracer wants: without one, a commit costs nothing more.
    pub fn traced(&mut self, context: TraceContext, what: &'static str) {
        self.traced.push((context, what));
    }

    /// Sends a notice to the subscribers of this node alone: the others find out for themselves.
    pub fn announce_here(&mut self, notice: Notice) {
        self.here.push(notice);
    }
}

impl<'c> std::ops::Deref for Tx<'c> {
    type Target = Conn<'c>;
    fn deref(&self) -> &Conn<'c> {
        &self.conn
    }
}

/// One waiting write, its result type erased.
pub(crate) trait Operation: Send {
    /// Whether it may run a statement. What cannot needs no savepoint.
    fn has_statements(&self) -> bool {
        true
    }
    /// Runs inside a savepoint; false rolls it back.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Takes back what `run` said: a statement of it failed, and it did not say so.
    fn refuse(&mut self, fault: Fault);
    /// Answers the caller. `commit` tells whether the batch became durable.
    fn answer(self: Box<Self>, commit: Result<()>);
}

pub(crate) struct Pending<T, F> {
    operation: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Pending<T, F> {
    pub(crate) fn new(operation: F, reply: oneshot::Sender<Result<T>>) -> Self {
        Self { operation: Some(operation), outcome: None, reply }
    }
}

impl<T: Send, F: FnOnce(&mut Tx<'_>) -> Result<T> + Send> Operation for Pending<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(operation) = self.operation.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| operation(tx)))
            .unwrap_or_else(|_| Err(Fault::internal("a store operation panicked")));
        let succeeded = outcome.is_ok();
        self.outcome = Some(outcome);
        succeeded
    }

    fn refuse(&mut self, fault: Fault) {
        self.outcome = Some(Err(fault));
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        let outcome = match (self.outcome, commit) {
            // An operation that failed by itself says why, whatever became of the batch.
            (Some(Err(fault)), _) => Err(fault),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(fault)) => Err(fault),
            (None, Ok(())) => Err(Fault::internal("a store operation did not run")),
        };
        // The caller may have gone away; its write is done all the same.
        let _ = self.reply.send(outcome);
    }
}

/// Records and nothing else: what is written for each call of a model, twice.
pub(crate) struct Records {
    events: Vec<AuditEvent>,
    reply: oneshot::Sender<Result<()>>,
}

impl Records {
    pub(crate) fn new(events: Vec<AuditEvent>, reply: oneshot::Sender<Result<()>>) -> Self {
        Self { events, reply }
    }
}

impl Operation for Records {
    fn has_statements(&self) -> bool {
        false
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        tx.events.append(&mut self.events);
        true
    }

    fn refuse(&mut self, _: Fault) {}

    fn answer(self: Box<Self>, commit: Result<()>) {
        // The caller may have gone away; its records are written all the same.
        let _ = self.reply.send(commit);
    }
}

/// Nothing by itself: the transaction takes the records that wait.
pub(crate) struct Drain(pub(crate) Arc<Spool>);

impl Operation for Drain {
    fn has_statements(&self) -> bool {
        false
    }

    fn run(&mut self, _: &mut Tx<'_>) -> bool {
        true
    }

    fn refuse(&mut self, _: Fault) {}

    fn answer(self: Box<Self>, commit: Result<()>) {
        self.0.answered(commit.is_ok());
    }
}

pub(crate) struct Writer {
    pub(crate) link: Link,
    /// Ends after the link.
    pub(crate) checkpointer: Option<Checkpointer>,
    pub(crate) queue: mpsc::Receiver<Box<dyn Operation>>,
    pub(crate) sequencer: Option<Box<dyn Sequencer>>,
    /// Records that are durable already. Only with a sequencer, and not on Postgres.
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) backlog: Backlog,
    pub(crate) bell: Bell,
    pub(crate) ambient: Ambient,
    /// `sqlite` or `postgresql`.
    pub(crate) system: &'static str,
}

/// What follows a commit.
struct Committed {
    notices: Vec<Notice>,
    spans: Vec<Span>,
    traced: Vec<(TraceContext, &'static str)>,
}

impl Writer {
    /// Until every handle of the store is gone.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX {
                match self.queue.try_recv() {
                    Ok(operation) => batch.push(operation),
                    Err(_) => break,
                }
            }
            hit(Point::StoreBatchTaken);
            self.drain(DRAIN_MAX);
            self.commit(batch);
        }
        self.drain(0);
        self.link.close();
        if let Some(spool) = &self.spool {
            spool.remove();
        }
        drop(self.checkpointer);
    }

    /// Takes waiting records until no more than `rest` are left. The next transaction takes those, and all that were answered
    /// before it stand before its own.
    fn drain(&mut self, rest: usize) {
        for _ in 0..DRAINS_MAX {
            let has_more = self.spool.as_ref().is_some_and(|spool| spool.waiting() > rest);
            if !has_more || !self.commit(Vec::new()) {
                return;
            }
        }
    }

    fn commit(&mut self, mut batch: Vec<Box<dyn Operation>>) -> bool {
        let began_at = self.ambient.now();
        let outcome = self.transaction(&mut batch);
        let commit = match outcome {
            Ok(Committed { notices, spans, traced }) => {
                notices.into_iter().for_each(|notice| self.bell.ring(notice));
                spans.into_iter().for_each(|span| self.ambient.tracer().record(span));
                self.trace(&traced, batch.len(), began_at);
                hit(Point::StoreNoticesSent);
                Ok(())
            }
            Err(fault) => {
                tracing::error!(code = %fault.code, detail = fault.detail, "commit failed, every write of the batch is refused");
                self.link.roll_back();
                if let Some(spool) = &self.spool {
                    spool.refuse();
                }
                Err(fault)
            }
        };
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.settled(commit.is_ok());
        }
        for operation in batch {
            operation.answer(commit.clone());
            hit(Point::StoreAnswerFirst);
        }
        commit.is_ok()
    }

    /// One span for the commit, in the trace of the first that asked; the others are linked.
    fn trace(&self, traced: &[(TraceContext, &'static str)], operations: usize, began_at: Timestamp) {
        let Some(((first, what), others)) = traced.split_first() else { return };
        let span = Span::new(names::spans::COMMIT, Kind::Client, first.child(&self.ambient), began_at)
            .parent(Some(*first))
            .ended(self.ambient.now())
            .text(names::DB_SYSTEM_NAME, self.system)
            .text(names::COMMIT_OF, *what)
            .integer(names::COMMIT_OPERATIONS, i64::try_from(operations).unwrap_or(i64::MAX));
        self.ambient.tracer().record(others.iter().fold(span, |span, (other, _)| span.link(Some(*other))));
    }

    fn transaction(&mut self, batch: &mut [Box<dyn Operation>]) -> Result<Committed> {
        let renewed = self.link.begin_write()?;
        hit(Point::StoreTransactionBegun);
        if let Some(spool) = &self.spool {
            spool.hand_over(&mut self.backlog);
        }
        let conn = self.link.conn();
        if let Some(sequencer) = self.sequencer.as_mut().filter(|_| renewed) {
            // The last commit may have been done without our hearing of it.
            sequencer.load(&conn)?;
        }
        let mut tx = Tx {
            conn,
            // Before everything that this transaction does. They come back if it fails.
            events: std::mem::take(&mut self.backlog.events),
            notices: Vec::new(),
            here: Vec::new(),
            spans: Vec::new(),
            traced: Vec::new(),
        };
        let drained = tx.events.len();
        let written = write(
            &self.link,
            self.sequencer.as_deref_mut(),
            self.spool.as_deref().map(|spool| (spool, &self.backlog)),
            &mut tx,
            batch,
        );
        let Tx { mut events, mut notices, here, spans, traced, .. } = tx;
        let has_sealed = !events.is_empty();
        events.truncate(drained);
        self.backlog.events = events;
        written?;
        if has_sealed {
            notices.push(Notice::Audit);
        }
        hit(Point::StoreCommitBefore);
        self.link.commit(&notices)?;
        hit(Point::StoreCommitAfter);
        if let Some(spool) = &self.spool {
            spool.drained(&mut self.backlog, has_sealed);
        }
        notices.extend(here);
        Ok(Committed { notices, spans, traced })
    }
}

/// Runs the operations, seals their records and those that waited, and says how far these came.
fn write(
    link: &Link,
    sequencer: Option<&mut (dyn Sequencer + 'static)>,
    spool: Option<(&Spool, &Backlog)>,
    tx: &mut Tx<'_>,
    batch: &mut [Box<dyn Operation>],
) -> Result<()> {
    for operation in batch {
        if operation.has_statements() {
            run_in_savepoint(link, tx, operation.as_mut())?;
        } else {
            operation.run(tx);
        }
    }
    if tx.events.is_empty() {
        return Ok(());
    }
    // A store without a log would drop the record and let the act happen.
    let unkept = || Fault::new(Code::AUDIT_UNAVAILABLE, "this store has no audit log");
    sequencer.ok_or_else(unkept)?.seal(&tx.conn, &tx.events)?;
    match spool.and_then(|(spool, backlog)| spool.mark(backlog)) {
        Some(mark) => mark.write(&tx.conn),
        None => Ok(()),
    }
}

fn run_in_savepoint(link: &Link, tx: &mut Tx<'_>, operation: &mut dyn Operation) -> Result<()> {
    let (events, notices, here) = (tx.events.len(), tx.notices.len(), tx.here.len());
    let (spans, traced) = (tx.spans.len(), tx.traced.len());
    link.begin_operation()?;
    hit(Point::StoreSavepointBegun);
    let succeeded = operation.run(tx);
    hit(Point::StoreOperationDone);
    if succeeded && link.is_spoilt() {
        operation.refuse(Fault::internal("a statement failed, and the operation went on as if it had not"));
    }
    if !succeeded || link.is_spoilt() {
        tx.events.truncate(events);
        tx.notices.truncate(notices);
        tx.spans.truncate(spans);
        tx.traced.truncate(traced);
        tx.here.truncate(here);
        link.undo_operation()?;
        hit(Point::StoreSavepointUndone);
    }
    link.end_operation()?;
    hit(Point::StoreSavepointReleased);
    Ok(())
}

/// What a full queue answers.
pub(crate) fn overloaded(queue_max: usize) -> Fault {
    Fault::new(Code::STORE_BUSY, format!("{queue_max} writes are waiting already (store.queue_max)"))
        .retry_after(Duration::from_secs(1))
}
