//! The log on a real store: what is sealed verifies, what is refused leaves no trace, what is damaged is not continued.

use std::path::Path;

use agentos_audit::{AuditLog, Filter, LogIdentity, LogWriter, query};
use agentos_base::Ambient;
use agentos_proof::source::segment;
use agentos_scratch::Scratch;
use agentos_store::{Database, Dialect, Store, StoreOptions};
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision},
};
use tempfile::TempDir;

use super::BACKEND;

struct Log {
    store: Store,
    log: AuditLog,
    ambient: Ambient,
}

/// A place that outlives the stores that are opened in it.
struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.scratch() }
}

impl House {
    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn open(house: &House) -> Result<Log> {
    let (ambient, _) = Ambient::fake(7, Timestamp::from_millis(1_000));
    let identity = LogIdentity::new("node-1", &[7; 32])?;
    let store = Store::open(StoreOptions {
        directory: house.path().into(),
        database: house.database(),
        queue_max: 1_024,
        readers: 2,
        sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
        ambient: ambient.clone(),
    })?;
    Ok(Log { log: AuditLog::new(identity, store.clone(), house.path()), store, ambient })
}

impl Log {
    async fn record(&self, action: &'static str) -> Result<()> {
        let event = AuditEvent::new(self.ambient.event_id(), self.ambient.now(), Actor::System, action, "thing");
        self.store
            .write(move |tx| {
                tx.record(event);
                Ok(())
            })
            .await
    }
}

#[tokio::test]
async fn concurrent_records_share_commits_and_verify() {
    let house = house();
    let log = open(&house).unwrap();
    let writes = (0..200).map(|_| log.record("test.act"));
    for outcome in futures_util::future::join_all(writes).await {
        outcome.unwrap();
    }
    let seen = log.log.verify().await.unwrap();
    assert_eq!((seen.records, seen.finding), (200, None));
    assert!(seen.checkpoints < 200, "writes that wait together must share a commit: {} checkpoints", seen.checkpoints);
}

#[tokio::test]
async fn a_refused_operation_leaves_no_record_and_no_gap() {
    let house = house();
    let log = open(&house).unwrap();
    log.record("test.one").await.unwrap();
    let event = AuditEvent::new(log.ambient.event_id(), log.ambient.now(), Actor::System, "test.lost", "thing");
    let refused: Result<()> = log
        .store
        .write(move |tx| {
            tx.record(event);
            Err(Fault::new(Code::KV_CONFLICT, "no"))
        })
        .await;
    assert!(refused.is_err());
    log.record("test.two").await.unwrap();
    let found = log
        .store
        .read(|conn| query(conn, "node-1", &Filter { limit: 10, ascending: true, ..Filter::default() }))
        .await
        .unwrap();
    let actions: Vec<_> = found.iter().map(|stored| stored.record.event.action.as_str()).collect();
    assert_eq!(actions, ["test.one", "test.two"]);
    assert_eq!(log.log.verify().await.unwrap().finding, None);
}

#[tokio::test]
async fn the_log_goes_on_after_a_restart() {
    let house = house();
    let log = open(&house).unwrap();
    log.record("test.before").await.unwrap();
    drop(log);
    let log = open(&house).unwrap();
    log.record("test.after").await.unwrap();
    let seen = log.log.verify().await.unwrap();
    assert_eq!((seen.records, seen.finding), (2, None));
}

#[tokio::test]
async fn a_damaged_end_is_not_continued() {
    for damage in [
        "UPDATE audit_frontier SET last_leaf = prev_hash FROM audit_record WHERE seq = 1",
        "UPDATE audit_frontier SET last_leaf = frontier",
        "UPDATE audit_frontier SET frontier = last_leaf",
        "DELETE FROM audit_frontier",
        "DROP TRIGGER audit_record_is_append_only_delete; DELETE FROM audit_record WHERE seq = 1",
        "DROP TRIGGER audit_checkpoint_is_append_only_delete; DELETE FROM audit_frontier; DELETE FROM audit_checkpoint",
    ] {
        let house = house();
        let log = open(&house).unwrap();
        log.record("test.one").await.unwrap();
        // An even number of records: the root alone does not show the last one then.
        log.record("test.two").await.unwrap();
        damage_with(&house, &log, damage).await;
        drop(log);
        let refused = open(&house).err().expect(damage);
        assert!([Code::AUDIT_TAMPERED, Code::STORE_CORRUPT].contains(&refused.code), "{damage}: {refused}");
    }
}

/// On Postgres only somebody who has more rights than the server can do any damage.
async fn damage_with(house: &House, log: &Log, damage: &'static str) {
    for statement in damage.split("; ") {
        if log.store.dialect() == Dialect::Postgres {
            let statement = match statement.strip_prefix("DROP TRIGGER ") {
                Some(trigger) => {
                    let table = trigger.split("_is_").next().unwrap();
                    format!("ALTER TABLE {table} DISABLE TRIGGER ALL")
                }
                None => statement.to_owned(),
            };
            house.scratch.postgres().run(&format!("SET search_path = agent_os; {statement}"));
        } else {
            log.store.write(move |tx| tx.execute(statement, &[])).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_changed_behind_the_log_is_found() {
    for (damage, what) in [
        ("UPDATE audit_record SET actor = 'somebody' WHERE seq = 2", "actor"),
        ("UPDATE audit_record SET body = prev_hash WHERE seq = 2", ""),
        ("UPDATE audit_record SET leaf_hash = prev_hash WHERE seq = 2", ""),
        ("DELETE FROM audit_record WHERE seq = 2", ""),
        ("DELETE FROM audit_record WHERE seq = 4", ""),
        ("UPDATE audit_checkpoint SET note = 'x' WHERE size = 3", ""),
        ("DELETE FROM audit_checkpoint WHERE size = 5", ""),
    ] {
        let house = house();
        let log = open(&house).unwrap();
        for _ in 0..5 {
            log.record("test.act").await.unwrap();
        }
        assert_eq!(log.log.verify().await.unwrap().finding, None);
        let table = if damage.contains("audit_record") { "record" } else { "checkpoint" };
        for verb in ["update", "delete"] {
            let trigger = format!("DROP TRIGGER audit_{table}_is_append_only_{verb}");
            damage_with(&house, &log, trigger.leak()).await;
        }
        damage_with(&house, &log, damage).await;
        let finding = log.log.verify().await.unwrap().finding.expect(damage);
        assert!(finding.contains(what), "{damage}: {finding}");
    }
}

#[tokio::test]
async fn an_exported_segment_begins_and_ends_where_it_says() {
    let house = house();
    let log = open(&house).unwrap();
    for _ in 0..1_200 / 100 {
        let writes = (0..100).map(|_| log.record("test.act"));
        futures_util::future::join_all(writes).await.into_iter().collect::<Result<Vec<_>>>().unwrap();
    }
    let seen = log.log.verify().await.unwrap();
    assert_eq!((seen.records, seen.finding), (1_200, None));
    for from in [0, 1, 999, 1_000, 1_001] {
        let segment = log.log.export(from).await.unwrap();
        let path = house.path().join("segment.jsonl");
        std::fs::write(&path, segment).unwrap();
        let report = segment::verify_file(&path, &log.log.identity().verifier_key()).unwrap();
        assert_eq!((report.from, report.size), (from, 1_200));
    }
    assert_eq!(log.log.export(1_200).await.unwrap_err().code, Code::AUDIT_QUERY_INVALID);
}

#[tokio::test]
async fn texts_that_a_database_cannot_hold_still_verify() {
    let house = house();
    let log = open(&house).unwrap();
    let event = AuditEvent::new(log.ambient.event_id(), log.ambient.now(), Actor::System, "test.act", "a\0b");
    log.store.record(event).await.unwrap();
    log.record("test.act").await.unwrap();
    let seen = log.log.verify().await.unwrap();
    assert_eq!((seen.records, seen.finding), (2, None));
}

#[tokio::test]
async fn filters_and_pages() {
    let house = house();
    let log = open(&house).unwrap();
    for action in ["a.x", "a.y", "a.x", "a.x"] {
        log.record(action).await.unwrap();
    }
    let page = |filter: Filter| {
        let store = log.store.clone();
        async move {
            let found = store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
            found.iter().map(|stored| stored.record.seq).collect::<Vec<_>>()
        }
    };
    let x = || Filter { action: Some("a.x".into()), limit: 2, ..Filter::default() };
    assert_eq!(page(x()).await, [3, 2]);
    assert_eq!(page(Filter { cursor: Some(2), ..x() }).await, [0]);
    assert_eq!(page(Filter { ascending: true, ..x() }).await, [0, 2]);
    assert_eq!(page(Filter { decision: Some(Decision::Denied), ..x() }).await, [0; 0]);
    assert_eq!(page(Filter { actor: Some("system' OR 1=1 --".into()), ..x() }).await, [0; 0]);
}
