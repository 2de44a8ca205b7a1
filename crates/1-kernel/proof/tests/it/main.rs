//! Attacks on a log, each of which must be found under its own class, by the library and by the program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod life;
mod log;
mod program;
mod segments;

use agentos_proof::{
    FindingKind::{self, *},
    VerifyError,
    source::sqlite,
};
use log::{RECORDS, TestLog, event, signing_key, verifier_key};
use program::run;

/// What an attack must lead to.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Verified,
    Found(FindingKind, Option<u64>),
    Unreadable,
}
use Expected::{Found, Unreadable, Verified};

/// Builds a log, keeps the checkpoints of `held` sizes, attacks the log, verifies it twice.
fn check(name: &str, held: &[u64], attack: impl FnOnce(&TestLog), expected: Expected) {
    let log = TestLog::new();
    let held: Vec<String> = held.iter().map(|size| log.note(*size)).collect();
    attack(&log);
    check_notes(name, &log, &held, expected);
}

fn check_notes(name: &str, log: &TestLog, held: &[String], expected: Expected) {
    let outcome = sqlite::verify_file(&log.path(), &verifier_key(), held);
    let exit_code = match (&outcome, expected) {
        (Ok((report, _)), Verified) => {
            assert_eq!(report.held as usize, held.len(), "{name}");
            0
        }
        (Err(VerifyError::Finding(finding)), Found(kind, seq)) => {
            assert_eq!((finding.kind, finding.seq), (kind, seq), "{name}: {finding}");
            kind.exit_code()
        }
        (Err(VerifyError::Unreadable(_)), Unreadable) => 3,
        _ => panic!("{name}: {outcome:?} instead of {expected:?}"),
    };
    let key = log.file("key", &verifier_key().to_string());
    let mut arguments = vec!["--db".into(), log.path().into(), "--key".into(), key.into_os_string()];
    for (number, note) in held.iter().enumerate() {
        arguments.extend(["--held".into(), log.file(&format!("note-{number}"), note).into_os_string()]);
    }
    let (code, stdout, _) = run(arguments);
    assert_eq!(code, exit_code, "{name}: {stdout}");
}

fn check_sql(statements: &str, kind: FindingKind, seq: Option<u64>) {
    check(statements, &[], |log| log.sql(statements), Found(kind, seq));
}

#[test]
fn a_true_log_verifies_with_and_without_held_checkpoints() {
    check("as written", &[], |_| (), Verified);
    check("with held checkpoints", &[16, 5, 9], |_| (), Verified);
    check("an old checkpoint is gone", &[], |log| log.sql("DELETE FROM audit_checkpoint WHERE size = 8"), Verified);
    let log = TestLog::new();
    log.sql("UPDATE audit_record SET log = 'node-2'; UPDATE audit_checkpoint SET log = 'node-2'");
    log.write(&(0..RECORDS).map(event).collect::<Vec<_>>(), Some(&signing_key(1)));
    let (report, others) = sqlite::verify_file(&log.path(), &verifier_key(), &[]).unwrap();
    assert_eq!((report.records, report.size, report.checkpoints), (16, 16, 4));
    assert_eq!(report.first_at, Some(event(0).at));
    assert_eq!(report.last_at, Some(event(15).at));
    assert_eq!(others, ["'node-2'"], "a log that was not checked is named");
}

#[test]
fn one_edited_value() {
    let edit = "UPDATE audit_record SET";
    for (change, kind) in [
        ("body = CAST(replace(CAST(body AS TEXT), 'file.read', 'file.list') AS BLOB)", HashMismatch),
        ("body = CAST(CAST(body AS TEXT) || ' ' AS BLOB)", HashMismatch),
        ("body = x''", HashMismatch),
        ("leaf_hash = zeroblob(32)", HashMismatch),
        ("leaf_hash = substr(leaf_hash, 1, 31)", HashMismatch),
        ("prev_hash = zeroblob(32)", LinkBroken),
        ("prev_hash = x''", LinkBroken),
        ("at = at + 1", Edited),
        ("actor = 'system.'", Edited),
        ("action = 'file.list'", Edited),
        ("resource = '/srv/data/innocent'", Edited),
        ("phase = 'fact'", Edited),
        ("decision = 'denied'", Edited),
        ("task = 'task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E'", Edited),
        ("correlation = NULL", Edited),
        ("correlation = 'step-8'", Edited),
        ("actor = NULL", Edited),
        ("at = 'yesterday'", Edited),
        ("body = CAST(body AS TEXT)", Edited),
        ("leaf_hash = NULL", Edited),
    ] {
        check_sql(&format!("{edit} {change} WHERE seq = 7"), kind, Some(7));
    }
    check_sql("UPDATE audit_record SET task = NULL WHERE seq = 6", Edited, Some(6));
    check_sql("UPDATE audit_record SET seq = -1 WHERE seq = 7", Edited, None);
    check_sql("UPDATE audit_record SET seq = 'seven' WHERE seq = 7", Missing, Some(7));
}

#[test]
fn every_single_bit_of_a_body() {
    let log = TestLog::new();
    let body: Vec<u8> =
        log.connection.query_row("SELECT body FROM audit_record WHERE seq = 7", [], |row| row.get(0)).unwrap();
    for bit in 0..body.len() * 8 {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        log.connection.execute("UPDATE audit_record SET body = ?1 WHERE seq = 7", [changed]).unwrap();
        let error = sqlite::verify(&log.connection, &verifier_key(), &[]).unwrap_err();
        assert!(
            matches!(error, VerifyError::Finding(finding) if finding.kind == HashMismatch && finding.seq == Some(7))
        );
    }
}

#[test]
fn deleted_records() {
    check_sql("DELETE FROM audit_record WHERE seq = 7", Missing, Some(7));
    check_sql("DELETE FROM audit_record WHERE seq BETWEEN 5 AND 12", Missing, Some(5));
    check_sql("DELETE FROM audit_record WHERE seq = 0", Missing, Some(0));
    check_sql("DELETE FROM audit_record WHERE seq >= 12", Truncated, Some(12));
    check_sql("DELETE FROM audit_record", Truncated, Some(0));
    check_sql("DELETE FROM audit_record; DELETE FROM audit_checkpoint", Empty, None);
    // Deleted and closed up: the rows after the gap no longer say what their place says.
    let close_up = "DELETE FROM audit_record WHERE seq = 7; UPDATE audit_record SET seq = seq - 1 WHERE seq > 7";
    check_sql(close_up, Reordered, Some(7));
}

#[test]
fn a_tail_cut_with_its_checkpoints_needs_a_held_one() {
    let cut = |log: &TestLog| {
        log.sql("DELETE FROM audit_record WHERE seq >= 9; DELETE FROM audit_checkpoint WHERE size > 9");
    };
    check("cut at a checkpoint", &[], cut, Verified);
    check("cut, with an older held checkpoint", &[9], cut, Verified);
    check("cut, with a held checkpoint", &[16], cut, Found(Truncated, Some(9)));
    let inside = |log: &TestLog| {
        log.sql("DELETE FROM audit_record WHERE seq >= 12; DELETE FROM audit_checkpoint WHERE size > 9")
    };
    check("cut inside a commit", &[], inside, Found(Uncovered, Some(9)));
    check("cut inside a commit, held", &[16], inside, Found(Truncated, Some(12)));
    let all = |log: &TestLog| log.sql("DELETE FROM audit_record; DELETE FROM audit_checkpoint");
    check("everything cut", &[5], all, Found(Truncated, Some(0)));
}

#[test]
fn moved_and_inserted_records() {
    check_sql(
        "UPDATE audit_record SET seq = 100 WHERE seq = 6; UPDATE audit_record SET seq = 6 WHERE seq = 7;
         UPDATE audit_record SET seq = 7 WHERE seq = 100",
        Reordered,
        Some(6),
    );
    check_sql(
        "UPDATE audit_record SET body = (SELECT body FROM audit_record WHERE seq = 8) WHERE seq = 7",
        HashMismatch,
        Some(7),
    );
    let insert = |log: &TestLog| {
        log.sql("UPDATE audit_record SET seq = seq + 1000 WHERE seq >= 7");
        log.sql("UPDATE audit_record SET seq = seq - 999 WHERE seq >= 1000");
        log.insert(7, &log.leaf_hash(6), &event(99));
    };
    check("inserted", &[], insert, Found(CheckpointMismatch, Some(7)));
    let insert_in_commit = |log: &TestLog| {
        log.sql("UPDATE audit_record SET seq = seq + 1000 WHERE seq >= 11");
        log.sql("UPDATE audit_record SET seq = seq - 999 WHERE seq >= 1000");
        log.insert(11, &log.leaf_hash(10), &event(99));
    };
    check("inserted inside a commit", &[], insert_in_commit, Found(Reordered, Some(12)));
    let append = |log: &TestLog| {
        log.insert(RECORDS, &log.leaf_hash(RECORDS - 1), &event(99));
    };
    check("appended", &[], append, Found(Uncovered, Some(RECORDS)));
    let replace_link = |log: &TestLog| {
        log.sql("DELETE FROM audit_record WHERE seq = 10");
        log.insert(10, &[3; 32], &event(10));
    };
    check("a record with another link", &[], replace_link, Found(LinkBroken, Some(10)));
    let replace = |log: &TestLog| {
        log.sql("DELETE FROM audit_record WHERE seq = 10");
        log.insert(10, &log.leaf_hash(9), &event(99));
    };
    check("a consistent record in place of another", &[], replace, Found(LinkBroken, Some(11)));
}

#[test]
fn rewritten_histories() {
    check("recomputed without the key", &[], |log| log.rewrite(None), Found(CheckpointMismatch, Some(7)));
    let stranger = |log: &TestLog| log.rewrite(Some(&signing_key(2)));
    check("signed anew with another key", &[], stranger, Found(CheckpointSignature, Some(4)));
    let owner = |log: &TestLog| log.rewrite(Some(&signing_key(1)));
    check("signed anew with the log's key, nothing held", &[], owner, Verified);
    check("signed anew, held before the fork", &[5], owner, Verified);
    check("signed anew, held after the fork", &[5, 9], owner, Found(Fork, Some(8)));
    let log = TestLog::new();
    let stranger = agentos_proof::checkpoint::sign(&signing_key(2), "agent-os/node-1", 5, &[0; 32]);
    check_notes("a held note of another key", &log, &[stranger], Found(CheckpointSignature, None));
}

#[test]
fn checkpoints() {
    check_sql("DELETE FROM audit_checkpoint WHERE size = 16", Uncovered, Some(9));
    check_sql("DELETE FROM audit_checkpoint", Uncovered, Some(0));
    check_sql("UPDATE audit_checkpoint SET size = 7 WHERE size = 8", CheckpointMismatch, Some(6));
    check_sql("UPDATE audit_checkpoint SET size = 17 WHERE size = 8", CheckpointMismatch, Some(16));
    check_sql(
        "UPDATE audit_checkpoint SET note = (SELECT note FROM audit_checkpoint WHERE size = 5) WHERE size = 8",
        CheckpointMismatch,
        Some(7),
    );
    let edits = ["replace(note, '8', '9')", "note || 'x'", "''", "replace(note, '— ', '- ')"];
    for edit in edits {
        let statement = format!("UPDATE audit_checkpoint SET note = {edit} WHERE size = 8");
        check_sql(&statement, CheckpointSignature, Some(7));
    }
    check_sql("UPDATE audit_checkpoint SET note = NULL WHERE size = 8", Edited, Some(7));
}

#[test]
fn files_that_are_not_what_they_seem() {
    let view = "ALTER TABLE audit_record RENAME TO hidden; CREATE VIEW audit_record AS SELECT * FROM hidden";
    check("a view in place of the table", &[], |log| log.sql(view), Unreadable);
    check("no table", &[], |log| log.sql("DROP TABLE audit_checkpoint"), Unreadable);
    // A row that a search by time finds and a reading in order does not: the index was kept out of a deletion.
    let split_index = |log: &TestLog| {
        let hide = "CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'audit_by_time';
            PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'audit_by_time'";
        log.sql(hide);
        let again = rusqlite::Connection::open(log.path()).unwrap();
        let cut = "DELETE FROM audit_record WHERE seq >= 9; DELETE FROM audit_checkpoint WHERE size > 9;
            PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept";
        again.execute_batch(cut).unwrap();
    };
    check("an index that lists other rows", &[], split_index, Unreadable);
    let log = TestLog::new();
    log.sql("PRAGMA journal_mode = DELETE");
    std::fs::write(log.path(), "not a database, but long enough to look like a header").unwrap();
    check_notes("not a database", &log, &[], Unreadable);
}
