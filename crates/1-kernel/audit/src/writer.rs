//! The sequencer: gives each event its place, hash and link, and signs one checkpoint per commit.

use agentos_base::Ambient;
use agentos_proof::{Frontier, Hash, checkpoint, leaf};
use agentos_store::{Arg, Conn, Sequencer};
use agentos_types::{Code, Fault, Result, Timestamp, audit::AuditEvent};

use crate::LogIdentity;

/// Lives on the store's writer thread. What it holds in memory is a copy of the row `audit_frontier`.
pub struct LogWriter {
    identity: LogIdentity,
    ambient: Ambient,
    durable: Tail,
    /// The tail after the transaction that is under way.
    pending: Option<Tail>,
}

#[derive(Clone, Default)]
struct Tail {
    frontier: Frontier,
    last_leaf: Hash,
}

/// One record with its place in the tree.
struct Leaf<'e> {
    seq: i64,
    indexed: leaf::Indexed<'e>,
    body: Vec<u8>,
    prev: Hash,
    hash: Hash,
}

impl Leaf<'_> {
    fn args<'a>(&'a self, log: &'a str) -> [Arg<'a>; 13] {
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
        ]
    }
}

impl LogWriter {
    pub fn new(identity: LogIdentity, ambient: Ambient) -> Self {
        Self { identity, ambient, durable: Tail::default(), pending: None }
    }

    /// Gives each event its place. Nothing is written yet.
    fn append<'e>(&self, tail: &mut Tail, event: &'e AuditEvent) -> Result<Leaf<'e>> {
        let seq = tail.frontier.size();
        let (body, hash) = leaf::encode(self.identity.log(), seq, &tail.last_leaf, event)?;
        let leaf = Leaf { seq: size(seq)?, indexed: leaf::Indexed::of(event), body, prev: tail.last_leaf, hash };
        tail.frontier.append(hash);
        tail.last_leaf = hash;
        Ok(leaf)
    }

    fn insert(&self, conn: &Conn<'_>, leaves: &[Leaf<'_>]) -> Result<()> {
        leaves.iter().try_for_each(|leaf| {
            conn.execute_later(
                "INSERT INTO audit_record
                   (log, seq, at, actor, action, resource, phase, decision, task, correlation, body, prev_hash, leaf_hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                &leaf.args(self.identity.log()),
            )
        })
    }

    fn close(&self, conn: &Conn<'_>, tail: &Tail, now: Timestamp) -> Result<()> {
        let log = self.identity.log();
        let count = size(tail.frontier.size())?;
        let note = self.identity.sign(tail.frontier.size(), &tail.frontier.root());
        conn.execute_later(
            "INSERT INTO audit_checkpoint (log, size, at, note) VALUES ($1, $2, $3, $4)",
            &[log.into(), count.into(), now.into(), Arg::Text(&note)],
        )?;
        conn.execute_later(
            "INSERT INTO audit_frontier (log, size, frontier, last_leaf) VALUES ($1, $2, $3, $4)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, frontier = excluded.frontier, last_leaf = excluded.last_leaf",
            &[log.into(), count.into(), Arg::Bytes(&tail.frontier.to_bytes()), Arg::Bytes(&tail.last_leaf)],
        )?;
        conn.settle()
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
                    checkpoint::parse_and_verify(&note, self.identity.verifier_key(), &checkpoint::origin(&log))?;
                if signed.size != frontier.size() || signed.root != frontier.root() {
                    return Err(damaged("the newest checkpoint is not about the stored tail"));
                }
                // The root does not show the last leaf of a tree of even size, and the next record will name it.
                if last != Some((size(signed.size)? - 1, last_leaf.to_vec())) {
                    return Err(damaged("the last record is not the one that the tail ends in"));
                }
                Tail { frontier, last_leaf }
            }
            _ => return Err(damaged("checkpoints and tail do not belong together")),
        };
        Ok(())
    }

    fn seal(&mut self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        let mut tail = self.durable.clone();
        let leaves: Result<Vec<Leaf<'_>>> = events.iter().map(|event| self.append(&mut tail, event)).collect();
        let sealed = leaves
            .and_then(|leaves| self.insert(conn, &leaves))
            .and_then(|()| self.close(conn, &tail, self.ambient.now()));
        sealed.map_err(|source| {
            Fault::new(Code::AUDIT_UNAVAILABLE, "the audit record could not be written, so nothing was done")
                .detail(format!("{source} {}", source.detail.as_deref().unwrap_or_default()))
                .retry_after(std::time::Duration::from_secs(5))
        })?;
        self.pending = Some(tail);
        Ok(())
    }

    fn settled(&mut self, durable: bool) {
        if let Some(tail) = self.pending.take()
            && durable
        {
            self.durable = tail;
        }
    }
}

fn size(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(Fault::internal)
}
