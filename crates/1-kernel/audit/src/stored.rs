//! Verification and export of a log that lies in Postgres, over the store's own reader: in pages, within one snapshot.
//!
//! An embedded log is read from its file instead (`agentos_proof::source::sqlite`), which trusts even less. What is
//! checked is the same: both feed the same verifier.

use std::{borrow::Cow, collections::VecDeque, io::Write};

use agentos_proof::{
    Frontier, Hash, Indexed, Kept, KeyChain, Report, Row, StoredCheckpoint, StoredDay, Verifier, VerifierKey,
    VerifyError, checkpoint, leaf,
    source::{
        pruned,
        segment::{self, SegmentRecord},
    },
};
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result};

/// Rows in memory at a time.
const PAGE: i64 = 1_000;
/// How the store shows a character zero, which Postgres cannot hold. The sealed body holds the character itself.
const ZERO_SHOWN: char = '\u{2400}';

/// A row of `audit_record`.
struct Stored {
    seq: i64,
    body: Vec<u8>,
    prev: Vec<u8>,
    leaf: Vec<u8>,
    at: i64,
    /// actor, action, resource, phase, decision
    texts: [String; 5],
    /// task, correlation
    optional: [Option<String>; 2],
}

/// Verifies the log that `key` names.
pub(crate) fn verify(conn: &Conn<'_>, key: &VerifierKey) -> Result<Report, VerifyError> {
    let log = checkpoint::log_of(key.name()).unwrap_or_default();
    let (keys, kept) = (KeyChain::new(key, &rotations(conn, log)?)?, kept(conn, log)?);
    let mut verifier = Verifier::of_store(&keys, &kept, Checkpoints::new(conn, log, 0, i64::MAX), &[])?;
    let mut next = as_column(kept.first_kept)?;
    // Ends with the first page that is not full; each page begins after the last row of the one before.
    loop {
        let page = records(conn, log, next)?;
        for stored in &page {
            verifier.row(&stored.row()?)?;
        }
        match page.last() {
            Some(last) if page.len() == usize::try_from(PAGE).unwrap_or(0) => next = last.seq.saturating_add(1),
            _ => return verifier.finish(),
        }
    }
}

/// Writes the records from `from` up to the newest checkpoint at or below `until` as one segment.
pub(crate) fn export(
    conn: &Conn<'_>,
    key: &VerifierKey,
    from: u64,
    until: Option<u64>,
    out: &mut impl Write,
) -> Result<()> {
    let log = checkpoint::log_of(key.name()).unwrap_or_default();
    let first_kept = count(first_kept(conn, log)?)?;
    if from < first_kept {
        return Err(pruned(from, first_kept));
    }
    let keys = KeyChain::new(key, &rotations(conn, log)?).map_err(|finding| Fault::from(VerifyError::from(finding)))?;
    let first = i64::try_from(from).map_err(|_| nothing_after(log, from))?;
    let until = until.and_then(|until| i64::try_from(until).ok()).unwrap_or(i64::MAX);
    let newest = conn.query_one(
        "SELECT max(size) FROM audit_checkpoint WHERE log = $1 AND size <= $2",
        &[log.into(), until.into()],
        |row| row.integer_or_null(0),
    )?;
    let end = newest.flatten().filter(|end| *end > first).ok_or_else(|| nothing_after(log, from))?;
    let mut frontier = frontier_near(conn, log, first)?;
    for leaf in Leaves::new(conn, log, as_column(frontier.size())?, first) {
        frontier.append(leaf?.leaf);
    }
    if frontier.size() != from {
        return Err(Fault::new(Code::AUDIT_TAMPERED, format!("records before {from} are missing")));
    }
    // A checkpoint of size `from` vouches for the frontier that the segment starts from.
    let notes = Checkpoints::new(conn, log, first, end).map(|stored| Ok(stored?.note));
    segment::export(out, &keys, &frontier, Leaves::new(conn, log, first, end), notes)
}

/// Statements of all changes of the log's key, oldest first.
pub fn rotations(conn: &Conn<'_>, log: &str) -> Result<Vec<String>> {
    conn.query("SELECT note FROM audit_key WHERE log = $1 ORDER BY size", &[log.into()], |row| row.text(0))
}

/// Sequence of the first record that was not pruned.
pub fn first_kept(conn: &Conn<'_>, log: &str) -> Result<i64> {
    let mark = conn.query_one("SELECT max(first_kept) FROM audit_prune WHERE log = $1", &[log.into()], |row| {
        row.integer_or_null(0)
    })?;
    Ok(mark.flatten().unwrap_or(0))
}

fn kept(conn: &Conn<'_>, log: &str) -> Result<Kept> {
    // One row a day, some hundred bytes each.
    let days = conn.query(
        "SELECT number, date, first_seq, frontier, last_leaf FROM audit_day WHERE log = $1 ORDER BY number",
        &[log.into()],
        |row| {
            Ok(StoredDay {
                number: count(row.integer(0)?)?,
                date: row.integer(1)?,
                first_seq: count(row.integer(2)?)?,
                frontier: row.bytes(3)?,
                last_leaf: row.bytes(4)?,
            })
        },
    )?;
    let divided = conn
        .query_one("SELECT divided FROM audit_frontier WHERE log = $1", &[log.into()], |row| row.integer_or_null(0))?;
    Ok(Kept { days, first_kept: count(first_kept(conn, log)?)?, divided: count(divided.flatten().unwrap_or(0))? })
}

/// The frontier where the last day before record `first` began.
pub fn frontier_near(conn: &Conn<'_>, log: &str, first: i64) -> Result<Frontier> {
    let stored = conn.query_one(
        "SELECT frontier FROM audit_day WHERE log = $1 AND first_seq <= $2 ORDER BY first_seq DESC LIMIT 1",
        &[log.into(), first.into()],
        |row| row.bytes(0),
    )?;
    stored.map_or(Ok(Frontier::new()), |bytes| Frontier::from_bytes(&bytes))
}

fn as_column(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(Fault::internal)
}

fn nothing_after(log: &str, from: u64) -> Fault {
    Fault::new(Code::AUDIT_QUERY_INVALID, format!("no checkpoint of log '{log}' lies after record {from}"))
        .hint("a segment ends at a checkpoint; export fewer records or wait for the next one")
}

fn records(conn: &Conn<'_>, log: &str, from: i64) -> Result<Vec<Stored>> {
    conn.query(
        "SELECT seq, body, prev_hash, leaf_hash, at, actor, action, resource, phase, decision, task, correlation
         FROM audit_record WHERE log = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
        &[log.into(), from.into(), PAGE.into()],
        |row| {
            Ok(Stored {
                seq: row.integer(0)?,
                body: row.bytes(1)?,
                prev: row.bytes(2)?,
                leaf: row.bytes(3)?,
                at: row.integer(4)?,
                texts: [row.text(5)?, row.text(6)?, row.text(7)?, row.text(8)?, row.text(9)?],
                optional: [row.text_or_null(10)?, row.text_or_null(11)?],
            })
        },
    )
}

impl Stored {
    fn row(&self) -> Result<Row<'_>> {
        let [actor, action, resource, phase, decision] = &self.texts;
        let [task, correlation] = &self.optional;
        let mut indexed = Indexed {
            at: self.at,
            actor: actor.into(),
            action: action.into(),
            resource: resource.into(),
            phase,
            decision,
            task: task.as_ref().map(Into::into),
            correlation: correlation.as_ref().map(Into::into),
        };
        if self.texts.iter().chain(self.optional.iter().flatten()).any(|text| text.contains(ZERO_SHOWN)) {
            self.put_zeros_back(&mut indexed);
        }
        Ok(Row {
            seq: count(self.seq)?,
            body: &self.body,
            prev: Some(&self.prev),
            leaf: &self.leaf,
            indexed: Some(indexed),
        })
    }

    /// A column that is what the store makes of the body's text stands for that text.
    fn put_zeros_back(&self, indexed: &mut Indexed<'_>) {
        // A body that cannot be read is a finding of the verifier.
        let Ok(record) = leaf::decode(&self.body) else { return };
        let sealed = Indexed::of(&record.event);
        let restore = |column: &mut Cow<'_, str>, text: &str| {
            if *column == text.replace('\0', &ZERO_SHOWN.to_string()) {
                *column = Cow::Owned(text.to_owned());
            }
        };
        restore(&mut indexed.actor, &sealed.actor);
        restore(&mut indexed.action, &sealed.action);
        restore(&mut indexed.resource, &sealed.resource);
        if let (Some(column), Some(text)) = (&mut indexed.correlation, &sealed.correlation) {
            restore(column, text);
        }
    }
}

fn count(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| Fault::new(Code::AUDIT_TAMPERED, "a stored sequence or size is not a count"))
}

/// Checkpoints with a size from `next` to `last`, in order.
struct Checkpoints<'c> {
    conn: &'c Conn<'c>,
    log: &'c str,
    next: i64,
    last: i64,
    page: VecDeque<StoredCheckpoint>,
}

impl<'c> Checkpoints<'c> {
    fn new(conn: &'c Conn<'c>, log: &'c str, first: i64, last: i64) -> Self {
        Self { conn, log, next: first, last, page: VecDeque::new() }
    }

    fn read(&mut self) -> Result<()> {
        let page = self.conn.query(
            "SELECT size, note FROM audit_checkpoint WHERE log = $1 AND size >= $2 AND size <= $3 ORDER BY size LIMIT $4",
            &[self.log.into(), self.next.into(), self.last.into(), PAGE.into()],
            |row| Ok((row.integer(0)?, StoredCheckpoint { size: count(row.integer(0)?)?, note: row.text(1)? })),
        )?;
        self.next = page.last().map_or(i64::MAX, |(size, _)| size.saturating_add(1));
        self.page = page.into_iter().map(|(_, stored)| stored).collect();
        Ok(())
    }
}

impl Iterator for Checkpoints<'_> {
    type Item = Result<StoredCheckpoint, VerifyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && self.next <= self.last
            && let Err(fault) = self.read()
        {
            self.next = i64::MAX;
            self.last = i64::MIN;
            return Some(Err(fault.into()));
        }
        self.page.pop_front().map(Ok)
    }
}

/// Sequence, body and leaf hash of the records from `next` up to, not including, `end`.
struct Leaves<'c> {
    conn: &'c Conn<'c>,
    log: &'c str,
    next: i64,
    end: i64,
    page: VecDeque<SegmentRecord>,
}

impl<'c> Leaves<'c> {
    fn new(conn: &'c Conn<'c>, log: &'c str, first: i64, end: i64) -> Self {
        Self { conn, log, next: first, end, page: VecDeque::new() }
    }

    fn read(&mut self) -> Result<()> {
        let page = self.conn.query(
            "SELECT seq, body, leaf_hash FROM audit_record WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq LIMIT $4",
            &[Arg::Text(self.log), self.next.into(), self.end.into(), PAGE.into()],
            |row| {
                let leaf = Hash::try_from(row.bytes(2)?.as_slice())
                    .map_err(|_| Fault::new(Code::AUDIT_TAMPERED, "a stored leaf is not a hash"))?;
                Ok(SegmentRecord { seq: count(row.integer(0)?)?, body: row.bytes(1)?, leaf })
            },
        )?;
        let after_last = page.last().and_then(|record| i64::try_from(record.seq).ok()).map(|seq| seq.saturating_add(1));
        self.next = after_last.unwrap_or(self.end);
        self.page = page.into();
        Ok(())
    }
}

impl Iterator for Leaves<'_> {
    type Item = Result<SegmentRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && self.next < self.end
            && let Err(fault) = self.read()
        {
            self.next = self.end;
            return Some(Err(fault));
        }
        self.page.pop_front().map(Ok)
    }
}
