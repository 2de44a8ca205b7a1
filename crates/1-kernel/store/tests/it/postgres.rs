//! What only Postgres can break: roles, lost connections, a second server, the way there.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agentos_base::Ambient;
use agentos_scratch::{Backend, Scratch};
use agentos_store::{Backup, Database, Migrator, Store, StoreOptions, Way};
use agentos_types::{Code, Result, Timestamp};
use tempfile::TempDir;

struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: Backend::Postgres.blank() }
}

impl House {
    fn open(&self) -> Result<Store> {
        let (url, admin) = self.scratch.urls().unwrap();
        self.open_as(url, Some(admin))
    }

    fn open_as(&self, url: &str, admin: Option<&str>) -> Result<Store> {
        open_at(self.directory.path(), url, admin)
    }
}

fn open_at(directory: &std::path::Path, url: &str, admin: Option<&str>) -> Result<Store> {
    Store::open(options_at(directory, url, admin)?)
}

fn options_at(directory: &std::path::Path, url: &str, admin: Option<&str>) -> Result<StoreOptions> {
    Ok(StoreOptions {
        directory: directory.into(),
        database: Some(Database::parse(url, admin)?),
        queue_max: 64,
        readers: 2,
        sequencer: None,
        ambient: Ambient::fake(1, Timestamp::from_millis(1)).0,
    })
}

async fn put(store: &Store, name: &'static str) -> Result<usize> {
    store.write(move |tx| tx.execute("INSERT INTO installation (name, value) VALUES ($1, 'v')", &[name.into()])).await
}

async fn count(store: &Store) -> Result<Option<i64>> {
    store.read(|conn| conn.query_one("SELECT count(*) FROM installation", &[], |row| row.integer(0))).await
}

#[tokio::test]
async fn the_servers_role_owns_nothing_and_cannot_change_the_log() {
    let house = house();
    let store = house.open().unwrap();
    store
        .write(|tx| tx.execute("INSERT INTO audit_checkpoint (log, size, at, note) VALUES ('l', 1, 0, 'n')", &[]))
        .await
        .unwrap();
    for attack in [
        "UPDATE audit_record SET actor = 'x'",
        "DELETE FROM audit_record",
        "TRUNCATE audit_record",
        "UPDATE audit_checkpoint SET note = 'x'",
        "DELETE FROM audit_checkpoint",
        "TRUNCATE audit_checkpoint",
        "DROP TABLE audit_record",
        "ALTER TABLE audit_record DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_record_is_append_only ON audit_record",
        "CREATE RULE r AS ON INSERT TO audit_record DO INSTEAD NOTHING",
        "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "CREATE TABLE agent_os.mine (a TEXT)",
        "SET ROLE agent_os_admin",
        "SET SESSION AUTHORIZATION agent_os_admin",
        "DELETE FROM schema_migration",
    ] {
        let refused = store.write(move |tx| tx.execute(attack, &[])).await.unwrap_err();
        let why = refused.detail.unwrap_or_default();
        assert!(why.contains("42501") || why.contains("42809"), "{attack}: {why}");
    }
    // Not even a statement of the owner, unless the triggers are taken away first.
    for attack in ["UPDATE agent_os.audit_checkpoint SET note = 'x'", "TRUNCATE agent_os.audit_checkpoint"] {
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| house.scratch.postgres().run(attack)));
        assert!(kept.is_err(), "{attack}");
    }
}

#[tokio::test]
async fn the_servers_role_opens_days_and_can_do_nothing_else_to_them() {
    let house = house();
    let store = house.open().unwrap();
    let open = async |from: i64, to: i64| {
        store
            .write(move |tx| {
                tx.query_one("SELECT audit_open_days($1, $2)", &[from.into(), to.into()], |row| row.integer(0))
            })
            .await
    };
    assert_eq!(open(0, 3).await, Ok(Some(3)));
    assert_eq!(open(2, 4).await, Ok(Some(4)), "those that are open stay as they are");
    for (from, to) in [(-1, 1), (0, 32), (1_000, 1_001)] {
        assert!(open(from, to).await.is_err(), "{from} to {to} are not the coming days");
    }
    let put = "INSERT INTO audit_record (log, seq, at, actor, action, resource, phase, decision, body, prev_hash, leaf_hash, day)
               VALUES ('l', 0, 0, 'a', 'b', 'c', 'fact', 'allowed', '', '', '', 2)";
    assert_eq!(store.write(move |tx| tx.execute(put, &[])).await, Ok(1));
    for attack in [
        "UPDATE audit_record_day_2 SET actor = 'x'",
        "DELETE FROM audit_record_day_2",
        "TRUNCATE audit_record_day_2",
        "DROP TABLE audit_record_day_2",
        "ALTER TABLE audit_record DETACH PARTITION audit_record_day_2",
        "CREATE TABLE audit_record_day_9 PARTITION OF audit_record FOR VALUES FROM (9) TO (10)",
        "SELECT audit_drop_day('l', 2)",
        "INSERT INTO audit_record_day_2 SELECT * FROM audit_record",
        "DELETE FROM audit_record_undated",
        "CREATE OR REPLACE FUNCTION audit_open_days(BIGINT, BIGINT) RETURNS BIGINT LANGUAGE sql AS 'SELECT 1'",
        "UPDATE audit_day SET date = 0",
        "DELETE FROM audit_prune",
        "DELETE FROM audit_key",
    ] {
        let refused = store.write(move |tx| tx.execute(attack, &[])).await.unwrap_err();
        let why = refused.detail.unwrap_or_default();
        assert!(why.contains("42501"), "{attack}: {why}");
    }
    // The owner is stopped too: the day holds a record that nobody ordered to go.
    let dropped =
        store.administer(|conn| conn.query_one("SELECT audit_drop_day('l', 2)", &[], |row| row.integer(0))).await;
    assert!(dropped.unwrap_err().detail.unwrap_or_default().contains("above the mark"));
    // What a hand has granted is refused at the next start, on a partition too.
    drop(store);
    house.scratch.postgres().run("GRANT DELETE ON agent_os.audit_record_day_2 TO agent_os_server");
    let (url, _) = house.scratch.urls().unwrap();
    assert_eq!(house.open_as(url, None).unwrap_err().code, Code::STORE_ROLE);
    drop(house.open().unwrap());
    house.open_as(url, None).unwrap();
}

#[tokio::test]
async fn a_role_that_can_do_too_much_is_refused() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    drop(house.open().unwrap());
    // The owner, the superuser, and a role that became a member of the owner.
    assert_eq!(house.open_as(admin, None).unwrap_err().code, Code::STORE_ROLE);
    let superuser = house.scratch.postgres().url_as("postgres", "postgres-password");
    assert_eq!(house.open_as(&superuser, None).unwrap_err().code, Code::STORE_ROLE);
    let postgres = house.scratch.postgres();
    postgres.run("GRANT UPDATE ON agent_os.audit_record TO agent_os_server");
    assert_eq!(house.open_as(url, None).unwrap_err().code, Code::STORE_ROLE);
    // The next migration puts the rights in order again.
    drop(house.open().unwrap());
    house.open_as(url, None).unwrap();
}

#[tokio::test]
async fn without_the_admin_role_the_schema_must_be_there() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    let refused = house.open_as(url, None).unwrap_err();
    assert_eq!(refused.code, Code::SCHEMA_OLDER);
    assert!(refused.hint.unwrap().contains("DATABASE_ADMIN_URL"));
    drop(house.open_as(url, Some(admin)).unwrap());
    put(&house.open_as(url, None).unwrap(), "a").await.unwrap();
    house.scratch.postgres().run(
        "DELETE FROM agent_os.schema_migration WHERE number = (SELECT max(number) FROM agent_os.schema_migration)",
    );
    assert_eq!(house.open_as(url, None).unwrap_err().code, Code::SCHEMA_OLDER);
}

/// Whether the server's role may change rows of this table.
const MAY_UPDATE: &str = "SELECT has_table_privilege('agent_os_server', 'agent_os.later', 'UPDATE')::text";

#[tokio::test]
async fn an_older_program_leaves_the_rights_of_a_newer_schema_alone() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    let options = |admin| options_at(house.directory.path(), url, admin).unwrap();
    drop(Store::open_as(options(Some(admin)), crate::future::next_release()).unwrap());
    // As a release would that keeps its rows from the server.
    house.scratch.postgres().run("REVOKE UPDATE ON agent_os.later FROM agent_os_server");
    drop(Store::open(options(Some(admin))).unwrap());
    assert_eq!(house.scratch.postgres().ask(MAY_UPDATE).as_deref(), Some("false"));
    // And its server needs nobody who may migrate.
    put(&Store::open(options(None)).unwrap(), "a").await.unwrap();
    drop(Store::open_as(options(Some(admin)), crate::future::release_after_next()).unwrap());
    assert_eq!(Store::open(options(None)).unwrap_err().code, Code::SCHEMA_NEWER);
}

#[tokio::test]
async fn after_a_way_down_the_servers_role_works_with_what_is_left() {
    let house = house();
    put(&house.open().unwrap(), "kept").await.unwrap();
    let (url, admin) = house.scratch.urls().unwrap();
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
    let database = Some(Database::parse(url, Some(admin)).unwrap());
    let migrator = Migrator::open(house.directory.path(), database, ambient).unwrap();
    assert_eq!(migrator.migrate(Way::Down(1), Backup::Taken).unwrap().to, 1);
    drop(migrator);
    let options = options_at(house.directory.path(), url, None).unwrap();
    let store = Store::open_as(options, &agentos_store::MIGRATIONS[..1]).unwrap();
    put(&store, "after").await.unwrap();
    for sql in [
        "INSERT INTO step (task, key, seq, syscall, status, safety, request_hash, fence, traceparent, started_at)
         VALUES ('t', 'k', 1, 'kv.get', 'started', 'idempotent', 'h', 1, 'p', 0)",
        "INSERT INTO task_event (task, seq, at, kind, data_key, data) VALUES ('t', 1, 0, 'state', 0, 'x')",
        "INSERT INTO audit_record (log, seq, at, actor, action, resource, phase, decision, body, prev_hash, leaf_hash)
         VALUES ('l', 0, 0, 'a', 'b', 'c', 'fact', 'allowed', 'x', 'x', 'x')",
    ] {
        store.write(move |tx| tx.execute(sql, &[])).await.unwrap();
    }
    let changed = store.write(|tx| tx.execute("UPDATE audit_record SET actor = 'nobody'", &[])).await;
    changed.unwrap_err();
}

#[tokio::test]
async fn without_a_backup_nothing_is_migrated_unless_somebody_says_that_there_is_one() {
    let house = house();
    put(&house.open().unwrap(), "kept").await.unwrap();
    // Something that the role of the migration cannot read stops pg_dump.
    house.scratch.postgres().run("CREATE SEQUENCE agent_os.strange");
    let (url, admin) = house.scratch.urls().unwrap();
    let options = options_at(house.directory.path(), url, Some(admin)).unwrap();
    let refused = Store::open_as(options, crate::future::next_release()).unwrap_err();
    assert_eq!(refused.code, Code::BACKUP_FAILED);
    let text = format!("{refused:?}");
    assert!(text.contains("strange") && text.contains("--backup-taken") && !text.contains("-password"), "{text}");
    assert_eq!(std::fs::read_dir(house.directory.path().join("backups")).unwrap().count(), 0);
    let migrator = Migrator::open_as(
        house.directory.path(),
        Some(Database::parse(url, Some(admin)).unwrap()),
        Ambient::fake(1, Timestamp::from_millis(1)).0,
        crate::future::next_release(),
    )
    .unwrap();
    assert_eq!(migrator.schema().unwrap().number, Store::schema_known());
    let done = migrator.migrate(Way::Up, Backup::Taken).unwrap();
    assert_eq!((done.to, done.backup), (crate::future::EXPANDED, None));
}

#[tokio::test]
async fn the_backup_is_made_over_the_same_checked_tls() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    let authority = house.scratch.postgres().authority();
    let admin = format!("{admin}?sslmode=verify-full&sslrootcert={}", authority.display());
    drop(house.open_as(url, Some(&admin)).unwrap());
    let options = options_at(house.directory.path(), url, Some(&admin)).unwrap();
    drop(Store::open_as(options, crate::future::next_release()).unwrap());
    assert_eq!(std::fs::read_dir(house.directory.path().join("backups")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_second_server_on_the_same_database_is_kept_out() {
    let house = house();
    let first = house.open().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (url, admin) = house.scratch.urls().unwrap();
    let refused = open_at(elsewhere.path(), url, Some(admin)).unwrap_err();
    assert_eq!(refused.code, Code::STORE_LOCKED, "{refused:?}");
    drop(first);
    put(&open_at(elsewhere.path(), url, Some(admin)).unwrap(), "a").await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let house = house();
    let store = house.open().unwrap();
    put(&store, "before").await.unwrap();
    count(&store).await.unwrap();
    house.scratch.postgres().disconnect_all();
    // Nobody was at work: nobody notices.
    put(&store, "after").await.unwrap();
    assert_eq!(count(&store).await.unwrap(), Some(2));
    // Nor does a transaction without a statement of its own.
    house.scratch.postgres().disconnect_all();
    store.record_all(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn while_the_database_is_away_writes_are_refused_and_then_go_on() {
    let house = house();
    let store = house.open().unwrap();
    put(&store, "before").await.unwrap();
    house.scratch.postgres().refuse_connections(true);
    house.scratch.postgres().disconnect_all();
    for _ in 0..20 {
        let refused = put(&store, "lost").await.unwrap_err();
        assert_eq!(refused.code, Code::STORE_UNAVAILABLE, "{refused:?}");
        assert!(refused.retry_after.is_some());
        assert_eq!(count(&store).await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    }
    house.scratch.postgres().refuse_connections(false);
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(refused) = put(&store, "after").await {
        assert_eq!(refused.code, Code::STORE_UNAVAILABLE);
        assert!(Instant::now() < end, "the database is back, and the store does not notice");
        tokio::task::yield_now().await;
    }
    while count(&store).await != Ok(Some(2)) {
        assert!(Instant::now() < end, "the readers do not come back");
    }
}

#[tokio::test]
async fn a_connection_that_dies_within_a_batch_refuses_the_whole_batch() {
    let house = house();
    let store = house.open().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let waiting = store.write(move |tx| {
        tx.execute("INSERT INTO installation (name, value) VALUES ('half', 'v')", &[])?;
        // The database goes away between two statements of one operation.
        let _ = held.recv();
        tx.execute("INSERT INTO installation (name, value) VALUES ('other', 'v')", &[])
    });
    let (outcome, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        while house.scratch.postgres().ask(busy).as_deref() != Some("1") {}
        house.scratch.postgres().disconnect_all();
        release.send(()).unwrap();
    });
    assert_eq!(outcome.unwrap_err().code, Code::STORE_UNAVAILABLE);
    assert_eq!(count(&store).await.unwrap(), Some(0));
    put(&store, "after").await.unwrap();
}

/// What a proxy does with the next COMMIT.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    No,
    /// The commit never arrives.
    Before,
    /// The commit is done, and its answer is lost.
    After,
}

/// Passes everything between the store and the database, and cuts one commit in the chosen way.
struct Proxy {
    port: u16,
    cut: Arc<Mutex<Cut>>,
}

impl Proxy {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Cut::No));
        let shared = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)).unwrap());
                let is_cut = Arc::new(AtomicBool::new(false));
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (cut, silent) = (shared.clone(), is_cut.clone());
                std::thread::spawn(move || forward(from, to, &cut, &silent));
                std::thread::spawn(move || answer(server, client, &is_cut));
            }
        });
        Self { port, cut }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &Mutex<Cut>, silent: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let sent = &buffer[..length];
        if sent.windows(6).any(|part| part == b"COMMIT") {
            match std::mem::replace(&mut *cut.lock().unwrap(), Cut::No) {
                Cut::No => {}
                Cut::Before => break,
                Cut::After => silent.store(true, Ordering::SeqCst),
            }
        }
        if to.write_all(sent).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

fn answer(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if silent.load(Ordering::SeqCst) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

#[tokio::test]
async fn a_commit_without_an_answer_is_looked_up() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    let port = house.scratch.postgres().port();
    let proxy = Proxy::start(port);
    let through = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
    let store = house.open_as(&through, Some(admin)).unwrap();
    put(&store, "before").await.unwrap();
    *proxy.cut.lock().unwrap() = Cut::After;
    // It is durable, and the caller learns that it is.
    assert_eq!(put(&store, "answer lost").await, Ok(1));
    *proxy.cut.lock().unwrap() = Cut::Before;
    assert_eq!(put(&store, "never arrived").await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    put(&store, "after").await.unwrap();
    let names = store.read(|conn| conn.query("SELECT name FROM installation ORDER BY name", &[], |row| row.text(0)));
    assert_eq!(names.await.unwrap(), ["after", "answer lost", "before"]);
}

#[tokio::test]
async fn the_way_there_is_encrypted_and_checked() {
    let house = house();
    let (url, admin) = house.scratch.urls().unwrap();
    let authority = house.scratch.postgres().authority();
    let over_tls = |url: &str| format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    let store = house.open_as(&over_tls(url), Some(&over_tls(admin))).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND usename = 'agent_os_server' AND datname = current_database()";
    // The writer, and the ear that hears other nodes.
    assert_eq!(house.scratch.postgres().ask(encrypted).as_deref(), Some("2"));
    put(&store, "a").await.unwrap();
    drop(store);
    // An authority that did not sign it, and a name that is not its own.
    let strange = house.open_as(&format!("{url}?sslmode=require"), None).unwrap_err();
    assert_eq!(strange.code, Code::STORE_UNAVAILABLE, "{strange:?}");
    let other_name = over_tls(url).replace("127.0.0.1", "127.0.0.2");
    let other = house.open_as(&other_name, None).unwrap_err();
    assert_eq!(other.code, Code::STORE_UNAVAILABLE, "{other:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    let house = house();
    let wrong = house.scratch.postgres().url_as("agent_os_server", "hunter2-hunter2");
    let refused = house.open_as(&wrong, None).unwrap_err();
    assert_eq!(refused.code, Code::STORE_UNAVAILABLE);
    assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
}
