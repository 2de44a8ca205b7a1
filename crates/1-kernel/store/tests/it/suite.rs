//! What a store promises, whichever database it is.

use agentos_scratch::Scratch;
use agentos_store::{Arg, Conn, Database, Dialect, Sequencer, Store, StoreOptions};
use agentos_types::{Actor, AgentName, Code, Fault, Result, Timestamp, audit::AuditEvent, notify::Notice};
use tempfile::TempDir;

use super::{BACKEND, NEXT_SCHEMA};
use agentos_base::Ambient;

/// A place that outlives the stores that are opened in it.
struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.blank() }
}

impl House {
    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    fn open(&self, sequencer: Option<Box<dyn Sequencer>>) -> Result<Store> {
        if NEXT_SCHEMA {
            drop(Store::open_as(self.options(None), crate::future::next_release())?);
        }
        Store::open(self.options(sequencer))
    }

    fn options(&self, sequencer: Option<Box<dyn Sequencer>>) -> StoreOptions {
        let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
        StoreOptions {
            directory: self.directory.path().into(),
            database: self.database(),
            queue_max: 64,
            readers: 2,
            sequencer,
            ambient,
        }
    }
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
    let house = house();
    let store = house.open(None).unwrap();
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
    let house = house();
    let first = house.open(None).unwrap();
    put(&first, "a", "1").await.unwrap();
    assert_eq!(house.open(None).unwrap_err().code, Code::STORE_LOCKED);
    drop(first);
    let second = house.open(None).unwrap();
    assert_eq!(count(&second).await, 1);
}

#[tokio::test]
async fn notices_come_only_after_a_commit() {
    let house = house();
    let store = house.open(None).unwrap();
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
        let house = house();
        let store = house.open(sequencer).unwrap();
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
    let house = house();
    let store = house.open(None).unwrap();
    store
        .write(|tx| {
            tx.execute(
                "INSERT INTO audit_record (log, seq, at, actor, action, resource, phase, decision, body, prev_hash, leaf_hash)
                 VALUES ('l', 0, 0, 'a', 'b', 'c', 'fact', 'allowed', $1, $1, $1)",
                &[Arg::Bytes(&[0])],
            )?;
            tx.execute("INSERT INTO audit_checkpoint (log, size, at, note) VALUES ('l', 1, 0, 'n')", &[])
        })
        .await
        .unwrap();
    for attack in [
        "UPDATE audit_record SET actor = 'x'",
        "DELETE FROM audit_record",
        "UPDATE audit_checkpoint SET note = 'x'",
        "DELETE FROM audit_checkpoint",
    ] {
        assert!(store.write(move |tx| tx.execute(attack, &[])).await.is_err(), "{attack}");
    }
}

#[tokio::test]
async fn deleting_is_possible_below_the_mark_alone() {
    let house = house();
    let store = house.open(None).unwrap();
    store
        .write(|tx| {
            for seq in 0..4_i64 {
                tx.execute(
                    "INSERT INTO audit_record (log, seq, at, actor, action, resource, phase, decision, body, prev_hash, leaf_hash)
                     VALUES ('l', $1, 0, 'a', 'b', 'c', 'fact', 'allowed', $2, $2, $2)",
                    &[seq.into(), Arg::Bytes(&[0])],
                )?;
                let size = Arg::Integer(seq + 1);
                tx.execute("INSERT INTO audit_checkpoint (log, size, at, note) VALUES ('l', $1, 0, 'n')", &[size])?;
            }
            let day = "INSERT INTO audit_day (log, number, date, first_seq, frontier, last_leaf) VALUES ('l', $1, 0, $2, $3, $3)";
            for (number, first) in [(0, 0), (1, 2), (2, 3)] {
                tx.execute(day, &[Arg::Integer(number), Arg::Integer(first), Arg::Bytes(&[0])])?;
            }
            tx.execute("INSERT INTO audit_prune (log, first_kept, day, at) VALUES ('l', 3, 2, 0)", &[])
        })
        .await
        .unwrap();
    for refused in [
        "DELETE FROM audit_record WHERE seq = 3",
        "DELETE FROM audit_record",
        "UPDATE audit_record SET actor = 'x' WHERE seq = 0",
        // It closes a day; it is the mark's own; it lies above.
        "DELETE FROM audit_checkpoint WHERE size = 2",
        "DELETE FROM audit_checkpoint WHERE size = 3",
        "DELETE FROM audit_checkpoint WHERE size = 4",
        "UPDATE audit_checkpoint SET note = 'x' WHERE size = 1",
        "UPDATE audit_prune SET first_kept = 4",
        "DELETE FROM audit_prune",
        "UPDATE audit_day SET first_seq = 9",
        "DELETE FROM audit_day",
        "UPDATE audit_key SET note = 'x'",
    ] {
        let outcome = store.administer(move |conn| conn.execute(refused, &[])).await;
        // A table without rows has nothing to refuse on SQLite.
        assert!(outcome.is_err() || refused.contains("audit_key"), "{refused}");
    }
    for taken in ["DELETE FROM audit_record WHERE seq < 3", "DELETE FROM audit_checkpoint WHERE size = 1"] {
        if store.dialect() == Dialect::Postgres {
            assert!(store.write(move |tx| tx.execute(taken, &[])).await.is_err(), "the server's role may: {taken}");
        }
        assert!(store.administer(move |conn| conn.execute(taken, &[])).await.unwrap() > 0, "{taken}");
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
    let house = house();
    let store = house.open(Some(Box::new(Sealing))).unwrap();
    let (mut notices, mut records) = (store.subscribe(), store.subscribe_audit());
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
    assert!(notices.try_recv().is_err());
    assert_eq!(records.recv().await.unwrap(), Notice::Audit);
    assert!(records.try_recv().is_err(), "one notice for all records of a commit, and none for a commit without");
}

#[tokio::test]
async fn what_was_noted_is_durable_when_that_is_said_and_written_if_nobody_asks() {
    let house = house();
    let store = house.open(Some(Box::new(Sealing))).unwrap();
    let (ambient, _) = Ambient::fake(2, Timestamp::from_millis(1));
    let event = |name: &str| AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", name);
    let mut records = store.subscribe_audit();
    // The first makes the place known where others may wait.
    for name in ["first", "second"] {
        store.note(vec![event(name), event(name)]).unwrap().durable().await.unwrap();
    }
    store.settle().await;
    while records.try_recv().is_ok() {}
    drop(store.note(vec![event("nobody asks")]).unwrap());
    assert_eq!(records.recv().await.unwrap(), Notice::Audit);
    drop(store);
    let store = house.open(Some(Box::new(Refusing))).unwrap();
    for _ in 0..2 {
        let refused = store.note(vec![event("refused")]).unwrap().durable().await;
        assert_eq!(refused.unwrap_err().code, Code::AUDIT_UNAVAILABLE);
    }
}

#[tokio::test]
async fn failing_and_panicking_queries_do_not_empty_the_pool() {
    let house = house();
    let store = house.open(None).unwrap();
    for _ in 0..8 {
        let panicked: Result<()> = store.read(|_| panic!("on purpose")).await;
        assert_eq!(panicked.unwrap_err().code, Code::INTERNAL);
        let failed: Result<()> = store.read(|_| Err(Fault::new(Code::TASK_NOT_FOUND, "no"))).await;
        assert_eq!(failed.unwrap_err().code, Code::TASK_NOT_FOUND);
    }
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn a_batch_with_failures_keeps_what_succeeded() {
    let house = house();
    let store = house.open(None).unwrap();
    // Held up, so that all of them wait together and share one transaction.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let first = store.write(move |_| held.recv().map_err(Fault::internal));
    let writes = (0..60).map(|number: i64| {
        let store = store.clone();
        async move {
            let outcome = store
                .write(move |tx| {
                    let name = format!("n{number}");
                    let insert = "INSERT INTO installation (name, value) VALUES ($1, 'v')";
                    match number % 5 {
                        // Nothing at all, a duplicate, a refusal after a write, two writes, one write.
                        0 => Ok(()),
                        1 => tx
                            .execute(insert, &["n2".into()])
                            .and_then(|_| tx.execute(insert, &["n2".into()]))
                            .map(drop),
                        3 => {
                            tx.execute(insert, &[(&name).into()])?;
                            Err(Fault::new(Code::KV_CONFLICT, "no"))
                        }
                        _ => tx.execute(insert, &[(&name).into()]).map(drop),
                    }
                })
                .await;
            (number, outcome.is_ok())
        }
    });
    let all = futures_util::future::join_all(writes);
    let (first, outcomes, ()) = tokio::join!(first, all, async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    });
    first.unwrap();
    for (number, succeeded) in outcomes {
        assert_eq!(succeeded, matches!(number % 5, 0 | 2 | 4), "operation {number}");
    }
    assert_eq!(count(&store).await, 24);
}

#[tokio::test]
async fn what_is_left_for_later_happens_in_its_order_and_goes_with_its_operation() {
    const INSERT: &str = "INSERT INTO installation (name, value) VALUES ($1, 'v')";
    let house = house();
    let store = house.open(None).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let first = store.write(move |_| held.recv().map_err(Fault::internal));
    let kept = store.write(|tx| {
        tx.execute_later(INSERT, &["a".into()])?;
        tx.execute_later("UPDATE installation SET value = 'w' WHERE name = $1", &["a".into()])?;
        let seen = tx.query_one("SELECT value FROM installation WHERE name = 'a'", &[], |row| row.text(0))?;
        tx.execute_later(INSERT, &["b".into()])?;
        Ok(seen)
    });
    let refused_at_once = store.write(|tx| {
        tx.execute_later(INSERT, &["c".into()])?;
        Err::<(), _>(Fault::new(Code::KV_CONFLICT, "no"))
    });
    let refused_after_a_look = store.write(|tx| {
        tx.execute_later(INSERT, &["d".into()])?;
        tx.query_one("SELECT 1", &[], |_| Ok(()))?;
        tx.execute_later(INSERT, &["e".into()])?;
        Err::<(), _>(Fault::new(Code::KV_CONFLICT, "no"))
    });
    let last = store.write(|tx| tx.execute_later(INSERT, &["f".into()]));
    let (first, kept, at_once, after_a_look, last, ()) =
        tokio::join!(first, kept, refused_at_once, refused_after_a_look, last, async {
            tokio::task::yield_now().await;
            release.send(()).unwrap();
        });
    first.unwrap();
    last.unwrap();
    assert_eq!(kept.unwrap().as_deref(), Some("w"));
    assert_eq!((at_once.unwrap_err().code, after_a_look.unwrap_err().code), (Code::KV_CONFLICT, Code::KV_CONFLICT));
    let names = store.read(|conn| conn.query("SELECT name FROM installation ORDER BY name", &[], |row| row.text(0)));
    assert_eq!(names.await.unwrap(), ["a", "b", "f"]);
}

#[tokio::test]
async fn nobody_is_told_of_success_when_a_kept_statement_failed() {
    const INSERT: &str = "INSERT INTO installation (name, value) VALUES ('x', 'v')";
    let house = house();
    let store = house.open(None).unwrap();
    for more_follows in [false, true] {
        let broken = store.write(move |tx| {
            tx.execute_later(INSERT, &[])?;
            tx.execute_later(INSERT, &[])?;
            if more_follows { tx.query_one("SELECT 1", &[], |_| Ok(())).map(drop) } else { Ok(()) }
        });
        assert_eq!(broken.await.unwrap_err().code, Code::INTERNAL, "more follows: {more_follows}");
        assert_eq!(count(&store).await, 0);
    }
    // The same beside an innocent neighbour, who may be refused but not deceived.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let first = store.write(move |_| held.recv().map_err(Fault::internal));
    let broken = store.write(|tx| tx.execute_later(INSERT, &[]).and_then(|()| tx.execute_later(INSERT, &[])));
    let neighbour = put(&store, "neighbour", "v");
    let (_, broken, neighbour, ()) = tokio::join!(first, broken, neighbour, async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    });
    broken.unwrap_err();
    assert_eq!(count(&store).await, i64::from(neighbour.is_ok()));
    put(&store, "after", "v").await.unwrap();
}

#[tokio::test]
async fn values_come_back_as_they_were() {
    let house = house();
    let store = house.open(None).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let sent = bytes.clone();
    store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO kv (agent, key, version, value_key, value, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
                &["é".into(), "k\n'\"".into(), i64::MIN.into(), i64::MAX.into(), (&sent).into(), Timestamp(-1).into()],
            )
        })
        .await
        .unwrap();
    let read = store
        .read(|conn| {
            conn.query_one("SELECT agent, key, version, value_key, value, updated_at FROM kv", &[], |row| {
                Ok((row.text(0)?, row.text(1)?, row.integer(2)?, row.integer(3)?, row.bytes(4)?, row.time(5)?))
            })
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read, ("é".into(), "k\n'\"".into(), i64::MIN, i64::MAX, bytes, Timestamp(-1)));
}

#[tokio::test]
async fn names_sort_byte_by_byte() {
    let house = house();
    let store = house.open(None).unwrap();
    for name in ["b", "A", "a", "é", "B", "a-b", "ab"] {
        put(&store, name, "1").await.unwrap();
    }
    let read = store.read(|conn| conn.query("SELECT name FROM installation ORDER BY name", &[], |row| row.text(0)));
    assert_eq!(read.await.unwrap(), ["A", "B", "a", "a-b", "ab", "b", "é"]);
}
