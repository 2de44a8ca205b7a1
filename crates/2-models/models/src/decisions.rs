//! How the target of each call was chosen, kept with the call: written in the transaction of its outcome, so that a choice that
//! somebody asks about later can be made again. The newest of each node stay; each takes the place of the oldest.

use std::sync::{Arc, Mutex, PoisonError};

use agentos_monitor::{Beside, SoFar};
use agentos_router::DecisionRecord;
use agentos_store::{Conn, Tx};
use agentos_types::{Envelope, RequestId, Result, Timestamp};

use crate::{Course, ModelCall};

/// Of each node. An ordinary record has a thousand bytes.
const KEPT: i64 = 20_000;
/// A larger record is not kept: it takes the most targets with the most keys that a document can have.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The places of this node.
#[derive(Clone)]
pub(crate) struct Decisions {
    node: Arc<str>,
    /// The next place, once the store has been asked for it.
    next: Arc<Mutex<Option<i64>>>,
}

/// One on its way to its place.
struct Keeping {
    ring: Decisions,
    request_id: RequestId,
    at: Timestamp,
    record: Envelope,
}

/// One as it was kept.
#[derive(Clone, Debug)]
pub struct KeptDecision {
    pub at: Timestamp,
    /// That made the call.
    pub node: String,
    pub record: DecisionRecord,
}

impl Decisions {
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), next: Arc::default() }
    }

    /// Lets what was chosen so far be written with the outcome of the call, however it ends.
    pub fn note(&self, course: &dyn Course, call: &ModelCall, now: Timestamp, so_far: &SoFar) {
        let Some(record) = course.decision() else { return };
        let record = match Envelope::seal(record) {
            Ok(record) if record.bytes.len() <= RECORD_BYTES_MAX => record,
            Ok(record) => return tracing::debug!(bytes = record.bytes.len(), "a choice is too large to be kept"),
            Err(fault) => return tracing::warn!(%fault, "a choice could not be written down"),
        };
        let keeping = Keeping { ring: self.clone(), request_id: call.request_id.clone(), at: now, record };
        // Sums: whole after any panic. The choices so far take the place of what was noted before.
        so_far.lock().unwrap_or_else(PoisonError::into_inner).beside = vec![Arc::new(keeping)];
    }

    fn take(&self, tx: &Tx<'_>) -> Result<i64> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match *next {
            Some(slot) => slot,
            None => newest(tx, &self.node)?.map_or(0, |slot| (slot + 1) % KEPT),
        };
        *next = Some((slot + 1) % KEPT);
        Ok(slot)
    }
}

fn newest(conn: &Conn<'_>, node: &str) -> Result<Option<i64>> {
    conn.query_one(
        "SELECT slot FROM model_decision WHERE node = $1 ORDER BY at DESC, slot DESC LIMIT 1",
        &[node.into()],
        |row| row.integer(0),
    )
}

impl Beside for Keeping {
    fn write(&self, tx: &mut Tx<'_>) -> Result<()> {
        let slot = self.ring.take(tx)?;
        tx.execute_later(
            "INSERT INTO model_decision (node, slot, request_id, at, record_key, record)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (node, slot) DO UPDATE SET
               request_id = excluded.request_id, at = excluded.at,
               record_key = excluded.record_key, record = excluded.record",
            &[
                (&*self.ring.node).into(),
                slot.into(),
                self.request_id.as_str().into(),
                self.at.into(),
                self.record.key_id.into(),
                (&self.record.bytes).into(),
            ],
        )
    }
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping").field("request_id", &self.request_id).finish_non_exhaustive()
    }
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
