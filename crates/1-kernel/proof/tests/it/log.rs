//! A log as its writer leaves it, in a database of its own, with the means to attack it.

use std::path::PathBuf;

use agentos_proof::{Frontier, Indexed, SigningKey, VerifierKey, checkpoint, leaf};
use agentos_types::{
    Actor, EventId, TaskId, Timestamp,
    audit::{AuditEvent, Decision, Phase},
};
use rusqlite::{Connection, params};
use tempfile::TempDir;

pub const LOG: &str = "node-1";
/// Records of each commit; each commit ends with a checkpoint, so checkpoints lie at 5, 8, 9 and 16.
pub const COMMITS: [usize; 4] = [5, 3, 1, 7];
pub const RECORDS: u64 = 16;

const SCHEMA: &str = "PRAGMA journal_mode = WAL;
CREATE TABLE audit_record(log TEXT, seq INTEGER, at INTEGER, actor TEXT, action TEXT, resource TEXT, phase TEXT,
    decision TEXT, task TEXT, correlation TEXT, body BLOB, prev_hash BLOB, leaf_hash BLOB, PRIMARY KEY(log, seq));
CREATE TABLE audit_checkpoint(log TEXT, size INTEGER, at INTEGER, note TEXT, PRIMARY KEY(log, size));
CREATE INDEX audit_by_time ON audit_record(at);";

pub struct TestLog {
    pub directory: TempDir,
    pub connection: Connection,
}

pub fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn verifier_key() -> VerifierKey {
    VerifierKey::new(checkpoint::origin(LOG), signing_key(1).verifying_key()).unwrap()
}

pub fn event(number: u64) -> AuditEvent {
    let at = Timestamp::from_millis(1_795_392_000_000 + number as i64);
    let actor = match number % 3 {
        0 => Actor::System,
        1 => Actor::Agent {
            agent: "monitor".parse().unwrap(),
            instance: agentos_types::InstanceId::generate(at, 1),
            task: None,
        },
        _ => Actor::Token { token: agentos_types::TokenId::generate(at, 2), name: "op".into() },
    };
    AuditEvent::new(EventId::generate(at, number.into()), at, actor, "file.read", format!("/srv/data/{number}"))
        .phase(if number.is_multiple_of(2) { Phase::Intent } else { Phase::Outcome }, Decision::Allowed)
        .task(number.is_multiple_of(2).then(|| TaskId::generate(at, 3)))
        .correlation(format!("step-{number}"))
        .fact("bytes", number)
}

impl TestLog {
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("audit.db")
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("audit.db")).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let log = Self { directory, connection };
        log.write(&(0..RECORDS).map(event).collect::<Vec<_>>(), Some(&signing_key(1)));
        log
    }

    /// Writes all events as the writer would; without a key the checkpoints that are there stay.
    pub fn write(&self, events: &[AuditEvent], key: Option<&SigningKey>) {
        let (mut frontier, mut prev) = (Frontier::new(), leaf::NO_PREVIOUS);
        let mut commit_ends = Vec::new();
        for size in COMMITS {
            commit_ends.push(commit_ends.last().copied().unwrap_or(0) + size as u64);
        }
        for event in events {
            prev = self.insert(frontier.size(), &prev, event);
            frontier.append(prev);
            if let Some(key) = key.filter(|_| commit_ends.contains(&frontier.size())) {
                let note = checkpoint::sign(key, &checkpoint::origin(LOG), frontier.size(), &frontier.root());
                let sql = "INSERT INTO audit_checkpoint VALUES (?1, ?2, 0, ?3)";
                self.connection.execute(sql, params![LOG, frontier.size() as i64, note]).unwrap();
            }
        }
    }

    /// One row, consistent in itself; returns its leaf hash.
    pub fn insert(&self, seq: u64, prev: &[u8; 32], event: &AuditEvent) -> [u8; 32] {
        let (body, hash) = leaf::encode(LOG, seq, prev, event).unwrap();
        let i = Indexed::of(event);
        let sql = "INSERT INTO audit_record VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)";
        let (task, correlation) = (i.task.as_deref(), i.correlation.as_deref());
        self.connection
            .execute(
                sql,
                params![
                    LOG,
                    seq as i64,
                    i.at,
                    i.actor,
                    i.action,
                    i.resource,
                    i.phase,
                    i.decision,
                    task,
                    correlation,
                    body,
                    prev,
                    hash
                ],
            )
            .unwrap();
        hash
    }

    pub fn sql(&self, statements: &str) {
        self.connection.execute_batch(statements).unwrap();
    }

    pub fn leaf_hash(&self, seq: u64) -> [u8; 32] {
        let sql = "SELECT leaf_hash FROM audit_record WHERE seq = ?1";
        self.connection.query_row(sql, [seq as i64], |row| row.get(0)).unwrap()
    }

    pub fn note(&self, size: u64) -> String {
        let sql = "SELECT note FROM audit_checkpoint WHERE size = ?1";
        self.connection.query_row(sql, [size as i64], |row| row.get(0)).unwrap()
    }

    /// Writes another history: record 7 says something else, everything after it is recomputed.
    pub fn rewrite(&self, key: Option<&SigningKey>) {
        self.sql("DELETE FROM audit_record");
        if key.is_some() {
            self.sql("DELETE FROM audit_checkpoint");
        }
        let mut events: Vec<AuditEvent> = (0..RECORDS).map(event).collect();
        events[7].resource = "/srv/data/innocent".into();
        self.write(&events, key);
    }
}
