//! A log of several days with orders to prune and changes of its key, in a database as the server leaves it; and what the
//! small program says about forgeries.

use std::path::PathBuf;

use agentos_proof::{
    Day, FindingKind, Frontier, SigningKey, VerifierKey, VerifyError, checkpoint, day, leaf, life, rotation,
    source::{segment, sqlite},
};
use agentos_types::{
    Actor, EventId, Timestamp,
    audit::{AuditEvent, Decision, Phase},
    hex,
};
use rusqlite::params;

use crate::{
    log::{LOG, TestLog, event, signing_key},
    program::run,
};

const TABLES: &str = "DELETE FROM audit_record; DELETE FROM audit_checkpoint;
CREATE TABLE audit_day(log TEXT, number INTEGER, date INTEGER, first_seq INTEGER, frontier BLOB, last_leaf BLOB);
CREATE TABLE audit_prune(log TEXT, first_kept INTEGER, day INTEGER, at INTEGER);
CREATE TABLE audit_key(log TEXT, size INTEGER, at INTEGER, note TEXT);
CREATE TABLE audit_frontier(log TEXT PRIMARY KEY, size INTEGER, divided INTEGER);";
/// Records of a day, the last of which may change the key or order a prune.
const DAY_RECORDS: u64 = 5;

/// Writes like the server, one commit a day.
struct Writer {
    log: TestLog,
    key: SigningKey,
    frontier: Frontier,
    prev: [u8; 32],
    days: Vec<Day>,
}

fn key(seed: u8) -> VerifierKey {
    VerifierKey::new(checkpoint::origin(LOG), signing_key(seed).verifying_key()).unwrap()
}

impl Writer {
    fn new() -> Self {
        let log = TestLog::new();
        log.sql(TABLES);
        Self { log, key: signing_key(1), frontier: Frontier::new(), prev: leaf::NO_PREVIOUS, days: Vec::new() }
    }

    fn noon(&self) -> Timestamp {
        Timestamp(1_795_435_200_000_000 + self.days.len() as i64 * day::DAY_MICROS)
    }

    fn put(&mut self, event: &AuditEvent) {
        self.prev = self.log.insert(self.frontier.size(), &self.prev, event);
        self.frontier.append(self.prev);
    }

    fn act(&self, action: &str) -> AuditEvent {
        let at = self.noon();
        AuditEvent::new(EventId::generate(at, self.frontier.size().into()), at, Actor::System, action, "log")
            .phase(Phase::Intent, Decision::Allowed)
    }

    fn commit(&self) {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let note = checkpoint::sign(&self.key, &checkpoint::origin(LOG), size, &root);
        let sql = "INSERT INTO audit_checkpoint VALUES (?1, ?2, 0, ?3)";
        self.log.connection.execute(sql, params![LOG, size as i64, note]).unwrap();
        let sql = "INSERT OR REPLACE INTO audit_frontier VALUES (?1, ?2, ?2)";
        self.log.connection.execute(sql, params![LOG, size as i64]).unwrap();
    }

    /// A day of records, the last of which is `last`.
    fn day(&mut self, last: impl FnOnce(&Self) -> AuditEvent) {
        let first_seq = self.frontier.size();
        let day = Day {
            number: self.days.len() as u64,
            date: day::date_of(self.noon()),
            first_seq,
            frontier: self.frontier.clone(),
            last_leaf: self.prev,
        };
        let sql = "INSERT INTO audit_day VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values =
            params![LOG, day.number as i64, day.date, first_seq as i64, day.frontier.to_bytes(), day.last_leaf];
        self.log.connection.execute(sql, values).unwrap();
        for seq in first_seq..first_seq + DAY_RECORDS - 1 {
            let mut event = event(seq);
            event.at = self.noon();
            self.put(&event);
        }
        let last = last(self);
        self.put(&last);
        self.days.push(day);
        self.commit();
    }

    fn plain_day(&mut self) {
        self.day(|log| log.act("test.act"));
    }

    /// A day whose last record changes the key.
    fn rotate(&mut self, seed: u8) {
        let (old, new) = (self.key.clone(), signing_key(seed));
        let name =
            |key: &SigningKey| VerifierKey::new(checkpoint::origin(LOG), key.verifying_key()).unwrap().to_string();
        let (from, to) = (name(&old), name(&new));
        self.day(|log| log.act(rotation::ACTION).fact(rotation::OLD_KEY, from).fact(rotation::NEW_KEY, to));
        let note = rotation::sign(&checkpoint::origin(LOG), &old, &new, self.frontier.size()).unwrap();
        let sql = "INSERT INTO audit_key VALUES (?1, ?2, 0, ?3)";
        self.log.connection.execute(sql, params![LOG, self.frontier.size() as i64, note]).unwrap();
        self.key = new;
    }

    /// A day whose last record orders to keep `kept` and the days after it; everything before goes.
    fn prune(&mut self, kept: usize) {
        let kept = self.days[kept].clone();
        self.day(|log| {
            log.act(life::PRUNE_ACTION)
                .fact(life::FIRST_KEPT, kept.first_seq)
                .fact(life::ROOT, hex::encode(&kept.frontier.root()))
        });
        self.forge_prune(&kept);
    }

    /// The same without an order.
    fn forge_prune(&self, kept: &Day) {
        let first = kept.first_seq;
        self.log.sql(&format!(
            "INSERT INTO audit_prune VALUES ('{LOG}', {first}, {}, 0); DELETE FROM audit_record WHERE seq < {first};
             DELETE FROM audit_checkpoint WHERE size < {first} AND size NOT IN (SELECT first_seq FROM audit_day)",
            kept.number
        ));
    }

    /// What the program says to this key: its exit code and its words.
    fn judge(&self, trusted: &VerifierKey, held: &[String]) -> (u8, String) {
        let key = self.log.file("key", &trusted.to_string());
        let mut arguments = vec!["--db".into(), self.log.path().into(), "--key".into(), key.into()];
        for (number, note) in held.iter().enumerate() {
            arguments.extend(["--held".into(), self.log.file(&format!("held-{number}"), note).into()]);
        }
        let (code, stdout, stderr) = run(arguments);
        (code, format!("{stdout}{stderr}"))
    }

    fn check(&self, seed: u8, expected: Option<FindingKind>, what: &str) -> String {
        let (code, said) = self.judge(&key(seed), &[]);
        assert_eq!(code, expected.map_or(0, FindingKind::exit_code), "{what}: {said}");
        said
    }

    fn export(&self, seed: u8, from: u64) -> PathBuf {
        let mut segment = Vec::new();
        sqlite::export(&self.log.connection, &key(seed), from, None, &mut segment).unwrap();
        self.log.file("segment", &String::from_utf8(segment).unwrap())
    }
}

/// Six days; before the last one the first three were ordered to go.
fn pruned() -> Writer {
    let mut log = Writer::new();
    (0..5).for_each(|_| log.plain_day());
    log.prune(3);
    log
}

#[test]
fn a_pruned_log_verifies_and_says_where_it_begins() {
    let log = pruned();
    let said = log.check(1, None, "as the server leaves it");
    assert!(said.contains("records       15 (from 15 up to size 30)"), "{said}");
    assert!(said.contains("note: the records before 15 are not here"), "{said}");
    // Checkpoints that somebody held: of the pruned part, of a place where a day began, of the end; and of another log.
    let held = |size: u64, root: &[u8; 32]| checkpoint::sign(&signing_key(1), &checkpoint::origin(LOG), size, root);
    let true_root = log.days[2].frontier.root();
    let (code, said) = log.judge(&key(1), &[held(7, &[0; 32]), held(10, &true_root), held(30, &log.frontier.root())]);
    assert!(code == 0 && said.contains("2 held") && said.contains("NOT CHECKED   1 held checkpoints"), "{said}");
    let (code, said) = log.judge(&key(1), &[held(10, &[0; 32])]);
    assert_eq!(code, FindingKind::Fork.exit_code(), "{said}");
    for from in [15, 18, 25] {
        assert_eq!(segment::verify_file(&log.export(1, from), &key(1)).unwrap().from, from);
    }
}

#[test]
fn a_forged_prune_is_found_offline() {
    let mut unordered = Writer::new();
    (0..4).for_each(|_| unordered.plain_day());
    unordered.forge_prune(&unordered.days[2].clone());
    unordered.check(1, Some(FindingKind::PruneUnsigned), "no order at all");
    let more = pruned();
    more.forge_prune(&more.days[4].clone());
    more.check(1, Some(FindingKind::PruneUnsigned), "more than was ordered");
    let mut other_root = Writer::new();
    (0..3).for_each(|_| other_root.plain_day());
    let kept = other_root.days[1].clone();
    other_root.day(|log| log.act(life::PRUNE_ACTION).fact(life::FIRST_KEPT, kept.first_seq).fact(life::ROOT, "00"));
    other_root.forge_prune(&kept);
    other_root.check(1, Some(FindingKind::PruneUnsigned), "an order about another history");
    let ordered_only = pruned();
    ordered_only.log.sql("DELETE FROM audit_prune");
    ordered_only.check(1, Some(FindingKind::Missing), "the mark is gone");

    // Another edge of the tree: with the signed checkpoint beside it, and without.
    let other: Frontier = (0..15_u8).map(|leaf| [leaf; 32]).collect();
    let replace = |log: &Writer| {
        let sql = "UPDATE audit_day SET frontier = ?1, last_leaf = ?2 WHERE number = 3";
        log.log.connection.execute(sql, params![other.to_bytes(), other.last_leaf().unwrap()]).unwrap();
    };
    let frontier = pruned();
    replace(&frontier);
    frontier.check(1, Some(FindingKind::KeptFrontier), "another edge");
    frontier.log.sql("DELETE FROM audit_checkpoint WHERE size = 15");
    frontier.check(1, Some(FindingKind::KeptFrontier), "another edge that nobody signed");
    let own = checkpoint::sign(&signing_key(9), &checkpoint::origin(LOG), 15, &other.root());
    frontier.log.connection.execute("INSERT INTO audit_checkpoint VALUES (?1, 15, 0, ?2)", params![LOG, own]).unwrap();
    frontier.check(1, Some(FindingKind::CheckpointSignature), "another edge that a stranger signed");
    let edge = "UPDATE audit_day SET last_leaf = (SELECT last_leaf FROM audit_day WHERE number = 1) WHERE number = 4";
    let link = pruned();
    link.log.sql(edge);
    link.check(1, Some(FindingKind::DayTable), "another last leaf");
}

#[test]
fn rows_of_a_pruned_log_are_judged_like_those_of_a_whole_one() {
    for (attack, kind) in [
        ("UPDATE audit_record SET actor = 'x' WHERE seq = 17", FindingKind::Edited),
        ("UPDATE audit_record SET body = prev_hash WHERE seq = 17", FindingKind::HashMismatch),
        ("DELETE FROM audit_record WHERE seq = 15", FindingKind::Missing),
        ("DELETE FROM audit_record WHERE seq = 22", FindingKind::Missing),
        ("DELETE FROM audit_record WHERE seq = 29", FindingKind::Truncated),
        (
            "DELETE FROM audit_record WHERE seq > 24; DELETE FROM audit_checkpoint WHERE size > 25",
            FindingKind::PruneUnsigned,
        ),
        (
            "UPDATE audit_record SET seq = -seq WHERE seq IN (20, 21); UPDATE audit_record SET seq = 41 + seq WHERE seq < 0",
            FindingKind::Reordered,
        ),
        ("DELETE FROM audit_checkpoint WHERE size = 30", FindingKind::Uncovered),
        ("DELETE FROM audit_checkpoint WHERE size = 10", FindingKind::KeptFrontier),
        ("DELETE FROM audit_day WHERE number = 5", FindingKind::DayTable),
        ("DELETE FROM audit_day", FindingKind::KeptFrontier),
        ("UPDATE audit_day SET date = date - 1 WHERE number = 4", FindingKind::DayTable),
        ("UPDATE audit_day SET first_seq = 4 WHERE number = 1", FindingKind::KeptFrontier),
        (
            "INSERT INTO audit_day SELECT log, 6, date + 1, first_seq + 5, frontier, last_leaf FROM audit_day WHERE number = 5",
            FindingKind::KeptFrontier,
        ),
    ] {
        let log = pruned();
        log.log.sql(attack);
        log.check(1, Some(kind), attack);
    }
    let leftover = pruned();
    let old = checkpoint::sign(&signing_key(9), &checkpoint::origin(LOG), 7, &[0; 32]);
    leftover.log.connection.execute("INSERT INTO audit_checkpoint VALUES (?1, 7, 0, ?2)", params![LOG, old]).unwrap();
    leftover.log.sql(
        "INSERT INTO audit_record SELECT log, 3, 0, '', '', '', '', '', NULL, NULL, body, prev_hash, leaf_hash
        FROM audit_record WHERE seq = 20",
    );
    leftover.check(1, None, "what an interrupted deletion has left is not looked at, and says nothing");
}

/// Keys 1, 2 and 3: the second from size 10 on, the third from 20 on.
fn rotated() -> Writer {
    let mut log = Writer::new();
    log.plain_day();
    log.rotate(2);
    log.plain_day();
    log.rotate(3);
    log.plain_day();
    log
}

#[test]
fn every_key_that_the_log_had_leads_to_a_verdict() {
    let log = rotated();
    for (seed, unvouched) in [(1, None), (2, Some(10)), (3, Some(20))] {
        let said = log.check(seed, None, "as the server leaves it");
        let expected =
            unvouched.map(|size| format!("NOT CHECKED   the keys that signed checkpoints up to size {size}:"));
        assert_eq!(said.contains("NOT CHECKED"), expected.is_some(), "{said}");
        assert!(said.contains(&expected.unwrap_or_default()), "{said}");
        for from in [0, 12, 20] {
            let report = segment::verify_file(&log.export(1, from), &key(seed)).unwrap();
            assert_eq!((report.size, report.unvouched_to), (25, unvouched.unwrap_or(0)));
        }
    }
    log.check(9, Some(FindingKind::CheckpointSignature), "a key that the log never had");
    let foreign = segment::verify_file(&log.export(1, 0), &key(9)).unwrap_err();
    assert!(matches!(foreign, VerifyError::Finding(finding) if finding.kind == FindingKind::CheckpointSignature));
}

#[test]
fn a_key_outside_its_time_is_found_offline() {
    // The old key goes on signing; the new one signs what was before it.
    for (size, seed) in [(25, 1), (25, 2), (15, 1), (15, 3), (10, 2), (5, 3)] {
        let log = rotated();
        let root = if size == 25 { log.frontier.root() } else { log.days[size / 5].frontier.root() };
        let note = checkpoint::sign(&signing_key(seed), &checkpoint::origin(LOG), size as u64, &root);
        let sql = "UPDATE audit_checkpoint SET note = ?1 WHERE size = ?2";
        log.log.connection.execute(sql, params![note, size as i64]).unwrap();
        log.check(1, Some(FindingKind::KeyTime), &format!("key {seed} at size {size}"));
    }
}

#[test]
fn a_forged_change_of_the_key_is_found_offline() {
    let stranger = |log: &Writer, old: u8| {
        rotation::sign(&checkpoint::origin(LOG), &signing_key(old), &signing_key(9), log.frontier.size() - 5).unwrap()
    };
    for (what, attack) in [
        ("no statement", "DELETE FROM audit_key WHERE size = 20"),
        ("no statement at all", "DELETE FROM audit_key"),
        ("not the first statement", "DELETE FROM audit_key WHERE size = 10"),
        ("another time", "UPDATE audit_key SET note = replace(note, '\n20\n', '\n21\n')"),
        ("no text", "UPDATE audit_key SET note = x'00'"),
    ] {
        let log = rotated();
        log.log.sql(attack);
        // With the first key, and what is gone makes the second one a stranger's.
        let (code, said) = log.judge(&key(1), &[]);
        let expected = [FindingKind::KeyChain, FindingKind::CheckpointSignature].map(FindingKind::exit_code);
        assert!(expected.contains(&code), "{what}: {said}");
    }
    // Somebody who has an old key signs a successor of his own in the place of the true one.
    let log = rotated();
    let forged = stranger(&log, 2);
    log.log.connection.execute("UPDATE audit_key SET note = ?1 WHERE size = 20", [forged]).unwrap();
    log.check(1, Some(FindingKind::KeyChain), "the log names another next key");
    // A stranger's own chain, for a reader who trusts the newest key.
    let log = rotated();
    let forged = rotation::sign(&checkpoint::origin(LOG), &signing_key(9), &signing_key(2), 10).unwrap();
    log.log.connection.execute("UPDATE audit_key SET note = ?1 WHERE size = 10", [forged]).unwrap();
    log.log.sql("DELETE FROM audit_checkpoint WHERE size <= 10");
    log.check(3, Some(FindingKind::KeyChain), "the log names another old key");
    // A change that the log does not record.
    let mut log = Writer::new();
    log.plain_day();
    let forged = rotation::sign(&checkpoint::origin(LOG), &signing_key(1), &signing_key(9), 5).unwrap();
    log.log.connection.execute("INSERT INTO audit_key VALUES (?1, 5, 0, ?2)", params![LOG, forged]).unwrap();
    log.check(1, Some(FindingKind::KeyChain), "a change that the log does not record");
    log.plain_day();
    log.check(1, Some(FindingKind::KeyTime), "the old key after a forged change");
}

#[test]
fn a_change_of_the_key_may_lie_in_the_pruned_part() {
    let mut log = rotated();
    log.prune(4);
    let said = log.check(1, None, "both changes are pruned");
    assert!(!said.contains("NOT CHECKED"), "{said}");
    let said = log.check(3, None, "from the newest key");
    assert!(said.contains("up to size 20"), "{said}");
    let sql = "UPDATE audit_checkpoint SET note = ?1 WHERE size = 10";
    let note = checkpoint::sign(&signing_key(2), &checkpoint::origin(LOG), 10, &log.days[2].frontier.root());
    log.log.connection.execute(sql, [note]).unwrap();
    log.check(1, Some(FindingKind::KeyTime), "a kept checkpoint by a later key");
}
