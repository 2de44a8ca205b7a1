//! The own log as witnesses need it: its newest checkpoint with the tree's right edge, a proof from an older size, and
//! whether it continues a checkpoint that somebody holds.

use std::{collections::VecDeque, sync::Arc};

use agentos_audit::{LogIdentity, first_kept, frontier_near, rotations};
use agentos_proof::{FindingKind, Frontier, Hash, KeyChain, VerifierKey, checkpoint, proofs};
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result};

/// Leaf hashes in memory at a time.
const PAGE: i64 = 1_000;

/// The own log for one reading, made before the reading begins. The key changes after the commit that records the change, so
/// that the key of an earlier moment is always one of those that the snapshot names; one that was looked up later might not be.
#[derive(Clone, Debug)]
pub(crate) struct OwnLog {
    name: String,
    key: Arc<VerifierKey>,
}

impl OwnLog {
    pub fn now(identity: &LogIdentity) -> Self {
        Self { name: identity.log().to_owned(), key: identity.verifier_key() }
    }
}

/// The newest checkpoint, the tree under it, and how its key came to be the one.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub note: String,
    pub frontier: Frontier,
    /// Signed the note.
    pub key: VerifierKey,
    /// All changes of the key, oldest first.
    pub rotations: Vec<String>,
}

impl Head {
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// `None` for a log without a record. All parts come from one snapshot, so that they fit.
    pub fn read(conn: &Conn<'_>, own: &OwnLog) -> Result<Option<Self>> {
        let sql = "SELECT f.frontier, c.note FROM audit_frontier AS f
                   JOIN audit_checkpoint AS c ON c.log = f.log AND c.size = f.size WHERE f.log = $1";
        let found = conn.query_one(sql, &[own.name.as_str().into()], |row| Ok((row.bytes(0)?, row.text(1)?)))?;
        let Some((frontier, note)) = found else { return Ok(None) };
        let frontier = Frontier::from_bytes(&frontier)?;
        let keys = keys(conn, own)?;
        let signed = keys.open(&note).map_err(|finding| Fault::new(Code::AUDIT_TAMPERED, finding.to_string()))?;
        if (signed.size, signed.root) != (frontier.size(), frontier.root()) {
            return Err(Fault::new(Code::AUDIT_TAMPERED, "the newest checkpoint is not about the stored tail"));
        }
        let key = keys.at(signed.size).clone();
        Ok(Some(Self { note, frontier, key, rotations: keys.notes().to_vec() }))
    }
}

fn keys(conn: &Conn<'_>, own: &OwnLog) -> Result<KeyChain> {
    KeyChain::new(&own.key, &rotations(conn, &own.name)?)
        .map_err(|finding| Fault::new(Code::AUDIT_TAMPERED, finding.to_string()))
}

/// The proof that the tree of `head` continues that of `old`. From within the pruned part there is none: it needs hashes of
/// records that are gone.
pub(crate) fn proof(conn: &Conn<'_>, log: &str, old: &Frontier, head: &Head) -> Result<Vec<Hash>> {
    let begins = first_kept(conn, log)?;
    let (first, end) = (as_i64(old.size())?, as_i64(head.size())?);
    if first > 0 && first < begins.min(end) {
        return Err(pruned(old.size(), begins));
    }
    proofs::consistency_proof_from(old, head.size(), Leaves::new(conn, log, first, end))
}

/// The right edge as it was at an older size, from what is kept of the beginning of its day and the leaf hashes after it. Of
/// the pruned part only the beginnings of days are left.
pub(crate) fn frontier_at(conn: &Conn<'_>, log: &str, size: u64) -> Result<Frontier> {
    let (begins, end) = (first_kept(conn, log)?, as_i64(size)?);
    let mut frontier = frontier_near(conn, log, end)?;
    let first = as_i64(frontier.size())?;
    if first < begins && first < end {
        return Err(pruned(size, begins));
    }
    for leaf in Leaves::new(conn, log, first, end) {
        frontier.append(leaf?);
    }
    if frontier.size() == size {
        return Ok(frontier);
    }
    Err(Fault::new(Code::AUDIT_TAMPERED, format!("records below {size} are missing")))
}

/// How the own log contradicts a note that is held elsewhere, if it does. A note that no key of this log has signed is an
/// error, not a contradiction: anybody could have written it. An older database does not know the later keys; `statements`
/// are the changes that the holder has kept, and count as far as they continue the keys that are known.
pub(crate) fn contradiction(conn: &Conn<'_>, own: &OwnLog, note: &str, statements: &[String]) -> Result<Option<Fault>> {
    let (log, held) = (own.name.as_str(), checkpoint::parse_unverified(note)?);
    let sql = "SELECT note FROM audit_checkpoint WHERE log = $1 AND size = $2";
    let stored = conn.query_one(sql, &[log.into(), as_i64(held.size)?.into()], |row| row.text(0))?;
    let stored = stored.map(|note| checkpoint::parse_unverified(&note)).transpose()?;
    if stored.as_ref() == Some(&held) {
        return Ok(None);
    }
    let mut keys = keys(conn, own)?;
    keys.follow(statements);
    let held = match keys.open(note) {
        Ok(held) => held,
        // The log's own key has signed it, after the end that this history gives it: there is another history.
        Err(finding) if finding.kind == FindingKind::KeyTime => return Ok(Some(forked(held.size))),
        Err(finding) => return Err(Fault::new(Code::AUDIT_TAMPERED, finding.message)),
    };
    let size = Head::read(conn, own)?.map_or(0, |head| head.size());
    if size < held.size {
        return Ok(Some(shrunk(size, held.size)));
    }
    let root = match stored {
        Some(stored) => stored.root,
        // Every commit leaves a checkpoint: this one was pruned, or removed, or the history is another.
        None => frontier_at(conn, log, held.size)?.root(),
    };
    Ok((root != held.root).then(|| forked(held.size)))
}

/// Neither proof nor contradiction.
fn pruned(held: u64, begins: i64) -> Fault {
    let message = format!(
        "a checkpoint of {held} records that is held lies in the pruned part of the log, which begins at record {begins}: \
         nothing is left to compare it with"
    );
    Fault::new(Code::CHECKPOINT_PRUNED, message)
        .hint("compare it with the archived segments; then the witness forgets the log and registers it anew")
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
