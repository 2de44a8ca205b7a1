//! The days of Postgres: which rows lie where, what holds a day, and what the server's role can make of the functions that
//! open and drop them.

use std::time::Duration;

use agentos_base::Ambient;
use agentos_scratch::{Backend, Scratch};
use agentos_store::{Arg, Database, Store, StoreOptions};
use agentos_tasks::retention::{self, Policy, Retention};
use agentos_types::{TaskId, Timestamp};
use tokio_util::sync::CancellationToken;

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp(1_795_435_200_000_000);
const DAY: Duration = Duration::from_secs(86_400);
/// Number of that day.
const TODAY: i64 = 20_780;
const POLICY: Policy =
    Policy { task_days: 2, dead_letter_days: 2, event_days: 2, idempotency_days: 1, credential_days: 0, hour_utc: 3 };

struct House {
    _directory: tempfile::TempDir,
    scratch: Scratch,
    store: Store,
    ambient: Ambient,
    clock: std::sync::Arc<agentos_base::ambient::FakeClock>,
}

struct Sealing;

impl agentos_store::Sequencer for Sealing {
    fn load(&mut self, _: &agentos_store::Conn<'_>) -> agentos_types::Result<()> {
        Ok(())
    }
    fn seal(
        &mut self,
        _: &agentos_store::Conn<'_>,
        _: &[agentos_types::audit::AuditEvent],
    ) -> agentos_types::Result<()> {
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

fn house() -> House {
    let (directory, scratch) = (tempfile::tempdir().unwrap(), Backend::Postgres.blank());
    let (ambient, clock) = Ambient::fake(3, NOON);
    let (url, admin) = scratch.urls().unwrap();
    let store = Store::open(StoreOptions {
        directory: directory.path().into(),
        database: Some(Database::parse(url, Some(admin)).unwrap()),
        queue_max: 64,
        readers: 2,
        sequencer: Some(Box::new(Sealing)),
        ambient: ambient.clone(),
    });
    House { _directory: directory, scratch, store: store.unwrap(), ambient, clock }
}

impl House {
    fn retention(&self) -> Retention {
        Retention::new(self.store.clone(), self.ambient.clone(), POLICY, retention::pruners(&POLICY))
    }

    async fn run(&self) -> std::collections::BTreeMap<String, u64> {
        let retention = self.retention();
        retention.ask(&agentos_types::Actor::System, None).await.unwrap();
        retention.turn(Timestamp::ZERO, &CancellationToken::new()).await.unwrap();
        let status = retention.status().await.unwrap();
        assert_eq!(status.last_run.unwrap().failure, None);
        status.counts.into_iter().map(|count| (count.kind, count.rows_last)).collect()
    }

    /// A task with one step and two events.
    async fn task(&self, state: &'static str) -> TaskId {
        let (id, now) = (self.ambient.task_id(), self.ambient.now());
        let task = id.clone();
        self.store
            .write(move |tx| {
                let payload = b"1".as_slice();
                tx.execute(
                    "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at,
                       updated_at, run_at, traceparent, step_seq, event_seq)
                     VALUES ($1, 'a', $2, 0, $3, 1, 'x', $4, $4, $4, 't', 1, 2)",
                    &[(&task).into(), state.into(), payload.into(), now.into()],
                )?;
                tx.execute(
                    "INSERT INTO step (task, key, seq, syscall, status, safety, request_hash, fence, traceparent, started_at)
                     VALUES ($1, 'k', 1, 's', 'done', 'idempotent', 'h', 1, 't', 0)",
                    &[(&task).into()],
                )?;
                for seq in 1..=2_i64 {
                    tx.execute(
                        "INSERT INTO task_event (task, seq, at, kind, data_key, data) VALUES ($1, $2, 0, 'k', 0, $3)",
                        &[(&task).into(), seq.into(), payload.into()],
                    )?;
                }
                Ok(())
            })
            .await
            .unwrap();
        id
    }

    fn ask(&self, sql: &str) -> String {
        self.scratch.postgres().ask(sql).unwrap_or_default()
    }

    fn parts(&self, table: &str) -> Vec<String> {
        let list = self.ask(&format!(
            "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_inherits
             JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'agent_os.{table}'::regclass"
        ));
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// Where the rows of a task lie.
    fn place(&self, table: &str, id: &TaskId) -> String {
        self.ask(&format!("SELECT DISTINCT tableoid::regclass FROM agent_os.{table} WHERE task = '{id}'"))
    }

    async fn drop_day(&self, day: i64) -> i64 {
        let drop = move |tx: &mut agentos_store::Tx<'_>| {
            tx.query_one("SELECT history_drop_day($1)", &[Arg::Integer(day)], |row| row.integer(0))
        };
        self.store.write(drop).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_day_without_a_living_task_is_dropped_and_one_with_is_kept() {
    let house = house();
    house.retention().prepare().await.unwrap();
    assert_eq!(house.parts("step").len(), 9, "today, a week, and the net");
    let first = [house.task("completed").await, house.task("failed").await];
    assert_eq!(house.place("step", &first[0]), "agent_os.step_20261123");
    assert_eq!(house.place("task_event", &first[1]), "agent_os.task_event_20261123");
    house.clock.advance(DAY);
    let (open, done) = (house.task("input-required").await, house.task("completed").await);
    house.clock.advance(DAY * 3);
    let counts = house.run().await;
    assert_eq!(
        (counts["tasks"], counts["dead-letters"], counts["steps"], counts["events"], counts["days"]),
        (2, 1, 3, 6, 3)
    );
    let parts = house.parts("step");
    assert!(!parts.contains(&"step_20261123".to_owned()), "{parts:?}");
    assert!(!house.parts("task_event").contains(&"task_event_20261123".to_owned()));
    assert!(parts.contains(&"step_20261124".to_owned()), "a living task holds its day");
    assert!(parts.contains(&"step_20261204".to_owned()), "the coming week is open");
    assert_eq!(house.ask("SELECT count(*) FROM agent_os.step"), "1");
    assert_eq!(house.place("step", &open), "agent_os.step_20261124");
    assert_eq!(house.place("step", &done), "");
    assert_eq!(house.ask("SELECT count(*) FROM agent_os.task_pruned"), "0");
    // Days without any task go as well; their partitions would else become more each day.
    for gone in ["step_20261125", "step_20261126"] {
        assert!(!parts.contains(&gone.to_owned()), "{parts:?}");
    }
    // However old: it is not finished.
    house.clock.advance(DAY * 1_000);
    house.run().await;
    assert_eq!(house.place("step", &open), "agent_os.step_20261124");
}

#[tokio::test]
async fn rows_of_a_day_that_nobody_opened_lie_in_the_net_and_move() {
    let house = house();
    let early = house.task("completed").await;
    assert_eq!(house.place("step", &early), "agent_os.step_default");
    house.retention().prepare().await.unwrap();
    assert_eq!(house.place("step", &early), "agent_os.step_20261123");
    assert_eq!(house.place("task_event", &early), "agent_os.task_event_20261123");
    house.retention().prepare().await.unwrap();
    assert_eq!(house.parts("step").len(), 9, "opening twice opens once");
    // From the net as well as from a day, rows go by their task's rules.
    house.clock.advance(DAY * 100);
    let late = house.task("completed").await;
    assert_eq!(house.place("step", &late), "agent_os.step_default");
    house.clock.advance(DAY * 10);
    house.run().await;
    assert_eq!(house.ask("SELECT count(*) FROM agent_os.step"), "0");
    assert_eq!(house.ask("SELECT count(*) FROM agent_os.task_event"), "0");
}

#[tokio::test]
async fn the_servers_role_gets_no_power_to_drop() {
    let house = house();
    house.retention().prepare().await.unwrap();
    let id = house.task("completed").await;
    // The rule is checked in the database: also a finished task holds its day against whoever calls.
    assert_eq!(house.drop_day(TODAY).await, 0);
    assert_eq!(house.place("step", &id), "agent_os.step_20261123");
    assert_eq!(house.drop_day(TODAY + 1_000).await, 0, "there is no such day");
    for (attack, code) in [
        ("DROP TABLE step_20261123", "42501"),
        ("DROP TABLE step", "42501"),
        ("ALTER TABLE step DETACH PARTITION step_20261123", "42501"),
        ("TRUNCATE step", "42501"),
        ("CREATE OR REPLACE FUNCTION history_drop_day(day BIGINT) RETURNS BIGINT LANGUAGE sql AS 'SELECT 1'", "42501"),
        ("ALTER FUNCTION history_drop_day(BIGINT) SECURITY INVOKER", "42501"),
        ("CREATE TABLE step_20300101 PARTITION OF step FOR VALUES FROM ('a') TO ('b')", "42501"),
        ("SELECT history_open_day(-1)", "P0001"),
        ("SELECT history_open_day(100001)", "P0001"),
    ] {
        let refused = house.store.write(move |tx| tx.query(attack, &[], |_| Ok(()))).await.unwrap_err();
        let why = refused.detail.unwrap_or_default();
        assert!(why.contains(code), "{attack}: {why}");
    }
    // A table of its own in the way of the functions' names does not mislead them.
    let misled = house
        .store
        .write(|tx| {
            tx.execute("CREATE TEMPORARY TABLE task (id TEXT)", &[])?;
            tx.query_one("SELECT history_drop_day($1)", &[Arg::Integer(TODAY)], |row| row.integer(0))
        })
        .await;
    assert!(matches!(misled, Ok(Some(0)) | Err(_)), "{misled:?}");
    assert_eq!(house.place("step", &id), "agent_os.step_20261123");
    // Nobody else may call them at all.
    let grants = house.ask(
        "SELECT count(*) FROM pg_proc, aclexplode(proacl) WHERE proname IN ('history_open_day', 'history_drop_day')
         AND grantee = 0",
    );
    assert_eq!(grants, "0");
}

#[tokio::test]
async fn a_reader_in_the_way_delays_the_drop_and_no_more() {
    let house = house();
    house.retention().prepare().await.unwrap();
    house.task("completed").await;
    house.clock.advance(DAY * 4);
    let (reads, reading) = std::sync::mpsc::channel::<()>();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let reader = tokio::spawn({
        let store = house.store.clone();
        async move {
            let look = move |conn: &agentos_store::Conn<'_>| {
                conn.query("SELECT count(*) FROM step", &[], |_| Ok(()))?;
                reads.send(()).map_err(agentos_types::Fault::internal)?;
                let _ = held.recv();
                Ok(())
            };
            store.read(look).await
        }
    });
    while reading.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    let (retention, stop) = (house.retention(), CancellationToken::new());
    retention.ask(&agentos_types::Actor::System, None).await.unwrap();
    let delayed = retention.turn(Timestamp::ZERO, &stop).await.unwrap_err();
    assert_eq!(delayed.code, agentos_types::Code::STORE_UNAVAILABLE, "{delayed:?}");
    assert_eq!(house.ask("SELECT count(*) FROM agent_os.step"), "0", "single rows go without it");
    release.send(()).unwrap();
    reader.await.unwrap().unwrap();
    retention.turn(Timestamp::ZERO, &stop).await.unwrap();
    assert!(!house.parts("step").contains(&"step_20261123".to_owned()));
    assert!(!retention.status().await.unwrap().is_running());
}

#[tokio::test]
async fn the_days_of_the_database_are_the_days_of_the_ids() {
    let house = house();
    for day in [0, 1, TODAY, TODAY + 10_000, 99_999] {
        let instant = Timestamp(day * 86_400_000_000);
        let first = house.ask(&format!("SELECT agent_os.history_day_begins({day})"));
        let (least, most) = (TaskId::generate(instant, 0), TaskId::generate(Timestamp(instant.0 - 1), u128::MAX));
        assert!(least.as_str().starts_with(&first), "{least} {first}");
        assert!(most.as_str() < first.as_str() || day == 0, "{most} {first}");
    }
}
