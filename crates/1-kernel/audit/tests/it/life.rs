//! The log over several days, by a clock that the test moves: what is pruned, what stays, and who notices a forgery.

use std::{sync::Arc, time::Duration};

use agentos_audit::{AuditLog, Authority, Filter, LogIdentity, LogWriter, NewHold, PruneOrder, Upkeep, query};
use agentos_base::{Ambient, ambient::FakeClock};
use agentos_proof::{VerifierKey, source::segment};
use agentos_scratch::Scratch;
use agentos_store::{Backup, Database, Dialect, Migrator, Store, StoreOptions, Way};
use agentos_types::{Actor, Code, Result, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

use super::BACKEND;

const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-23, noon.
const START: Timestamp = Timestamp(1_795_435_200_000_000);

pub(super) struct House {
    pub(super) directory: TempDir,
    pub(super) scratch: Scratch,
}

pub(super) struct Log {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) upkeep: Upkeep,
    pub(super) ambient: Ambient,
    pub(super) clock: Arc<FakeClock>,
}

impl House {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.scratch() }
    }

    /// A server that starts with these keys: the one of its key file, and one that was made ready.
    pub(super) fn open_with(&self, seed: u8, staged: Option<u8>, now: Timestamp, admin: bool) -> Result<Log> {
        let (ambient, clock) = Ambient::fake(u64::from(seed), now);
        let identity = LogIdentity::new("node-1", &[seed; 32])?;
        if let Some(seed) = staged {
            identity.stage(&[seed; 32])?;
        }
        let database = self.scratch.urls();
        let store = Store::open(StoreOptions {
            directory: self.directory.path().into(),
            database: database.map(|(url, owner)| Database::parse(url, admin.then_some(owner)).unwrap()),
            queue_max: 1_024,
            readers: 2,
            sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
            ambient: ambient.clone(),
        })?;
        let log = AuditLog::new(identity, store.clone(), self.directory.path());
        Ok(Log { upkeep: Upkeep::new(log.clone(), ambient.clone()), log, store, ambient, clock })
    }

    pub(super) fn open(&self, now: Timestamp) -> Log {
        self.open_with(7, None, now, true).unwrap()
    }

    /// Changes the database as nobody may who works by the rules.
    pub(super) async fn forge(&self, log: &Log, statements: &'static [&'static str]) {
        for statement in statements {
            if log.store.dialect() == Dialect::Postgres {
                let text = format!("SET search_path = agent_os; SET session_replication_role = replica; {statement}");
                self.scratch.postgres().run(&text);
            } else {
                log.store.write(move |tx| tx.execute(statement, &[])).await.unwrap();
            }
        }
    }

    /// Takes away what stops accidents on SQLite; on Postgres the attack itself does.
    pub(super) async fn disarm(&self, log: &Log) {
        if log.store.dialect() == Dialect::Sqlite {
            for table in ["record", "checkpoint", "day", "prune", "key"] {
                for verb in ["update", "delete"] {
                    let drop = format!("DROP TRIGGER audit_{table}_is_append_only_{verb}").leak();
                    log.store.write(|tx| tx.execute(drop, &[])).await.unwrap();
                }
            }
        }
    }
}

impl Log {
    /// Each in a commit of its own, with a checkpoint.
    pub(super) async fn record(&self, count: usize) {
        for _ in 0..count {
            let event =
                AuditEvent::new(self.ambient.event_id(), self.ambient.now(), Actor::System, "test.act", "thing");
            let write = self.store.write(move |tx| {
                tx.record(event);
                Ok(())
            });
            write.await.unwrap();
        }
    }

    /// Five records a day, each day at noon.
    pub(super) async fn days(&self, days: usize) {
        for _ in 0..days {
            self.record(5).await;
            self.clock.advance(DAY);
        }
    }

    pub(super) async fn finding(&self) -> Option<String> {
        self.log.verify().await.unwrap().finding
    }

    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        self.store.read(move |conn| conn.query_one(sql, &[], |row| row.integer(0))).await.unwrap().unwrap()
    }

    async fn oldest(&self) -> u64 {
        let filter = Filter { limit: 1, ascending: true, ..Filter::default() };
        let found = self.store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
        found[0].record.seq
    }
}

/// Noon of the day after so many days.
fn after(days: u32) -> Timestamp {
    START.after(DAY * days)
}

fn keep(before: Timestamp) -> PruneOrder {
    PruneOrder { before, dry_run: false, keep_from: None }
}

#[tokio::test]
async fn days_are_numbered_end_to_end_whatever_the_clock_does() {
    let house = House::new();
    let log = house.open(START);
    log.days(3).await;
    // Back by three days, forth by a hundred, then a little back over midnight.
    log.clock.set(START);
    log.record(1).await;
    log.clock.set(after(100));
    log.record(1).await;
    log.clock.set(Timestamp(after(99).as_micros()));
    log.record(1).await;
    let days = log.store.read(|conn| {
        conn.query("SELECT number, first_seq FROM audit_day ORDER BY number", &[], |row| {
            Ok((row.integer(0)?, row.integer(1)?))
        })
    });
    assert_eq!(days.await.unwrap(), [(0, 0), (1, 5), (2, 10), (3, 15), (4, 16)]);
    assert_eq!(log.finding().await, None);
    drop(log);
    let log = house.open(after(100));
    log.record(1).await;
    assert_eq!(log.number("SELECT count(*) FROM audit_day").await, 5, "a restart begins no day");
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn one_commit_over_midnight_is_closed_where_the_day_ends() {
    let house = House::new();
    let log = house.open(START);
    let events: Vec<_> = [0, 0, 1, 0, 1, 2]
        .map(|day| AuditEvent::new(log.ambient.event_id(), after(day), Actor::System, "test.act", "thing"))
        .into();
    let write = log.store.write(move |tx| {
        events.into_iter().for_each(|event| tx.record(event));
        Ok(())
    });
    write.await.unwrap();
    assert_eq!(log.number("SELECT count(*) FROM audit_day").await, 3, "a straggler of the day before begins none");
    for size in ["SELECT count(*) FROM audit_checkpoint WHERE size IN (2, 5, 6)"] {
        assert_eq!(log.number(size).await, 3);
    }
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn whole_old_days_are_pruned_and_what_is_left_verifies() {
    let house = House::new();
    let log = house.open(START);
    log.days(5).await;
    let before = log.log.verify().await.unwrap();
    let dry = log.upkeep.prune(after(3), true).await.unwrap();
    assert_eq!((dry.days, dry.records, dry.first_kept, dry.dry_run), (3, 15, 15, true));
    assert_eq!(log.log.verify().await.unwrap().records, before.records, "a dry run changes nothing");
    let report = log.upkeep.prune(after(3), false).await.unwrap();
    assert_eq!((report.days, report.records, report.first_kept, report.held.len()), (3, 15, 15, 0));
    let seen = log.log.verify().await.unwrap();
    // 25 records, of which 15 went; the order and its outcome came.
    assert_eq!((seen.records, seen.finding), (12, None));
    assert_eq!(log.number("SELECT count(*) FROM audit_record WHERE seq < 15").await, 0);
    assert_eq!(log.number("SELECT count(*) FROM audit_checkpoint WHERE size < 15").await, 2, "those that close a day");
    assert_eq!(log.oldest().await, 15);
    assert_eq!(log.log.export(14).await.unwrap_err().code, Code::AUDIT_QUERY_INVALID);
    for from in [15, 17, 20] {
        let path = house.directory.path().join("segment.jsonl");
        std::fs::write(&path, log.log.export(from).await.unwrap()).unwrap();
        assert_eq!(segment::verify_file(&path, &log.log.identity().verifier_key()).unwrap().from, from);
    }
    // Again, after a restart, and further.
    drop(log);
    let log = house.open(after(5));
    assert_eq!(log.upkeep.prune(after(3), false).await.unwrap().days, 0, "nothing more is old enough");
    log.days(2).await;
    let report = log.upkeep.prune(after(100), false).await.unwrap();
    assert_eq!((report.days, report.first_kept_before), (3, 15), "the present day is never pruned: {report:?}");
    assert_eq!(log.finding().await, None);
    log.record(1).await;
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn an_archive_of_what_goes_verifies_by_itself() {
    let house = House::new();
    let log = house.open(START);
    log.days(4).await;
    let dry = log.upkeep.prune(after(2), true).await.unwrap();
    let archive = log.log.export_until(dry.first_kept_before, Some(dry.first_kept)).await.unwrap();
    let order = PruneOrder { before: after(3), dry_run: false, keep_from: Some(dry.first_kept) };
    let report = log.upkeep.prune_by(&Authority::system(), order).await.unwrap();
    assert_eq!(report.first_kept, dry.first_kept, "no more goes than was archived");
    let path = house.directory.path().join("archive.jsonl");
    std::fs::write(&path, archive).unwrap();
    let seen = segment::verify_file(&path, &log.log.identity().verifier_key()).unwrap();
    assert_eq!((seen.from, seen.size), (0, dry.first_kept));
}

#[tokio::test]
async fn a_hold_stops_pruning_of_the_days_that_it_covers() {
    let house = House::new();
    let log = house.open(START);
    log.days(5).await;
    let by = Authority { actor: Actor::System, correlation: Some("request".into()) };
    let hold = |name: &str, from| NewHold { name: name.into(), reason: "case 7".into(), from };
    log.upkeep.add_hold(&by, hold("case-7", Some(after(2)))).await.unwrap();
    let taken = log.upkeep.add_hold(&by, hold("case-7", None)).await.unwrap_err();
    assert_eq!(taken.code, Code::AUDIT_HOLD_INVALID);
    for bad in ["", "Case", "a b", &"x".repeat(65)] {
        let refused = log.upkeep.add_hold(&by, hold(bad, None)).await.unwrap_err();
        assert_eq!(refused.code, Code::AUDIT_HOLD_INVALID, "{bad}");
    }
    let report = log.upkeep.prune(after(5), false).await.unwrap();
    assert_eq!((report.days, report.held.as_slice()), (2, ["case-7".to_owned()].as_slice()));
    log.upkeep.add_hold(&by, hold("whole", None)).await.unwrap();
    log.upkeep.release_hold(&by, "case-7").await.unwrap();
    assert_eq!(log.upkeep.release_hold(&by, "case-7").await.unwrap_err().code, Code::AUDIT_HOLD_NOT_FOUND);
    let report = log.upkeep.prune(after(5), false).await.unwrap();
    assert_eq!((report.days, report.held.as_slice()), (0, ["whole".to_owned()].as_slice()));
    let names: Vec<_> = log.upkeep.holds().await.unwrap().into_iter().map(|hold| hold.name).collect();
    assert_eq!(names, ["whole"]);
    log.upkeep.release_hold(&by, "whole").await.unwrap();
    assert_eq!(log.upkeep.prune(after(5), false).await.unwrap().days, 3);
    for (action, count) in [("audit.hold.add", 2), ("audit.hold.release", 2), ("audit.prune", 4)] {
        let filter = Filter { action: Some(action.into()), limit: 10, ..Filter::default() };
        let found = log.store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
        assert_eq!(found.len(), count, "{action}");
    }
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn a_prune_that_was_cut_off_anywhere_is_taken_up_again() {
    let house = House::new();
    let log = house.open(START);
    log.days(5).await;
    log.upkeep.seal_order(&Authority::system(), keep(after(4))).await.unwrap();
    let mut pieces = 0;
    let mut log = log;
    // Ends after each transaction of the deletion, and starts again.
    loop {
        assert_eq!(log.finding().await, None, "after {pieces} pieces");
        assert_eq!(log.oldest().await, 20, "what was ordered to go is not shown any more");
        drop(log);
        log = house.open(after(5));
        if !log.upkeep.clear_piece().await.unwrap() {
            break;
        }
        pieces += 1;
    }
    assert!(pieces >= 2, "{pieces}");
    assert_eq!(log.number("SELECT count(*) FROM audit_record WHERE seq < 20").await, 0);
    log.record(1).await;
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn without_the_owner_nothing_is_pruned_and_nothing_is_ordered() {
    let house = House::new();
    drop(house.open(START));
    let log = house.open_with(7, None, START, false).unwrap();
    log.days(3).await;
    let outcome = log.upkeep.prune(after(2), false).await;
    if log.store.dialect() == Dialect::Sqlite {
        assert_eq!(outcome.unwrap().days, 2);
        return;
    }
    let refused = outcome.unwrap_err();
    assert_eq!(refused.code, Code::STORE_ROLE);
    assert!(refused.hint.unwrap().contains("DATABASE_ADMIN_URL"));
    assert_eq!(log.number("SELECT count(*) FROM audit_prune").await, 0);
    assert_eq!(log.upkeep.prune(after(2), true).await.unwrap().days, 2, "a dry run needs no more rights");
    assert_eq!(log.finding().await, None);
}

/// Five days, three of them pruned: records from 15 on, days 0 to 5.
async fn pruned_log(house: &House) -> Log {
    let log = house.open(START);
    log.days(5).await;
    log.upkeep.prune(after(3), false).await.unwrap();
    log.record(2).await;
    assert_eq!(log.finding().await, None);
    house.disarm(&log).await;
    log
}

#[tokio::test]
async fn every_forgery_of_a_pruned_log_is_found() {
    let cases: [(&str, &'static [&'static str]); 14] = [
        ("edited", &["UPDATE audit_record SET actor = 'x' WHERE seq = 17"]),
        ("missing", &["DELETE FROM audit_record WHERE seq = 17"]),
        ("missing", &["DELETE FROM audit_record WHERE seq = 15"]),
        // More is taken than was ordered, with a mark and everything else that belongs to it.
        (
            "prune-unsigned",
            &[
                "INSERT INTO audit_prune (log, first_kept, day, at) VALUES ('node-1', 20, 4, 0)",
                "DELETE FROM audit_record WHERE seq < 20",
            ],
        ),
        ("missing", &["DELETE FROM audit_prune"]),
        ("kept-frontier", &["UPDATE audit_prune SET first_kept = 16"]),
        ("kept-frontier", &["UPDATE audit_day SET last_leaf = frontier WHERE number = 3"]),
        (
            "day-table",
            &["UPDATE audit_day SET last_leaf = (SELECT last_leaf FROM audit_day WHERE number = 1) WHERE number = 4"],
        ),
        ("kept-frontier", &["DELETE FROM audit_checkpoint WHERE size = 15"]),
        ("kept-frontier", &["DELETE FROM audit_checkpoint WHERE size = 10"]),
        ("day-table", &["DELETE FROM audit_day WHERE number = 1"]),
        ("day-table", &["UPDATE audit_day SET date = date + 1 WHERE number = 4"]),
        ("day-table", &["DELETE FROM audit_day WHERE number = 5"]),
        ("day-table", &["UPDATE audit_day SET number = 9 WHERE number = 5"]),
    ];
    let house = House::new();
    let log = pruned_log(&house).await;
    let tables = ["audit_record", "audit_checkpoint", "audit_day", "audit_prune"];
    // Statements of the store are static texts.
    let each = |text: &str| -> &'static [&'static str] {
        let texts = tables.map(|table| &*text.replace("TABLE_NAME", table).leak());
        texts.to_vec().leak()
    };
    house.forge(&log, each("CREATE TABLE saved_TABLE_NAME AS SELECT * FROM TABLE_NAME")).await;
    for (kind, forgery) in cases {
        house.forge(&log, forgery).await;
        let finding = log.finding().await.unwrap_or_else(|| panic!("{forgery:?} is not found"));
        assert!(finding.starts_with(kind), "{forgery:?}: {finding}");
        for undo in [each("DELETE FROM TABLE_NAME"), each("INSERT INTO TABLE_NAME SELECT * FROM saved_TABLE_NAME")] {
            house.forge(&log, undo).await;
        }
        assert_eq!(log.finding().await, None, "the forgery is undone");
    }
}

#[tokio::test]
async fn records_of_an_older_program_are_divided_afterwards() {
    let house = House::new();
    let log = house.open(START);
    log.days(3).await;
    house.disarm(&log).await;
    // As a program leaves it that knows no days.
    house.forge(&log, &["DELETE FROM audit_day WHERE number > 0", "UPDATE audit_frontier SET divided = 5"]).await;
    assert_eq!(log.finding().await, None, "what is not divided yet is no forgery");
    drop(log);
    let log = house.open(after(3));
    log.record(1).await;
    assert_eq!(log.number("SELECT count(*) FROM audit_day").await, 4);
    assert_eq!(log.finding().await, None);
    drop(log);
    // A whole log from before the migration.
    let log = house.open(after(3));
    house.forge(&log, &["DELETE FROM audit_day", "UPDATE audit_frontier SET divided = NULL"]).await;
    drop(log);
    let log = house.open(after(3));
    log.record(1).await;
    assert_eq!(log.upkeep.prune(after(2), false).await.unwrap().days, 2);
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn the_key_changes_in_one_commit_and_each_half_of_it_finds_its_way() {
    let house = House::new();
    let log = house.open(START);
    log.record(3).await;
    let first: VerifierKey = (*log.log.identity().verifier_key()).clone();
    let rotated = log.upkeep.rotate_key(&Authority::system(), &[8; 32]).await.unwrap();
    assert_eq!((rotated.old, &rotated.new), (first.clone(), &*log.log.identity().verifier_key()));
    log.record(2).await;
    assert_eq!(log.finding().await, None);
    drop(log);
    // The new key in its place.
    let log = house.open_with(8, None, after(1), true).unwrap();
    log.record(1).await;
    assert_eq!(log.finding().await, None);
    drop(log);
    // Killed before the files were changed: the old key in its place, the new one beside it.
    let log = house.open_with(7, Some(8), after(1), true).unwrap();
    assert_eq!(*log.log.identity().verifier_key(), rotated.new);
    log.record(1).await;
    assert_eq!(log.finding().await, None);
    drop(log);
    // The new key in its place, another one beside it that never became one.
    let log = house.open_with(8, Some(9), after(1), true).unwrap();
    assert_eq!(*log.log.identity().verifier_key(), rotated.new);
    log.record(1).await;
    drop(log);
    // The old key alone, or a stranger's.
    for (seed, staged) in [(7, None), (7, Some(9)), (9, None)] {
        let refused = house.open_with(seed, staged, after(1), true).err().unwrap();
        assert_eq!(refused.code, Code::AUDIT_KEY_UNUSABLE, "{seed} {staged:?}");
    }
    // Again, and each key leads to a verdict.
    let log = house.open_with(8, None, after(1), true).unwrap();
    log.upkeep.rotate_key(&Authority::system(), &[9; 32]).await.unwrap();
    let same = log.upkeep.rotate_key(&Authority::system(), &[9; 32]).await.unwrap_err();
    assert_eq!(same.code, Code::AUDIT_KEY_UNUSABLE);
    log.record(1).await;
    assert_eq!(log.finding().await, None);
    let path = house.directory.path().join("segment.jsonl");
    for from in [0, 5, 11] {
        std::fs::write(&path, log.log.export(from).await.unwrap()).unwrap();
        let trusted = [first.clone(), rotated.new.clone(), (*log.log.identity().verifier_key()).clone()];
        let unvouched: Vec<_> =
            trusted.iter().map(|key| segment::verify_file(&path, key).unwrap().unvouched_to).collect();
        assert_eq!(unvouched[0], 0);
        assert!(unvouched[1] < unvouched[2], "{unvouched:?}");
    }
}

#[tokio::test]
async fn forged_changes_of_the_key_are_found() {
    let cases: [(&str, &'static [&'static str]); 4] = [
        // Without its statement the new key is nobody's.
        ("key-chain", &["DELETE FROM audit_key WHERE size = 4", "DELETE FROM audit_checkpoint WHERE size <= 4"]),
        ("key-chain", &["UPDATE audit_key SET note = (SELECT note FROM audit_checkpoint WHERE size = 4)"]),
        (
            "checkpoint-mismatch",
            &["UPDATE audit_checkpoint SET note = (SELECT note FROM audit_checkpoint WHERE size = 3) WHERE size = 5"],
        ),
        ("missing", &["DELETE FROM audit_record WHERE seq = 3"]),
    ];
    for (kind, forgery) in cases {
        let house = House::new();
        let log = house.open(START);
        log.record(3).await;
        log.upkeep.rotate_key(&Authority::system(), &[8; 32]).await.unwrap();
        log.record(2).await;
        house.disarm(&log).await;
        house.forge(&log, forgery).await;
        let finding = log.finding().await.unwrap_or_else(|| panic!("{forgery:?} is not found"));
        assert!(finding.starts_with(kind), "{forgery:?}: {finding}");
    }
}

#[tokio::test]
async fn pruning_and_a_new_key_go_together() {
    let house = House::new();
    let log = house.open(START);
    log.days(2).await;
    log.upkeep.rotate_key(&Authority::system(), &[8; 32]).await.unwrap();
    log.days(3).await;
    let report = log.upkeep.prune(after(4), false).await.unwrap();
    assert_eq!(report.days, 4, "the record of the change is pruned too");
    assert_eq!(log.finding().await, None);
    drop(log);
    let log = house.open_with(8, None, after(5), true).unwrap();
    log.record(1).await;
    assert_eq!(log.finding().await, None);
}

#[tokio::test]
async fn the_log_comes_through_a_downgrade_and_the_upgrade_after_it() {
    let house = House::new();
    let log = house.open(START);
    log.days(3).await;
    drop(log);
    let database = house.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap());
    let (ambient, _) = Ambient::fake(1, START);
    let migrator = Migrator::open(house.directory.path(), database, ambient).unwrap();
    migrator.migrate(Way::Down(1), Backup::Taken).unwrap();
    drop(migrator);
    let log = house.open(after(3));
    assert_eq!(log.finding().await, None, "records are carried over");
    log.record(1).await;
    assert_eq!(log.number("SELECT count(*) FROM audit_day").await, 4, "and divided anew");
    assert_eq!(log.upkeep.prune(after(2), false).await.unwrap().records, 10);
    assert_eq!(log.finding().await, None);
}
