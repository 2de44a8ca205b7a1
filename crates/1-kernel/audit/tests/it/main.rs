//! The log on a real store: what is sealed verifies, what is refused leaves no trace, what is damaged is not continued.

use std::path::Path;

use agentos_audit::{AuditLog, Filter, LogIdentity, LogWriter, query};
use agentos_base::Ambient;
use agentos_store::{Store, StoreOptions};
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision},
};

struct Log {
    store: Store,
    log: AuditLog,
    ambient: Ambient,
}

fn open(directory: &Path) -> Result<Log> {
    let (ambient, _) = Ambient::fake(7, Timestamp::from_millis(1_000));
    let identity = LogIdentity::new("node-1", &[7; 32])?;
    let store = Store::open(StoreOptions {
        directory: directory.into(),
        queue_max: 1_024,
        readers: 2,
        sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
        ambient: ambient.clone(),
    })?;
    Ok(Log { log: AuditLog::new(identity, store.clone(), directory), store, ambient })
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
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
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
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
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
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    log.record("test.before").await.unwrap();
    drop(log);
    let log = open(directory.path()).unwrap();
    log.record("test.after").await.unwrap();
    let seen = log.log.verify().await.unwrap();
    assert_eq!((seen.records, seen.finding), (2, None));
}

#[tokio::test]
async fn a_damaged_end_is_not_continued() {
    for damage in [
        "UPDATE audit_frontier SET last_leaf = x'00'",
        "UPDATE audit_frontier SET last_leaf = zeroblob(32)",
        "UPDATE audit_frontier SET frontier = zeroblob(8)",
        "DELETE FROM audit_frontier",
        "DROP TRIGGER audit_record_is_append_only_delete; DELETE FROM audit_record WHERE seq = 1",
        "DROP TRIGGER audit_checkpoint_is_append_only_delete; DELETE FROM audit_frontier; DELETE FROM audit_checkpoint",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path()).unwrap();
        log.record("test.one").await.unwrap();
        // An even number of records: the root alone does not show the last one then.
        log.record("test.two").await.unwrap();
        for statement in damage.split("; ") {
            log.store.write(move |tx| tx.execute(statement, &[])).await.unwrap();
        }
        drop(log);
        let refused = open(directory.path()).err().expect(damage);
        assert!([Code::AUDIT_TAMPERED, Code::STORE_CORRUPT].contains(&refused.code), "{damage}: {refused}");
    }
}

#[tokio::test]
async fn filters_and_pages() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
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
