//! Holding checkpoints of other nodes' logs. What was accepted once is never given up for something that contradicts it.
//!
//! Judgement and change are one transaction on the one writer, so that of two checkpoints that arrive together the second is
//! judged by the first. A new key of a log is followed where the old one has signed it, and is kept with the first checkpoint that
//! it signs. An accepted checkpoint leaves no audit record: it is itself a signed and stored one, and two nodes
//! that witness each other would make each other's logs grow for ever. A refusal leaves one when it begins,
//! and so does a change of a log's key.

use std::sync::Arc;

use agentos_base::Ambient;
use agentos_proof::{Checkpoint, Cosigner, FindingKind, KeyChain, VerifierKey, WitnessKey, checkpoint};
use agentos_store::{Arg, Conn, Store, Tx};
use agentos_types::{
    Actor, Code, Fault, LogName, Result, Timestamp,
    audit::{AuditEvent, Decision},
    witness::{AddWitnessedLog, HeldCheckpoint, SubmitCheckpoint, WitnessedLog, WitnessedLogDetail},
};

use crate::judge::{Submission, Verdict};

/// Logs of one witness. Each costs a row, and up to [`CHECKPOINTS_KEPT`] notes of some 500 bytes.
const LOGS_MAX: i64 = 1_000;
/// Checkpoints kept of a log. The newest alone decides; older ones tell an investigator when a history began to differ.
const CHECKPOINTS_KEPT: i64 = 1_000;

/// Cheap to clone.
#[derive(Clone)]
pub struct Witness {
    store: Store,
    ambient: Ambient,
    cosigner: Arc<Cosigner>,
}

impl Witness {
    pub fn new(store: Store, ambient: Ambient, cosigner: Cosigner) -> Self {
        Self { store, ambient, cosigner: Arc::new(cosigner) }
    }

    /// The key that verifies this node's cosignatures.
    pub fn key(&self) -> &WitnessKey {
        self.cosigner.public()
    }

    /// Registers a log. Under a name that exists, for the same log, it takes the key anew, forgets what was followed from the one
    /// before, and settles a refusal; what is held stays held.
    pub async fn add(&self, actor: &Actor, body: AddWitnessedLog) -> Result<WitnessedLog> {
        let key: VerifierKey = body.public_key.trim().parse().map_err(invalid)?;
        let log: LogName = checkpoint::log_of(key.name())
            .ok_or_else(|| invalid(format!("'{}' is not the key of a log", key.name())))?
            .parse()
            .map_err(invalid)?;
        let (actor, now) = (actor.clone(), self.ambient.now());
        let event =
            self.event(&actor, "witness.add", &body.name).fact("log", log.as_str()).fact("key", key.to_string());
        self.store.write(move |tx| add(tx, &body.name, &log, &key, (&actor, now), event)).await
    }

    pub async fn list(&self) -> Result<Vec<WitnessedLog>> {
        self.store.read(|conn| logs(conn, None)).await
    }

    /// One log with what is held of it.
    pub async fn get(&self, name: &LogName) -> Result<WitnessedLogDetail> {
        let name = name.clone();
        self.store
            .read(move |conn| {
                let log = by_name(conn, &name)?;
                let mut checkpoints = held_checkpoints(conn, &log.log, CHECKPOINTS_KEPT)?;
                checkpoints.reverse();
                Ok(WitnessedLogDetail { log, checkpoints })
            })
            .await
    }

    /// Forgets a log and everything that is held of it.
    pub async fn remove(&self, actor: &Actor, name: &LogName) -> Result<()> {
        let event = self.event(actor, "witness.remove", name);
        let name = name.clone();
        self.store
            .write(move |tx| {
                let log = by_name(tx, &name)?;
                tx.execute("DELETE FROM witness_checkpoint WHERE log = $1", &[(&log.log).into()])?;
                tx.execute("DELETE FROM witness_log WHERE name = $1", &[(&name).into()])?;
                // What is given up is written down: whoever asks later sees where the log stood.
                tx.record(event.fact("log", log.log.as_str()).fact("size", log.size.unwrap_or(0)));
                Ok(())
            })
            .await
    }

    /// The newest checkpoint that is held of the log with this id.
    pub async fn held(&self, log: &LogName) -> Result<HeldCheckpoint> {
        let log = log.clone();
        let newest = move |conn: &Conn<'_>| {
            let held = held_checkpoints(conn, &log, 1)?.pop().ok_or_else(|| not_found(&log))?;
            let rotations = logs(conn, Some(log.as_str()))?.pop().map(|log| log.rotations).unwrap_or_default();
            Ok(HeldCheckpoint { rotations, ..held })
        };
        self.store.read(newest).await
    }

    /// Judges a checkpoint. Answers with the cosigned one that is held now.
    pub async fn submit(&self, actor: &Actor, body: SubmitCheckpoint) -> Result<HeldCheckpoint> {
        let submission = Submission::parse(body)?;
        let (this, actor) = (self.clone(), actor.clone());
        let outcome = self.store.write(move |tx| this.decide(tx, &actor, &submission)).await?;
        if let Err(fault) = &outcome {
            tracing::error!(code = %fault.code, message = %fault.message, "a witnessed log contradicts what is held of it");
        }
        outcome
    }

    /// The inner result is a refusal: it is durable, and so not an error of the transaction.
    fn decide(&self, tx: &mut Tx<'_>, actor: &Actor, submission: &Submission) -> Result<Result<HeldCheckpoint>> {
        let id = checkpoint::log_of(&submission.origin).unwrap_or_default();
        let found = logs(tx, Some(id))?.pop();
        let log = found.ok_or_else(|| {
            Fault::new(Code::WITNESS_LOG_NOT_FOUND, "the log of this checkpoint is not registered here")
        })?;
        let key: VerifierKey = log.public_key.parse()?;
        let mut keys = KeyChain::new(&key, &log.rotations).map_err(Fault::internal)?;
        keys.follow(submission.rotations());
        let held = held_checkpoints(tx, &log.log, 1)?.pop();
        // Held under the key of its time; the witness's own store is what it trusts.
        let kept = held.as_ref().map(|held| checkpoint::parse_unverified(&held.note)).transpose()?;
        match submission.judge(&keys, kept.as_ref())? {
            Verdict::Same => held
                .map(|held| Ok(HeldCheckpoint { rotations: log.rotations, ..held }))
                .ok_or_else(|| Fault::internal("the same as nothing")),
            Verdict::Grown(shown) => {
                self.take(tx, actor, log, (submission.note(), &shown), held.as_ref(), &keys).map(Ok)
            }
            Verdict::Refused(fault) => {
                self.refuse(tx, actor, &log, submission, &fault)?;
                Ok(Err(fault))
            }
        }
    }

    /// Holds what continues, and with it the changes of the key that led to it.
    fn take(
        &self,
        tx: &mut Tx<'_>,
        actor: &Actor,
        log: WitnessedLog,
        (note, shown): (&str, &Checkpoint),
        held: Option<&HeldCheckpoint>,
        keys: &KeyChain,
    ) -> Result<HeldCheckpoint> {
        // A key that followed earlier than a checkpoint of the old one that is held did not follow it in this history.
        if let Some(Err(finding)) = held.map(|held| keys.open(&held.note))
            && finding.kind == FindingKind::KeyTime
        {
            let message = format!("a change of the log's key lies before what is held: {}", finding.message);
            return Err(Fault::new(Code::CHECKPOINT_INVALID, message));
        }
        let now = self.ambient.now();
        let note = self.cosigner.cosign(note, now)?;
        insert(tx, &log.log, shown.size, now, &note)?;
        let rotations = keys.notes().to_vec();
        if rotations.len() > log.rotations.len() {
            let text = serde_json::to_string(&rotations).map_err(Fault::internal)?;
            tx.execute(
                "UPDATE witness_log SET rotations = $2 WHERE name = $1",
                &[(&log.name).into(), Arg::Text(&text)],
            )?;
            let event = self.event(actor, "witness.rotation", &log.name).fact("log", log.log.as_str());
            tx.record(event.fact("key", keys.newest().to_string()).fact("size", shown.size));
        }
        Ok(HeldCheckpoint { log: log.log, size: shown.size, seen_at: now, note, rotations })
    }

    /// The first contradiction is kept as evidence and recorded; repetitions are counted.
    fn refuse(
        &self,
        tx: &mut Tx<'_>,
        actor: &Actor,
        log: &WitnessedLog,
        shown: &Submission,
        fault: &Fault,
    ) -> Result<()> {
        let code = fault.code.to_string();
        tx.execute(
            "UPDATE witness_log SET refusals = refusals + 1, refused_at = coalesce(refused_at, $2),
               refused_code = coalesce(refused_code, $3), refused_note = coalesce(refused_note, $4) WHERE name = $1",
            &[(&log.name).into(), self.ambient.now().into(), Arg::Text(&code), Arg::Text(shown.note())],
        )?;
        if log.refused_code != Some(fault.code) {
            let event = self.event(actor, "witness.checkpoint", &log.name).decision(Decision::Denied);
            let event = event.fact("log", log.log.as_str()).fact("code", code).fact("held", log.size.unwrap_or(0));
            tx.record(event.fact("reason", fault.message.clone()));
        }
        Ok(())
    }

    fn event(&self, actor: &Actor, action: &str, name: &LogName) -> AuditEvent {
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), actor.clone(), action, format!("log:{name}"))
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Witness({})", self.key().name())
    }
}

fn add(
    tx: &mut Tx<'_>,
    name: &LogName,
    log: &LogName,
    key: &VerifierKey,
    (actor, now): (&Actor, Timestamp),
    event: AuditEvent,
) -> Result<WitnessedLog> {
    let known = logs(tx, None)?;
    if let Some(other) = known.iter().find(|known| (known.name == *name) != (known.log == *log)) {
        return Err(invalid(format!("log '{}' is registered as '{}' already", other.log, other.name))
            .hint("remove it first, or choose another name"));
    }
    if known.iter().all(|known| known.name != *name) && i64::try_from(known.len()).is_ok_and(|count| count >= LOGS_MAX)
    {
        return Err(invalid(format!("{LOGS_MAX} logs are registered already")));
    }
    tx.execute(
        "INSERT INTO witness_log (name, log, public_key, added_by, added_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE SET public_key = excluded.public_key, added_by = excluded.added_by,
           added_at = excluded.added_at, rotations = '[]', refused_at = NULL, refused_code = NULL, refused_note = NULL, refusals = 0",
        &[name.into(), log.into(), Arg::Text(&key.to_string()), Arg::Text(&actor.label()), now.into()],
    )?;
    tx.record(event);
    by_name(tx, name)
}

fn insert(tx: &Tx<'_>, log: &LogName, size: u64, now: Timestamp, note: &str) -> Result<()> {
    let size = i64::try_from(size).map_err(|_| invalid("the log is too long"))?;
    tx.execute(
        "INSERT INTO witness_checkpoint (log, size, at, note) VALUES ($1, $2, $3, $4)",
        &[log.into(), size.into(), now.into(), note.into()],
    )?;
    tx.execute(
        "DELETE FROM witness_checkpoint WHERE log = $1 AND size < (SELECT min(size) FROM
           (SELECT size FROM witness_checkpoint WHERE log = $1 ORDER BY size DESC LIMIT $2) AS newest)",
        &[log.into(), CHECKPOINTS_KEPT.into()],
    )?;
    Ok(())
}

/// All logs, or the one with this id.
fn logs(conn: &Conn<'_>, id: Option<&str>) -> Result<Vec<WitnessedLog>> {
    let sql =
        "SELECT l.name, l.log, l.public_key, l.added_by, l.added_at, l.refused_at, l.refused_code, l.refused_note,
           l.refusals, c.size, c.at, l.rotations
         FROM witness_log AS l LEFT JOIN witness_checkpoint AS c ON c.log = l.log
           AND c.size = (SELECT max(size) FROM witness_checkpoint WHERE log = l.log)
         WHERE l.log = $1 OR $1 IS NULL ORDER BY l.name LIMIT 1000";
    conn.query(sql, &[id.into()], |row| {
        Ok(WitnessedLog {
            name: row.parsed(0)?,
            log: row.parsed(1)?,
            public_key: row.text(2)?,
            rotations: serde_json::from_str(&row.text(11)?).map_err(Fault::internal)?,
            added_by: row.text(3)?,
            added_at: row.time(4)?,
            refused_at: row.time_or_null(5)?,
            refused_code: row.parsed_or_null(6)?,
            refused_note: row.text_or_null(7)?,
            refusals: u64::try_from(row.integer(8)?).unwrap_or(0),
            size: row.integer_or_null(9)?.and_then(|size| u64::try_from(size).ok()),
            seen_at: row.time_or_null(10)?,
        })
    })
}

fn by_name(conn: &Conn<'_>, name: &LogName) -> Result<WitnessedLog> {
    let found = logs(conn, None)?.into_iter().find(|log| log.name == *name);
    found.ok_or_else(|| not_found(name))
}

/// Newest first.
fn held_checkpoints(conn: &Conn<'_>, log: &LogName, limit: i64) -> Result<Vec<HeldCheckpoint>> {
    let sql = "SELECT size, at, note FROM witness_checkpoint WHERE log = $1 ORDER BY size DESC LIMIT $2";
    conn.query(sql, &[log.into(), limit.into()], |row| {
        let size = u64::try_from(row.integer(0)?).map_err(Fault::internal)?;
        Ok(HeldCheckpoint { log: log.clone(), size, seen_at: row.time(1)?, note: row.text(2)?, rotations: Vec::new() })
    })
}

fn not_found(name: &LogName) -> Fault {
    Fault::new(Code::WITNESS_LOG_NOT_FOUND, format!("no checkpoint of a log '{name}' is held here"))
        .hint("the operator of this node registers it with: agent-os witness add NAME --public-key KEY")
}

fn invalid(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::WITNESS_LOG_INVALID, format!("the log cannot be registered: {why}"))
}
