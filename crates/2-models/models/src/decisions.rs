//! How the target of each call was chosen, kept with the id of the call, so that a choice that somebody asks about later can be
//! made again. The newest of each node stay; each takes the place of the oldest.
//!
//! No call waits for it: what was chosen goes to the store a moment after the call has ended, together with that of others. A
//! crash takes that moment with it; budgets, records and answers do not depend on it.

use std::{
    mem::take,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_base::{Ambient, Background, Turns};
use agentos_router::{DecisionRecord, Observed, Target};
use agentos_store::{Conn, Store, Tx};
use agentos_types::{Envelope, RequestId, Result, Timestamp};
use agentos_wire::Failure;
use tokio::time::sleep;

use crate::{Course, ModelCall, engine::Inner};

/// Of each node. An ordinary record has a thousand bytes.
const KEPT: i64 = 20_000;
/// A larger record is not kept: it takes the most targets with the most keys that a document can have.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Of one candidate in memory, names included.
const CANDIDATE_BYTES: usize = 512;
/// How long those of several calls are gathered, so that they share a commit.
const GATHERED: Duration = Duration::from_millis(500);
/// Gathered at once, in number and bytes. What comes while the store takes none is not kept.
const WAITING_MAX: usize = 10_000;
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Of one transaction, which whoever writes meanwhile waits for: at the least so many that it is worth its commit, at the most so
/// many as take some milliseconds.
const BATCH: std::ops::RangeInclusive<usize> = 8..=1_024;
/// Into how many transactions what was gathered is divided.
const BATCHES: usize = 2;

/// Those of this node.
#[derive(Clone)]
pub(crate) struct Decisions(Arc<Ring>);

struct Ring {
    node: String,
    store: Store,
    ambient: Ambient,
    background: Background,
    waiting: Mutex<Waiting>,
    /// The next place, once the store has been asked for it.
    next: Mutex<Option<i64>>,
}

#[derive(Default)]
struct Waiting {
    decisions: Vec<Decision<DecisionRecord>>,
    /// By estimate.
    bytes: usize,
    /// Somebody is about to write them.
    has_writer: bool,
}

#[derive(Clone)]
struct Decision<R> {
    request_id: RequestId,
    at: Timestamp,
    record: R,
}

/// One as it was kept.
#[derive(Clone, Debug)]
pub struct KeptDecision {
    pub at: Timestamp,
    /// That made the call.
    pub node: String,
    pub record: DecisionRecord,
}

impl Inner {
    /// The attempts of a call. Why there are none is kept as well.
    pub(crate) fn planned(&self, call: &ModelCall) -> Result<Box<dyn Course>> {
        let asked = self.asked(call);
        match self.routing.plan(&asked) {
            Ok(course) => Ok(self.decisions.of(call, course)),
            Err(fault) => {
                if let Some(record) = self.routing.refused(&asked) {
                    self.decisions.keep(call.request_id.clone(), record);
                }
                Err(fault)
            }
        }
    }
}

/// The attempts of a call, whose choices are kept when they are over, however they end.
struct Kept {
    course: Box<dyn Course>,
    decisions: Decisions,
    request_id: RequestId,
}

impl Decisions {
    pub fn new(node: &str, store: Store, ambient: Ambient, background: Background) -> Self {
        let (waiting, next) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Ring { node: node.to_owned(), store, ambient, background, waiting, next }))
    }

    fn of(&self, call: &ModelCall, course: Box<dyn Course>) -> Box<dyn Course> {
        if !course.is_kept() {
            return course;
        }
        Box::new(Kept { course, decisions: self.clone(), request_id: call.request_id.clone() })
    }

    fn keep(&self, request_id: RequestId, record: DecisionRecord) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = waiting.bytes + bytes_of(&record);
        if waiting.decisions.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            return tracing::debug!("a choice is not kept: the store takes none");
        }
        waiting.bytes = bytes;
        waiting.decisions.push(Decision { request_id, at: self.0.ambient.now(), record });
        // Outside of a runtime the server is ending.
        if !waiting.has_writer && tokio::runtime::Handle::try_current().is_ok() {
            waiting.has_writer = true;
            self.0.background.spawn("model-decisions", self.clone().write());
        }
    }

    async fn write(self) {
        loop {
            sleep(GATHERED).await;
            let gathered = {
                let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.bytes = 0;
                waiting.has_writer = !waiting.decisions.is_empty();
                take(&mut waiting.decisions)
            };
            if gathered.is_empty() {
                return;
            }
            let size = gathered.len().div_ceil(BATCHES).clamp(*BATCH.start(), *BATCH.end());
            for batch in gathered.chunks(size) {
                let (this, batch, mut turns) = (self.clone(), all_sealed(batch), Turns::default());
                let put = move |tx: &mut Tx<'_>| {
                    batch.iter().try_for_each(|one| {
                        turns.step();
                        this.put(tx, one)
                    })
                };
                let written = self.0.store.write(put).await;
                if let Err(fault) = written {
                    tracing::warn!(%fault, "how targets of models were chosen could not be kept");
                }
            }
        }
    }

    fn put(&self, tx: &Tx<'_>, decision: &Decision<Envelope>) -> Result<()> {
        let slot = self.place(tx)?;
        tx.execute_later(
            "INSERT INTO model_decision (node, slot, request_id, at, record_key, record)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (node, slot) DO UPDATE SET
               request_id = excluded.request_id, at = excluded.at,
               record_key = excluded.record_key, record = excluded.record",
            &[
                (&self.0.node).into(),
                slot.into(),
                decision.request_id.as_str().into(),
                decision.at.into(),
                decision.record.key_id.into(),
                (&decision.record.bytes).into(),
            ],
        )
    }

    fn place(&self, tx: &Tx<'_>) -> Result<i64> {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match *next {
            Some(slot) => slot,
            None => newest(tx, &self.0.node)?.map_or(0, |slot| (slot + 1) % KEPT),
        };
        *next = Some((slot + 1) % KEPT);
        Ok(slot)
    }
}

impl Course for Kept {
    fn next(&mut self, last: Option<&Failure>, now: Timestamp) -> Option<Target> {
        self.course.next(last, now)
    }

    fn hedge(&mut self, now: Timestamp) -> Option<Target> {
        self.course.hedge(now)
    }

    fn report(&mut self, target: &Target, observed: Observed<'_>, now: Timestamp) {
        self.course.report(target, observed, now);
    }

    fn is_kept(&self) -> bool {
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(record) = self.course.take_decision() {
            self.decisions.keep(self.request_id.clone(), record);
        }
    }
}

fn all_sealed(batch: &[Decision<DecisionRecord>]) -> Vec<Decision<Envelope>> {
    let mut turns = Turns::default();
    let one = |decision| {
        turns.step();
        sealed(decision)
    };
    batch.iter().filter_map(one).collect()
}

/// Written down here and not by the call, which would wait for it.
fn sealed(decision: &Decision<DecisionRecord>) -> Option<Decision<Envelope>> {
    match Envelope::seal(&decision.record) {
        Ok(record) if record.bytes.len() <= RECORD_BYTES_MAX => {
            Some(Decision { request_id: decision.request_id.clone(), at: decision.at, record })
        }
        Ok(record) => {
            tracing::debug!(bytes = record.bytes.len(), "a choice is too large to be kept");
            None
        }
        Err(fault) => {
            tracing::warn!(%fault, "a choice could not be written down");
            None
        }
    }
}

/// About what it takes in memory: the candidates of each step make up most of it.
fn bytes_of(record: &DecisionRecord) -> usize {
    let candidates = record.steps.iter().map(|step| step.situation.candidates.len()).sum::<usize>();
    size_of::<DecisionRecord>() + candidates * CANDIDATE_BYTES
}

fn newest(conn: &Conn<'_>, node: &str) -> Result<Option<i64>> {
    conn.query_one(
        "SELECT slot FROM model_decision WHERE node = $1 ORDER BY at DESC, slot DESC LIMIT 1",
        &[node.into()],
        |row| row.integer(0),
    )
}

/// How the target of a call was chosen, if it is kept. The newest, should a client have used one id twice.
pub fn decision_of(conn: &Conn<'_>, call: &RequestId) -> Result<Option<KeptDecision>> {
    let found = conn.query_one(
        "SELECT node, at, record_key, record FROM model_decision WHERE request_id = $1 ORDER BY at DESC LIMIT 1",
        &[call.as_str().into()],
        |row| Ok((row.text(0)?, row.time(1)?, Envelope { key_id: row.integer(2)?, bytes: row.bytes(3)? })),
    )?;
    found.map(|(node, at, record)| Ok(KeptDecision { at, node, record: record.open()? })).transpose()
}

pub fn count_old_decisions(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    let found =
        conn.query_one("SELECT count(*) FROM model_decision WHERE at < $1", &[before.into()], |row| row.integer(0))?;
    Ok(found.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
}

/// Takes at most so many of them away, and tells how many. The places are used again.
pub fn prune_old_decisions(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let taken = tx.execute(
        "DELETE FROM model_decision WHERE (node, slot) IN
           (SELECT node, slot FROM model_decision WHERE at < $1 ORDER BY at LIMIT $2)",
        &[before.into(), rows_max.into()],
    )?;
    Ok(taken as u64)
}
