use std::path::Path;

use agentos_types::{Actor, AgentName, Code, Timestamp, audit::AuditEvent};

use super::*;

fn open(directory: &Path, sequencer: Option<Box<dyn Sequencer>>) -> Result<Store> {
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
    Store::open(StoreOptions { directory: directory.into(), queue_max: 64, readers: 2, sequencer, ambient })
}

async fn put(store: &Store, name: &'static str, value: &'static str) -> Result<usize> {
    store
        .write(move |tx| {
            tx.execute("INSERT INTO installation (name, value) VALUES ($1, $2)", &[name.into(), value.into()])
        })
        .await
}

async fn count(store: &Store) -> i64 {
    store
        .read(|conn| conn.query_one("SELECT count(*) FROM installation", &[], |row| row.integer(0)))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_failed_operation_leaves_nothing_and_harms_no_neighbour() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), None).unwrap();
    let broken = store.write(|tx| {
        tx.execute("INSERT INTO installation (name, value) VALUES ('x', 'y')", &[])?;
        Err::<(), _>(Fault::new(Code::KV_CONFLICT, "no"))
    });
    let panicking = store.write(|_| -> Result<()> { panic!("on purpose") });
    let (good, broken, panicking) = tokio::join!(put(&store, "a", "1"), broken, panicking);
    assert_eq!(good, Ok(1));
    assert_eq!(broken.unwrap_err().code, Code::KV_CONFLICT);
    assert_eq!(panicking.unwrap_err().code, Code::INTERNAL);
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn a_second_server_is_kept_out_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), None).unwrap();
    put(&first, "a", "1").await.unwrap();
    assert_eq!(open(directory.path(), None).unwrap_err().code, Code::STORE_LOCKED);
    drop(first);
    let second = open(directory.path(), None).unwrap();
    assert_eq!(count(&second).await, 1);
}

#[tokio::test]
async fn notices_come_only_after_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), None).unwrap();
    let mut notices = store.subscribe();
    let agent: AgentName = "a".parse().unwrap();
    let notice = Notice::WorkFor(agent);
    let lost = notice.clone();
    let failed: Result<()> = store
        .write(move |tx| {
            tx.announce(Notice::Schedules);
            tx.announce(lost);
            Err(Fault::internal("x"))
        })
        .await;
    assert!(failed.is_err());
    let sent = notice.clone();
    store
        .write(move |tx| {
            tx.announce(sent);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(notices.recv().await.unwrap(), notice);
}

#[tokio::test]
async fn migrations_go_up_down_and_up_again_to_the_same_schema() {
    let directory = tempfile::tempdir().unwrap();
    let dump = |store: &Store| {
        let store = store.clone();
        async move {
            store
                .read(|conn| {
                    conn.query("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name", &[], |row| {
                        Ok((row.text(0)?, row.text(1)?))
                    })
                })
                .await
                .unwrap()
        }
    };
    let store = open(directory.path(), None).unwrap();
    let first = dump(&store).await;
    drop(store);
    Store::migrate_down(directory.path(), 0).unwrap();
    let store = open(directory.path(), None).unwrap();
    assert_eq!(dump(&store).await, first);
    assert_eq!(store.schema(), Store::schema_known());
}

#[tokio::test]
async fn a_newer_schema_and_a_changed_migration_are_refused() {
    for (change, code) in [
        ("INSERT INTO schema_migration VALUES (999, 'future', '', 0)", Code::SCHEMA_NEWER),
        ("UPDATE schema_migration SET sha256 = 'other' WHERE number = 1", Code::MIGRATION_CHANGED),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), None).unwrap();
        store.write(move |tx| tx.execute(change, &[])).await.unwrap();
        drop(store);
        assert_eq!(open(directory.path(), None).unwrap_err().code, code);
    }
}

/// Refuses to seal as long as it is told to.
struct Refusing;

impl Sequencer for Refusing {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, _: &[AuditEvent]) -> Result<()> {
        Err(Fault::new(Code::AUDIT_UNAVAILABLE, "no"))
    }
    fn settled(&mut self, durable: bool) {
        assert!(!durable);
    }
}

#[tokio::test]
async fn without_a_durable_record_nothing_happens() {
    for sequencer in [None, Some(Box::new(Refusing) as Box<dyn Sequencer>)] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), sequencer).unwrap();
        let (ambient, _) = Ambient::fake(2, Timestamp::from_millis(1));
        let refused = store
            .write(move |tx| {
                tx.execute("INSERT INTO installation (name, value) VALUES ('x', 'y')", &[])?;
                tx.record(AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", "x"));
                Ok(())
            })
            .await;
        assert_eq!(refused.unwrap_err().code, Code::AUDIT_UNAVAILABLE);
        assert_eq!(count(&store).await, 0);
    }
}

#[tokio::test]
async fn audit_rows_cannot_be_changed_through_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), None).unwrap();
    store
        .write(|tx| {
            tx.execute(
                "INSERT INTO audit_record (log, seq, at, actor, action, resource, phase, decision, body, prev_hash, leaf_hash)
                 VALUES ('l', 0, 0, 'a', 'b', 'c', 'fact', 'allowed', x'00', x'00', x'00')",
                &[],
            )
        })
        .await
        .unwrap();
    for attack in ["UPDATE audit_record SET actor = 'x'", "DELETE FROM audit_record"] {
        assert!(store.write(move |tx| tx.execute(attack, &[])).await.is_err(), "{attack}");
    }
}

/// Seals everything and keeps nothing.
struct Sealing;

impl Sequencer for Sealing {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, _: &[AuditEvent]) -> Result<()> {
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

#[tokio::test]
async fn sealed_records_are_announced_once_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Some(Box::new(Sealing))).unwrap();
    let mut notices = store.subscribe();
    let (ambient, _) = Ambient::fake(2, Timestamp::from_millis(1));
    put(&store, "unrecorded", "1").await.unwrap();
    store
        .write(move |tx| {
            for _ in 0..2 {
                tx.record(AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", "x"));
            }
            tx.announce(Notice::Schedules);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(notices.recv().await.unwrap(), Notice::Schedules);
    assert_eq!(notices.recv().await.unwrap(), Notice::Audit);
    assert!(notices.try_recv().is_err());
}

#[tokio::test]
async fn failing_and_panicking_queries_do_not_empty_the_pool() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), None).unwrap();
    for _ in 0..8 {
        let panicked: Result<()> = store.read(|_| panic!("on purpose")).await;
        assert_eq!(panicked.unwrap_err().code, Code::INTERNAL);
        let failed: Result<()> = store.read(|_| Err(Fault::new(Code::TASK_NOT_FOUND, "no"))).await;
        assert_eq!(failed.unwrap_err().code, Code::TASK_NOT_FOUND);
    }
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn after_a_full_disk_only_a_write_with_room_counts_as_working() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), None).unwrap();
    // No page more than the file has, or plenty: to the writer, a full disk and a freed one.
    let limit = async |full: bool| {
        store
            .write(move |tx| {
                let statement = if full { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1000" };
                tx.query_one(statement, &[], |row| row.integer(0))
            })
            .await
            .unwrap();
    };
    assert_eq!(store.probe().await, Ok(()));
    limit(true).await;
    let big = store.write(|tx| {
        let value = "x".repeat(256 * 1024);
        tx.execute("INSERT INTO installation (name, value) VALUES ('big', $1)", &[value.as_str().into()])
    });
    assert_eq!(big.await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    assert_eq!(store.write(|_| Ok(())).await, Ok(()), "an empty write says nothing about the disk");
    for _ in 0..3 {
        assert_eq!(store.probe().await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    }
    limit(false).await;
    assert_eq!(store.probe().await, Ok(()));
    assert_eq!(count(&store).await, 0, "the probe leaves nothing");
}
