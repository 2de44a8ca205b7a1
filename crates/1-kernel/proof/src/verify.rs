//! The streaming verifier: rows are pushed in order, checkpoints are pulled as their sizes come up, memory stays constant.
//!
//! It trusts the key alone. Every stored value is recomputed or compared; the first disagreement ends the run, because
//! nothing after it can be judged.

use std::{iter::Peekable, num::NonZero};

use agentos_types::{Timestamp, hex};

use crate::{
    checkpoint::{self, Checkpoint},
    finding::{Finding, FindingKind, VerifyError},
    leaf::{BodyView, Indexed, NO_PREVIOUS, unknown_version},
    life::{Kept, KeyWatch, Life, Start},
    merkle::{Frontier, Hash, leaf_hash},
    rotation::KeyChain,
    signatures::Signatures,
};

type Outcome<T = ()> = Result<T, VerifyError>;

/// One stored record. Hashes are slices: a value of the wrong length is a finding, not a failure to read.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub seq: u64,
    pub body: &'a [u8],
    /// The stored link; `None` where the source keeps it only in the body.
    pub prev: Option<&'a [u8]>,
    pub leaf: &'a [u8],
    /// The searchable columns; `None` where the source has none.
    pub indexed: Option<Indexed<'a>>,
}

/// One stored checkpoint: the size under which it is filed, and the signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    pub size: u64,
    pub note: String,
}

/// What a green verification has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub log: String,
    /// Sequence of the first record that was read: 0 for a whole log.
    pub from: u64,
    /// Records read.
    pub records: u64,
    /// Stored checkpoints whose signature and root hold.
    pub checkpoints: u64,
    /// Held checkpoints that are a prefix of the log.
    pub held: u64,
    /// Held checkpoints of the pruned part, with which nothing is left to compare.
    pub held_pruned: u64,
    /// Checkpoints up to this size are signed by keys for which only the log itself speaks, not the given key.
    pub unvouched_to: u64,
    /// Times of the first and the last record read.
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// Size of the log at its end, and the root there.
    pub size: u64,
    pub root: Hash,
}

impl Report {
    /// What a reader might think was checked, and was not.
    pub fn unchecked(&self) -> Vec<String> {
        let mut unchecked = Vec::new();
        if self.unvouched_to > 0 {
            unchecked.push(format!(
                "the keys that signed checkpoints up to size {}: the given key is younger, and only the log itself names those \
                 before it; an older key of the log checks them too",
                self.unvouched_to
            ));
        }
        if self.held_pruned > 0 {
            unchecked
                .push(format!("{} held checkpoints, because they lie in the pruned part of the log", self.held_pruned));
        }
        unchecked
    }
}

/// Verifies one log. Feed every row to [`Verifier::row`], then call [`Verifier::finish`].
pub struct Verifier<'k, C: Iterator<Item = Outcome<StoredCheckpoint>>> {
    keys: &'k KeyChain,
    log: &'k str,
    frontier: Frontier,
    /// Leaf hash of the record before; `None` until the first record of a segment has told it.
    prev: Option<Hash>,
    checkpoints: Peekable<C>,
    signatures: Signatures<'k>,
    /// Verified held checkpoints that are still to come, the smallest last.
    held: Vec<Checkpoint>,
    /// Size of the newest stored checkpoint that was met.
    covered: Option<u64>,
    /// Days and prunes; only a store has them.
    life: Option<Life>,
    watch: KeyWatch,
    report: Report,
    /// Once something was wrong, every later call says the same.
    failed: Option<VerifyError>,
}

impl<'k, C: Iterator<Item = Outcome<StoredCheckpoint>>> Verifier<'k, C> {
    /// `start` is the empty frontier for a whole log, or the frontier before a segment's first record; a wrong one shows
    /// at the next signed root. `checkpoints` come in order of size, none below `start`. `held` are the notes that
    /// somebody kept elsewhere. The name of the keys tells the log.
    pub fn new(keys: &'k KeyChain, start: Frontier, checkpoints: C, held: &[String]) -> Outcome<Self> {
        let prev = if start.size() == 0 { Some(NO_PREVIOUS) } else { start.last_leaf() };
        let mut verifier = Self::build(keys, start, prev, None, checkpoints, held)?;
        let met = verifier.meet_checkpoints();
        verifier.settle(met)?;
        Ok(verifier)
    }

    /// For a store, whose first days may be pruned. `checkpoints` are all that it has; rows begin with the first kept.
    pub fn of_store(keys: &'k KeyChain, kept: &Kept, checkpoints: C, held: &[String]) -> Outcome<Self> {
        let Start { frontier, last_leaf, life } = kept.start()?;
        let prev = last_leaf.or(Some(NO_PREVIOUS));
        let mut verifier = Self::build(keys, frontier, prev, Some(life), checkpoints, held)?;
        let met = verifier.meet_boundaries().and_then(|()| verifier.meet_checkpoints());
        verifier.settle(met)?;
        Ok(verifier)
    }

    fn build(
        keys: &'k KeyChain,
        start: Frontier,
        prev: Option<Hash>,
        life: Option<Life>,
        checkpoints: C,
        held: &[String],
    ) -> Outcome<Self> {
        let log = checkpoint::log_of(keys.name()).ok_or_else(|| {
            let message = format!("the key's name is '{}', which is not the name of a log", keys.name());
            Finding::new(FindingKind::CheckpointSignature, None, message)
        })?;
        let held = held.iter().map(|note| keys.open(note));
        let mut held = held
            .collect::<Result<Vec<_>, _>>()
            .map_err(|finding| Finding { message: format!("held checkpoint: {}", finding.message), ..finding })?;
        held.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
        let report = Report {
            log: log.to_owned(),
            from: start.size(),
            records: 0,
            checkpoints: 0,
            held: 0,
            held_pruned: 0,
            unvouched_to: keys.unvouched_to(),
            first_at: None,
            last_at: None,
            size: start.size(),
            root: start.root(),
        };
        Ok(Self {
            keys,
            log,
            frontier: start,
            prev,
            checkpoints: checkpoints.peekable(),
            signatures: Signatures::new(keys),
            held,
            covered: None,
            life,
            watch: KeyWatch::new(keys),
            report,
            failed: None,
        })
    }

    /// The pruned part of a store: nothing of it is left but where its days began, and the checkpoints of these places.
    fn meet_boundaries(&mut self) -> Outcome {
        let start = self.frontier.size();
        let Some(life) = self.life.as_mut().filter(|_| start > 0) else { return Ok(()) };
        while self.checkpoints.peek().is_some_and(|next| next.as_ref().map_or(true, |next| next.size <= start)) {
            let Some(stored) = self.checkpoints.next().transpose()? else { break };
            if life.boundary(&stored, self.keys)? {
                self.report.checkpoints += 1;
                self.covered = Some(stored.size);
            }
        }
        life.require_closed()?;
        while let Some(held) = self.held.pop_if(|held| held.size < start) {
            match life.root_at(held.size) {
                None => self.report.held_pruned += 1,
                Some(root) if root == held.root => self.report.held += 1,
                Some(_) => return Err(forked(held.size)),
            }
        }
        Ok(())
    }

    /// Lets signatures be checked on this many threads; one without it, so that a server keeps its cores.
    #[must_use]
    pub fn threads(mut self, threads: NonZero<usize>) -> Self {
        self.signatures.set_threads(threads);
        self
    }

    /// The next record.
    pub fn row(&mut self, row: &Row<'_>) -> Outcome {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let taken = self.take_row(row);
        self.settle(taken)
    }

    /// What is wrong with a checkpoint that still waits shows earlier in the log than `outcome`, and goes first.
    fn settle(&mut self, outcome: Outcome) -> Outcome {
        outcome
            .or_else(|error| self.signatures.flush().and(Err(error)))
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn take_row(&mut self, row: &Row<'_>) -> Outcome {
        let seq = self.frontier.size();
        let find = |kind, message: String| Err(VerifyError::from(Finding::new(kind, Some(seq), message)));
        if row.seq > seq {
            return find(FindingKind::Missing, format!("records {seq} to {} are missing", row.seq - 1));
        }
        if row.seq < seq {
            return find(FindingKind::Reordered, format!("record {} comes again or too late", row.seq));
        }
        let leaf = leaf_hash(row.body);
        if row.leaf != leaf {
            return find(FindingKind::HashMismatch, "the body does not hash to the stored leaf hash".into());
        }
        let Some(body) = BodyView::parse(row.body) else {
            return find(FindingKind::Edited, "the body is not a record".into());
        };
        if body.v != u64::from(crate::leaf::BODY_VERSION) {
            return Err(unknown_version(seq, body.v).into());
        }
        if body.log != self.log || body.seq != seq {
            return find(
                FindingKind::Reordered,
                format!("the body is that of record {} of log '{}'", body.seq, body.log),
            );
        }
        let prev = hex::decode::<32>(&body.prev);
        let Some(prev) = prev.filter(|prev| self.prev.is_none_or(|expected| expected == *prev)) else {
            return find(FindingKind::LinkBroken, "the body does not name the record before it".into());
        };
        if row.prev.is_some_and(|stored| stored != prev) {
            return find(FindingKind::LinkBroken, "the stored link is not the one in the body".into());
        }
        if let Some(column) = row.indexed.as_ref().and_then(|stored| body.event.indexed().difference(stored)) {
            return find(FindingKind::Edited, format!("column '{column}' does not say what the body says"));
        }
        self.watch.row(&body, row.body, self.keys)?;
        if let Some(life) = &mut self.life {
            life.row(&body, row.body, &self.frontier, &prev)?;
        }
        self.report.records += 1;
        self.report.first_at.get_or_insert(body.event.at);
        self.report.last_at = Some(body.event.at);
        self.prev = Some(leaf);
        self.frontier.append(leaf);
        self.meet_checkpoints()
    }

    /// Checks every stored and held checkpoint of the present size.
    fn meet_checkpoints(&mut self) -> Outcome {
        let size = self.frontier.size();
        // `None` is the end or an error of the source, which `next` returns.
        while self.checkpoints.peek().is_some_and(|next| next.as_ref().map_or(true, |next| next.size <= size)) {
            let Some(stored) = self.checkpoints.next().transpose()? else { break };
            if stored.size < size {
                let message = "a checkpoint is stored twice or lies before the first record";
                return Err(Finding::new(FindingKind::CheckpointMismatch, stored.size.checked_sub(1), message).into());
            }
            self.signatures.push(stored, self.frontier.root())?;
            self.covered = Some(size);
        }
        while let Some(held) = self.held.pop_if(|held| held.size <= size) {
            if held.size < size {
                // Only a segment starts above zero; what lies before it cannot be judged and is not counted.
                continue;
            }
            if held.root != self.frontier.root() {
                return Err(forked(size));
            }
            self.report.held += 1;
        }
        Ok(())
    }

    /// Checks the log's end and reports.
    pub fn finish(mut self) -> Outcome<Report> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.signatures.flush()?;
        let size = self.frontier.size();
        let truncated = |signed_size: u64, what: &str| {
            let message = format!("the log ends after {size} records, but {what} is signed for {signed_size}");
            Finding::new(FindingKind::Truncated, Some(size), message)
        };
        if let Some(stored) = self.checkpoints.next().transpose()? {
            let seq = stored.size.checked_sub(1);
            let signed = self.keys.open(&stored.note).map_err(|finding| Finding { seq, ..finding })?;
            if signed.size != stored.size {
                let message = format!("the checkpoint stored here was signed for {} records", signed.size);
                return Err(Finding::new(FindingKind::CheckpointMismatch, stored.size.checked_sub(1), message).into());
            }
            return Err(truncated(signed.size, "a stored checkpoint").into());
        }
        if let Some(held) = self.held.first() {
            return Err(truncated(held.size, "a held checkpoint").into());
        }
        if self.report.records == 0 && self.covered.is_none() {
            return Err(Finding::new(FindingKind::Empty, None, format!("log '{}' has no record", self.log)).into());
        }
        if self.covered != Some(size) {
            let covered = self.covered.unwrap_or(self.report.from);
            let message = format!("no checkpoint covers the records from {covered} to the end");
            return Err(Finding::new(FindingKind::Uncovered, Some(covered), message).into());
        }
        self.watch.finish(self.keys, self.report.from, size, self.life.is_some())?;
        if let Some(life) = &self.life {
            // The report still says where the log began.
            life.finish(self.report.root)?;
        }
        self.report.checkpoints += self.signatures.verified();
        self.report.size = size;
        self.report.root = self.frontier.root();
        Ok(self.report)
    }
}

fn forked(size: u64) -> VerifyError {
    let message = format!("a held checkpoint of {size} records states another history");
    Finding::new(FindingKind::Fork, size.checked_sub(1), message).into()
}
