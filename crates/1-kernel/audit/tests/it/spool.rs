//! Records that were answered before the database had them: whatever ends the server, each is in the log once, in its order.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agentos_audit::{AuditLog, Filter, LogIdentity, LogWriter, query};
use agentos_base::Ambient;
use agentos_store::{Backup, MIGRATIONS, Migrator, Store, StoreOptions, Way};
use agentos_types::{Actor, Code, Fault, Result, Timestamp, audit::AuditEvent, notify::Notice};
use tempfile::TempDir;

/// Each life of a server has its own randomness.
fn open(directory: &Path, life: u64) -> Result<Log> {
    let (ambient, _) = Ambient::fake(life, Timestamp::from_millis(1_000));
    let identity = LogIdentity::new("node-1", &[7; 32])?;
    let store = Store::open(StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 1_024,
        readers: 1,
        sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
        ambient: ambient.clone(),
    })?;
    Ok(Log { log: AuditLog::new(identity, store.clone(), directory), store, ambient })
}

struct Log {
    log: AuditLog,
    store: Store,
    ambient: Ambient,
}

/// The writer is kept from its next transaction until this is dropped.
struct Held {
    _release: std::sync::mpsc::Sender<()>,
    write: tokio::task::JoinHandle<Result<()>>,
}

impl Held {
    async fn let_go(self) {
        drop(self._release);
        self.write.await.unwrap().unwrap();
    }
}

impl Log {
    fn event(&self, what: impl std::fmt::Display) -> AuditEvent {
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), Actor::System, "test.act", what.to_string())
    }

    async fn record(&self, what: impl std::fmt::Display) -> Result<()> {
        self.store.record(self.event(what)).await
    }

    async fn write(&self, what: impl std::fmt::Display) -> Result<()> {
        let event = self.event(what);
        let write = self.store.write(move |tx| {
            tx.record(event);
            Ok(())
        });
        write.await
    }

    async fn sql(&self, statement: &'static str) -> Result<usize> {
        self.store.write(move |tx| tx.execute(statement, &[])).await
    }

    /// Nothing reaches the database until the returned is let go.
    async fn hold(&self) -> Held {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, running) = tokio::sync::oneshot::channel();
        let store = self.store.clone();
        let write = tokio::spawn(async move {
            store
                .write(move |_| {
                    let _ = begun.send(());
                    let _ = held.recv();
                    Ok(())
                })
                .await
        });
        running.await.unwrap();
        Held { _release: release, write }
    }

    /// What stands in the log, in order, after it was verified.
    async fn said(&self) -> Vec<String> {
        let seen = self.log.verify().await.unwrap();
        let filter = Filter { limit: 500, ascending: true, ..Filter::default() };
        let found = self.store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
        if !found.is_empty() {
            assert_eq!((seen.finding, seen.records), (None, u64::try_from(found.len()).unwrap()));
        }
        found.into_iter().map(|stored| stored.record.event.resource).collect()
    }
}

fn spools(directory: &Path) -> Vec<PathBuf> {
    ["audit-spool.0", "audit-spool.1"]
        .map(|name| directory.join(name))
        .into_iter()
        .filter(|path| path.exists())
        .collect()
}

/// The files of a server as they are at this instant: what is left when it is killed now.
fn image(directory: &Path) -> TempDir {
    copy(directory, &["audit-spool.0", "audit-spool.1", "agent-os.db", "agent-os.db-wal"])
}

fn copy(directory: &Path, names: &[&str]) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for name in names.iter().filter(|name| directory.join(name).exists()) {
        fs::copy(directory.join(name), image.path().join(name)).unwrap();
    }
    image
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_was_answered_before_the_kill_is_in_the_log_once() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), 1).unwrap();
    log.record(0).await.unwrap();
    let held = log.hold().await;
    for number in 1..10 {
        log.record(number).await.unwrap();
    }
    let files = spools(home.path());
    assert_eq!(files.len(), 1);
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let killed = image(home.path());
    held.let_go().await;
    assert_eq!(log.said().await, numbers(0..10));
    // Killed when the database has everything and the file is still there.
    let later = image(home.path());
    for place in [&killed, &later] {
        for life in 2..4 {
            let log = open(place.path(), life).unwrap();
            assert_eq!(spools(place.path()), [] as [PathBuf; 0], "what the database has is needed nowhere else");
            assert_eq!(log.said().await, numbers(0..10), "life {life}");
        }
        let log = open(place.path(), 4).unwrap();
        log.record(10).await.unwrap();
        log.record(11).await.unwrap();
        assert_eq!(log.said().await, numbers(0..12));
    }
    drop(log);
    assert_eq!(spools(home.path()), [] as [PathBuf; 0], "an orderly end leaves nothing behind");
    assert_eq!(open(home.path(), 5).unwrap().said().await, numbers(0..10));
}

#[tokio::test]
async fn who_reads_sees_what_was_answered_and_is_told_of_it() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), 1).unwrap();
    let mut notices = log.store.subscribe_audit();
    for number in 0..20 {
        log.record(number).await.unwrap();
        assert_eq!(log.said().await, numbers(0..number + 1));
    }
    assert_eq!(notices.recv().await.unwrap(), Notice::Audit);
    // Without a reader and without another commit it comes to the database all the same.
    while notices.try_recv().is_ok() {}
    log.record(20).await.unwrap();
    assert_eq!(notices.recv().await.unwrap(), Notice::Audit);
    let segment = String::from_utf8(log.log.export(0).await.unwrap()).unwrap();
    assert!(segment.contains(r#"\"resource\":\"20\""#), "{segment}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_is_answered_once_and_keeps_the_order_of_what_was_done() {
    const CALLERS: usize = 8;
    const ACTS: usize = 40;
    let home = tempfile::tempdir().unwrap();
    let log = std::sync::Arc::new(open(home.path(), 1).unwrap());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let log = log.clone();
        callers.spawn(async move {
            for act in 0..ACTS {
                let what = format!("{caller}-{act}");
                // A record by itself, one with a write, two that belong together and a place that is kept.
                match (caller + act) % 4 {
                    0 => log.write(&what).await.unwrap(),
                    1 => log.store.note(vec![log.event(&what)]).unwrap().durable().await.unwrap(),
                    _ => log.record(&what).await.unwrap(),
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let said = log.said().await;
    assert_eq!(said.len(), CALLERS * ACTS);
    for caller in 0..CALLERS {
        let mine: Vec<&String> = said.iter().filter(|what| what.starts_with(&format!("{caller}-"))).collect();
        let expected: Vec<String> = (0..ACTS).map(|act| format!("{caller}-{act}")).collect();
        assert_eq!(mine, expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_log_that_refuses_what_was_answered_answers_nobody_else_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), 1).unwrap();
    log.record(0).await.unwrap();
    log.record(1).await.unwrap();
    log.store.settle().await;
    let refuse = "CREATE TRIGGER refuse_record BEFORE INSERT ON audit_record BEGIN SELECT RAISE(ABORT, 'no'); END";
    log.sql(refuse).await.unwrap();
    log.record(2).await.unwrap();
    log.store.settle().await;
    for _ in 0..3 {
        assert_eq!(log.record("refused").await.unwrap_err().code, Code::AUDIT_UNAVAILABLE);
    }
    assert_eq!(log.sql("DELETE FROM installation WHERE name = 'x'").await.unwrap_err().code, Code::AUDIT_UNAVAILABLE);
    // The readers go on with what there is.
    assert_eq!(log.said().await, numbers(0..2));
    // Killed now, it cannot start before the log takes what waits.
    let killed = image(home.path());
    assert_eq!(open(killed.path(), 2).err().unwrap().code, Code::AUDIT_UNAVAILABLE);
    assert_eq!(spools(killed.path()).len(), 1);
    // The cause is gone; what waited stands before what comes.
    log.sql("DROP TRIGGER refuse_record").await.unwrap();
    log.record(3).await.unwrap();
    assert_eq!(log.said().await, numbers(0..4));
}

#[tokio::test]
async fn a_torn_end_is_left_out_and_damage_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), 1).unwrap();
    log.record(0).await.unwrap();
    let held = log.hold().await;
    for number in 1..6 {
        log.record(number).await.unwrap();
    }
    let killed = image(home.path());
    held.let_go().await;
    let name = "audit-spool.0";
    let bytes = fs::read(killed.path().join(name)).unwrap();
    let at = |what: usize| {
        let text = format!(r#""resource":"{what}""#);
        bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
    };
    let change = |place: usize| {
        let copy = image(killed.path());
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        fs::write(copy.path().join(name), bytes).unwrap();
        copy
    };
    let newest = change(at(5));
    assert_eq!(open(newest.path(), 2).unwrap().said().await, numbers(0..5), "nobody can tell it from a torn one");
    let damaged = change(at(3));
    for _ in 0..2 {
        let refused = open(damaged.path(), 2).err().unwrap();
        assert_eq!(refused.code, Code::AUDIT_TAMPERED, "{refused}");
        assert!(refused.hint.is_some_and(|hint| hint.contains("audit-spool.0")));
        assert_eq!(spools(damaged.path()).len(), 1, "it is kept");
    }
    // Cut anywhere, it gives a beginning.
    for cut in [1, 100, at(2), at(4) + 3, bytes.len() - 1] {
        let copy = image(killed.path());
        fs::write(copy.path().join(name), &bytes[..cut]).unwrap();
        let log = open(copy.path(), 2).unwrap();
        let said = log.said().await;
        assert_eq!(said, numbers(0..said.len()), "cut at {cut}");
    }
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused() {
    const DATABASE: [&str; 2] = ["agent-os.db", "agent-os.db-wal"];
    const SPOOL: [&str; 2] = ["audit-spool.0", "audit-spool.1"];
    let together = |database: &TempDir, spool: &TempDir| {
        let place = copy(database.path(), &DATABASE);
        for name in SPOOL.iter().filter(|name| spool.path().join(name).exists()) {
            fs::copy(spool.path().join(name), place.path().join(name)).unwrap();
        }
        place
    };
    let home = tempfile::tempdir().unwrap();
    let mut lives = Vec::new();
    // Two lives, two images of each: one record waits, and later another one does.
    for life in 0..2 {
        let log = open(home.path(), 1 + life).unwrap();
        log.record("begin").await.unwrap();
        for number in 0..2 {
            let held = log.hold().await;
            log.record(number).await.unwrap();
            lives.push(image(home.path()));
            held.let_go().await;
        }
    }
    let refused = |database: usize, spool: usize| {
        let fault = open(together(&lives[database], &lives[spool]).path(), 9).err();
        fault.unwrap_or_else(|| panic!("the spool {spool} was taken for that of database {database}"))
    };
    // A restored database beside the spool of a later life, and the opposite.
    for (database, spool) in [(0, 2), (1, 2), (2, 0), (3, 1)] {
        let fault = refused(database, spool);
        assert_eq!(fault.code, Code::AUDIT_TAMPERED, "{fault}");
        assert!(fault.hint.unwrap().contains("restored"));
    }
    // Of one life, an older spool has nothing that the database lacks, and a newer one goes on where the database ends.
    for (database, spool, records) in [(1, 0, 2), (0, 1, 3)] {
        let place = together(&lives[database], &lives[spool]);
        let log = open(place.path(), 9).unwrap();
        assert_eq!(log.said().await.len(), records);
    }
}

#[tokio::test]
async fn the_way_down_begins_with_an_orderly_end() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), 1).unwrap();
    log.record(0).await.unwrap();
    log.record(1).await.unwrap();
    let killed = image(home.path());
    drop(log);
    let down = |place: &Path| {
        let migrator = Migrator::open(place, None, Ambient::fake(1, Timestamp::from_millis(1)).0)?;
        migrator.migrate(Way::Down(MIGRATIONS.last().unwrap().number - 1), Backup::Taken)
    };
    let refused: Fault = down(killed.path()).unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("agent-os down")), "{}", refused.message);
    drop(open(killed.path(), 2).unwrap());
    down(killed.path()).unwrap();
    down(home.path()).unwrap();
}

/// A server does this and that and is killed at some instant; the next one finds what was answered, and goes on.
#[tokio::test]
async fn seeded_lives_that_end_anywhere_keep_what_was_answered() {
    for seed in 1..=12 {
        let (dice, _) = Ambient::fake(seed, Timestamp::ZERO);
        let mut home = tempfile::tempdir().unwrap();
        let mut answered = Vec::new();
        for life in 0..4 {
            let log = open(home.path(), seed * 100 + life).unwrap();
            assert_eq!(log.said().await, answered, "seed {seed}, life {life}");
            log.record(format!("{life}-begin")).await.unwrap();
            answered.push(format!("{life}-begin"));
            let mut held: Option<Held> = None;
            for act in 0..dice.random_up_to(25) {
                let what = format!("{life}-{act}");
                match dice.random_up_to(5) {
                    0 if held.is_none() => held = Some(log.hold().await),
                    1 => {
                        if let Some(held) = held.take() {
                            held.let_go().await;
                        }
                        log.write(&what).await.unwrap();
                        answered.push(what);
                    }
                    2 if held.is_none() => log.store.settle().await,
                    3 => {
                        // In the file before anybody waits for the disk: it outlives the process.
                        let both = [what.clone(), format!("{what}+")];
                        drop(log.store.note(both.iter().map(|what| log.event(what)).collect()).unwrap());
                        answered.extend(both);
                    }
                    _ => {
                        log.record(&what).await.unwrap();
                        answered.push(what);
                    }
                }
            }
            let killed = image(home.path());
            if let Some(held) = held.take() {
                held.let_go().await;
            }
            drop(log);
            home = killed;
        }
    }
}
