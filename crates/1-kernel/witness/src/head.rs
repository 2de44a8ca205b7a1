//! The own log as witnesses need it: its newest checkpoint with the tree's right edge, a proof from an older size, and
//! whether it continues a checkpoint that somebody holds.

use std::collections::VecDeque;

use agentos_audit::LogIdentity;
use agentos_proof::{Checkpoint, Frontier, Hash, checkpoint, proofs};
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result};

/// Leaf hashes in memory at a time.
const PAGE: i64 = 1_000;

/// The newest checkpoint, and the tree under it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub note: String,
    pub frontier: Frontier,
}

impl Head {
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// `None` for a log without a record. Both parts come from one snapshot, so that they fit.
    pub fn read(conn: &Conn<'_>, identity: &LogIdentity) -> Result<Option<Self>> {
        let log = identity.log();
        let sql = "SELECT f.frontier, c.note FROM audit_frontier AS f
                   JOIN audit_checkpoint AS c ON c.log = f.log AND c.size = f.size WHERE f.log = $1";
        let found = conn.query_one(sql, &[log.into()], |row| Ok((row.bytes(0)?, row.text(1)?)))?;
        let Some((frontier, note)) = found else { return Ok(None) };
        let frontier = Frontier::from_bytes(&frontier)?;
        let signed = checkpoint::parse_unverified(&note)?;
        if (signed.size, signed.root) != (frontier.size(), frontier.root()) {
            return Err(Fault::new(Code::AUDIT_TAMPERED, "the newest checkpoint is not about the stored tail"));
        }
        Ok(Some(Self { note, frontier }))
    }
}

/// A note that the own log has signed.
pub(crate) fn own(note: &str, identity: &LogIdentity) -> Result<Checkpoint> {
    let key = identity.verifier_key().clone();
    checkpoint::parse_and_verify(note, &key, &checkpoint::origin(identity.log()))
}

/// The proof that the tree of `head` continues that of `old`.
pub(crate) fn proof(conn: &Conn<'_>, log: &str, old: &Frontier, head: &Head) -> Result<Vec<Hash>> {
    let (first, end) = (as_i64(old.size())?, as_i64(head.size())?);
    proofs::consistency_proof_from(old, head.size(), Leaves::new(conn, log, first, end))
}

/// The right edge as it was at an older size, from the stored leaf hashes.
pub(crate) fn frontier_at(conn: &Conn<'_>, log: &str, size: u64) -> Result<Frontier> {
    let mut frontier = Frontier::new();
    for leaf in Leaves::new(conn, log, 0, as_i64(size)?) {
        frontier.append(leaf?);
    }
    if frontier.size() == size {
        return Ok(frontier);
    }
    Err(Fault::new(Code::AUDIT_TAMPERED, format!("records below {size} are missing")))
}

/// How the own log contradicts a note that is held elsewhere, if it does. A note that this log has not signed is an error,
/// not a contradiction: anybody could have written it.
pub(crate) fn contradiction(conn: &Conn<'_>, identity: &LogIdentity, note: &str) -> Result<Option<Fault>> {
    let (log, held) = (identity.log(), checkpoint::parse_unverified(note)?);
    let sql = "SELECT note FROM audit_checkpoint WHERE log = $1 AND size = $2";
    let stored = conn.query_one(sql, &[log.into(), as_i64(held.size)?.into()], |row| row.text(0))?;
    let stored = stored.map(|note| checkpoint::parse_unverified(&note)).transpose()?;
    if stored.as_ref() == Some(&held) {
        return Ok(None);
    }
    let held = own(note, identity)?;
    let size = Head::read(conn, identity)?.map_or(0, |head| head.size());
    if size < held.size {
        return Ok(Some(shrunk(size, held.size)));
    }
    let root = match stored {
        Some(stored) => stored.root,
        // Every commit leaves a checkpoint, so that this is rare: one was removed, or the history is another.
        None => frontier_at(conn, log, held.size)?.root(),
    };
    Ok((root != held.root).then(|| forked(held.size)))
}

pub(crate) fn shrunk(size: u64, held: u64) -> Fault {
    Fault::new(Code::LOG_SHRUNK, format!("the log has {size} records, but a checkpoint of {held} is held"))
        .hint("was an older database put back? The runbook 'The witness refuses a checkpoint' tells what to do")
}

pub(crate) fn forked(size: u64) -> Fault {
    Fault::new(Code::LOG_FORKED, format!("a checkpoint of {size} records that is held states another history"))
        .hint("the runbook 'The witness refuses a checkpoint' tells what to do")
}

fn as_i64(size: u64) -> Result<i64> {
    i64::try_from(size).map_err(Fault::internal)
}

/// Leaf hashes from `next` up to, not including, `end`, in pages.
struct Leaves<'c> {
    conn: &'c Conn<'c>,
    log: &'c str,
    next: i64,
    end: i64,
    page: VecDeque<(i64, Hash)>,
}

impl<'c> Leaves<'c> {
    fn new(conn: &'c Conn<'c>, log: &'c str, first: i64, end: i64) -> Self {
        Self { conn, log, next: first, end, page: VecDeque::new() }
    }

    fn read(&mut self) -> Result<()> {
        let page = self.conn.query(
            "SELECT seq, leaf_hash FROM audit_record WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq LIMIT $4",
            &[Arg::Text(self.log), self.next.into(), self.end.into(), PAGE.into()],
            |row| {
                let leaf = Hash::try_from(row.bytes(1)?.as_slice())
                    .map_err(|_| Fault::new(Code::AUDIT_TAMPERED, "a stored leaf is not a hash"))?;
                Ok((row.integer(0)?, leaf))
            },
        )?;
        // A gap ends the pass: the caller sees that there are too few.
        let whole = page.iter().enumerate().all(|(offset, (seq, _))| {
            i64::try_from(offset).is_ok_and(|offset| *seq == self.next.saturating_add(offset))
        });
        self.next = page.last().map_or(self.end, |(seq, _)| seq.saturating_add(1));
        self.page = if whole { page.into() } else { VecDeque::new() };
        Ok(())
    }
}

impl Iterator for Leaves<'_> {
    type Item = Result<Hash>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && self.next < self.end
            && let Err(fault) = self.read()
        {
            self.next = self.end;
            return Some(Err(fault));
        }
        self.page.pop_front().map(|(_, leaf)| Ok(leaf))
    }
}
