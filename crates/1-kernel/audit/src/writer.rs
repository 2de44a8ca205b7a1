//! The sequencer: gives each event its place, hash, link and day, and signs one checkpoint per commit.

use agentos_base::{Ambient, Turns};
use agentos_failpoint::{Point, hit};
use agentos_proof::{Day, Frontier, Hash, KeyChain, day, leaf, rotation};
use agentos_store::{Arg, Conn, Dialect, Sequencer};
use agentos_types::{
    Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Phase},
};

use crate::{
    LogIdentity,
    days::{self, Opened, Present},
    stored,
};

/// Lives on the store's writer thread. What it holds in memory is a copy of the row `audit_frontier`.
pub struct LogWriter {
    identity: LogIdentity,
    ambient: Ambient,
    durable: Tail,
    /// The tail after the transaction that is under way.
    pending: Option<Tail>,
    /// Days that records of an older program have begun; written with the next commit.
    backlog: Vec<Day>,
    /// Size up to which an earlier key signs.
    rotated_at: u64,
}

#[derive(Clone, Default)]
struct Tail {
    frontier: Frontier,
    last_leaf: Hash,
    present: Option<Present>,
    opened: Opened,
    /// The commit changes the key.
    rotates: bool,
}

/// One record with its place in the tree.
struct Leaf<'e> {
    seq: i64,
    indexed: leaf::Indexed<'e>,
    body: Vec<u8>,
    prev: Hash,
    hash: Hash,
    /// Number of its day.
    day: u64,
}

impl Leaf<'_> {
    /// The last one is only for Postgres.
    fn args<'a>(&'a self, log: &'a str, opened: Opened) -> [Arg<'a>; 14] {
        [
            log.into(),
            self.seq.into(),
            self.indexed.at.into(),
            Arg::Text(&self.indexed.actor),
            Arg::Text(&self.indexed.action),
            Arg::Text(&self.indexed.resource),
            Arg::Text(self.indexed.phase),
            Arg::Text(self.indexed.decision),
            self.indexed.task.as_deref().into(),
            self.indexed.correlation.as_deref().into(),
            Arg::Bytes(&self.body),
            Arg::Bytes(&self.prev),
            Arg::Bytes(&self.hash),
            opened.column(self.day).into(),
        ]
    }
}

impl LogWriter {
    pub fn new(identity: LogIdentity, ambient: Ambient) -> Self {
        let (durable, backlog) = (Tail::default(), Vec::new());
        Self { identity, ambient, durable, pending: None, backlog, rotated_at: 0 }
    }

    /// Gives each event its place. Nothing is written yet.
    fn append<'e>(&self, tail: &mut Tail, begun: &mut Vec<Day>, event: &'e AuditEvent) -> Result<Leaf<'e>> {
        let seq = tail.frontier.size();
        let (body, hash) = leaf::encode(self.identity.log(), seq, &tail.last_leaf, event)?;
        begun.extend(days::step(&mut tail.present, day::date_of(event.at), &tail.frontier, tail.last_leaf));
        let day = tail.present.map_or(0, |present| present.number);
        let leaf = Leaf { seq: size(seq)?, indexed: leaf::Indexed::of(event), body, prev: tail.last_leaf, hash, day };
        tail.frontier.append(hash);
        tail.last_leaf = hash;
        if event.action == rotation::ACTION && event.phase == Phase::Intent {
            // A change of the key is recorded together with its statement or not at all.
            let named = event.facts.get(rotation::NEW_KEY).and_then(|key| key.as_str().map(str::to_owned));
            if tail.rotates || named != self.identity.staged_key().map(|key| key.to_string()) {
                return Err(Fault::new(
                    Code::AUDIT_KEY_UNUSABLE,
                    "the record names another next key than the staged one",
                ));
            }
            tail.rotates = true;
        }
        Ok(leaf)
    }

    fn write(&self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<Tail> {
        let mut tail = self.durable.clone();
        let mut begun = self.backlog.clone();
        let mut turns = Turns::default();
        let leaf = |event| {
            turns.step();
            self.append(&mut tail, &mut begun, event)
        };
        let leaves: Vec<Leaf<'_>> = events.iter().map(leaf).collect::<Result<_>>()?;
        let now = self.ambient.now();
        // No key signs outside its time, and the key of an earlier one is gone.
        let sign = |day: &Day| {
            let ours = day.first_seq > self.rotated_at;
            ours.then(|| self.identity.sign(day.first_seq, &day.frontier.root()))
        };
        days::insert(conn, self.identity.log(), &begun, sign, now)?;
        if let Some(present) = tail.present.filter(|_| !begun.is_empty() || tail.opened.is_unknown()) {
            tail.opened = days::open_partitions(conn, present)?;
        }
        self.insert(conn, &leaves, tail.opened)?;
        self.close(conn, &tail, now)?;
        Ok(tail)
    }

    fn insert(&self, conn: &Conn<'_>, leaves: &[Leaf<'_>], opened: Opened) -> Result<()> {
        let mut turns = Turns::default();
        leaves.iter().try_for_each(|leaf| {
            turns.step();
            let args = leaf.args(self.identity.log(), opened);
            match conn.dialect() {
                Dialect::Sqlite => conn.execute_later(
                    "INSERT INTO audit_record
                       (log, seq, at, actor, action, resource, phase, decision, task, correlation, body, prev_hash, leaf_hash)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                    args.split_at(13).0,
                ),
                Dialect::Postgres => conn.execute_later(
                    "INSERT INTO audit_record
                       (log, seq, at, actor, action, resource, phase, decision, task, correlation, body, prev_hash, leaf_hash, day)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
                    &args,
                ),
            }
        })
    }

    fn close(&self, conn: &Conn<'_>, tail: &Tail, now: Timestamp) -> Result<()> {
        hit(Point::AuditRecordsWritten);
        let log = self.identity.log();
        let count = size(tail.frontier.size())?;
        let note = self.identity.sign(tail.frontier.size(), &tail.frontier.root());
        conn.execute_later(
            "INSERT INTO audit_checkpoint (log, size, at, note) VALUES ($1, $2, $3, $4)",
            &[log.into(), count.into(), now.into(), Arg::Text(&note)],
        )?;
        hit(Point::AuditCheckpointWritten);
        conn.execute_later(
            "INSERT INTO audit_frontier (log, size, frontier, last_leaf, divided) VALUES ($1, $2, $3, $4, $2)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, frontier = excluded.frontier,
               last_leaf = excluded.last_leaf, divided = excluded.divided",
            &[log.into(), count.into(), Arg::Bytes(&tail.frontier.to_bytes()), Arg::Bytes(&tail.last_leaf)],
        )?;
        if tail.rotates {
            let statement = self.identity.sign_rotation(tail.frontier.size())?;
            conn.execute_later(
                "INSERT INTO audit_key (log, size, at, note) VALUES ($1, $2, $3, $4)",
                &[log.into(), count.into(), now.into(), Arg::Text(&statement)],
            )?;
        }
        conn.settle()?;
        hit(Point::AuditTailWritten);
        Ok(())
    }
}

impl Sequencer for LogWriter {
    /// Refuses to go on after a tail that is not the one under the newest checkpoint: appending would hide the damage.
    fn load(&mut self, conn: &Conn<'_>) -> Result<()> {
        let log = self.identity.log().to_owned();
        let stored = conn.query_one(
            "SELECT frontier, last_leaf FROM audit_frontier WHERE log = $1",
            &[Arg::Text(&log)],
            |row| Ok((row.bytes(0)?, row.bytes(1)?)),
        )?;
        let newest = conn.query_one(
            "SELECT note FROM audit_checkpoint WHERE log = $1 ORDER BY size DESC LIMIT 1",
            &[Arg::Text(&log)],
            |row| row.text(0),
        )?;
        let last = conn.query_one(
            "SELECT seq, leaf_hash FROM audit_record WHERE log = $1 ORDER BY seq DESC LIMIT 1",
            &[Arg::Text(&log)],
            |row| Ok((row.integer(0)?, row.bytes(1)?)),
        )?;
        let keys = self.load_keys(conn)?;
        let damaged = |what: &str| {
            Fault::new(Code::AUDIT_TAMPERED, format!("the audit log's end is damaged: {what}"))
                .hint("keep the files and run: agent-os audit verify")
        };
        self.durable = match (stored, newest) {
            (None, None) if last.is_none() => Tail::default(),
            (Some((frontier, last_leaf)), Some(note)) => {
                let frontier = Frontier::from_bytes(&frontier)?;
                let last_leaf =
                    Hash::try_from(last_leaf.as_slice()).map_err(|_| damaged("the last leaf is not a hash"))?;
                let signed =
                    keys.open(&note).map_err(|finding| Fault::new(Code::AUDIT_TAMPERED, finding.to_string()))?;
                if signed.size != frontier.size() || signed.root != frontier.root() {
                    return Err(damaged("the newest checkpoint is not about the stored tail"));
                }
                // The root does not show the last leaf of a tree of even size, and the next record will name it.
                if last != Some((size(signed.size)? - 1, last_leaf.to_vec())) {
                    return Err(damaged("the last record is not the one that the tail ends in"));
                }
                let (present, backlog) = days::load(conn, &log, size(signed.size)?)?;
                self.backlog = backlog;
                Tail { frontier, last_leaf, present, ..Tail::default() }
            }
            _ => return Err(damaged("checkpoints and tail do not belong together")),
        };
        hit(Point::AuditTailLoaded);
        Ok(())
    }

    fn seal(&mut self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        hit(Point::AuditSealBegun);
        let tail = self.write(conn, events).map_err(|source| {
            Fault::new(Code::AUDIT_UNAVAILABLE, "the audit record could not be written, so nothing was done")
                .detail(format!("{source} {}", source.detail.as_deref().unwrap_or_default()))
                .retry_after(std::time::Duration::from_secs(5))
        })?;
        self.pending = Some(tail);
        Ok(())
    }

    fn settled(&mut self, durable: bool) {
        if let Some(mut tail) = self.pending.take()
            && durable
        {
            if std::mem::take(&mut tail.rotates) {
                self.identity.switch();
                self.rotated_at = tail.frontier.size();
            }
            self.backlog.clear();
            self.durable = tail;
            hit(Point::AuditTailSettled);
        }
    }
}

impl LogWriter {
    /// All keys of the log. A change that was committed without our hearing of it is taken up here.
    fn load_keys(&mut self, conn: &Conn<'_>) -> Result<KeyChain> {
        let notes = stored::rotations(conn, self.identity.log())?;
        if let Some(newest) = notes.last() {
            self.identity.adopt(&rotation::parse(newest)?.to)?;
        }
        let keys = KeyChain::new(&self.identity.verifier_key(), &notes)
            .map_err(|finding| Fault::new(Code::AUDIT_TAMPERED, finding.to_string()))?;
        self.rotated_at = keys.rotations().last().map_or(0, |rotation| rotation.size);
        Ok(keys)
    }
}

pub(crate) fn size(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(Fault::internal)
}
