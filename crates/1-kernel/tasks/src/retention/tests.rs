//! When a run is due, and which index answers its look-ups.

use agentos_base::Ambient;
use agentos_store::{Arg, Store, StoreOptions};
use agentos_types::Timestamp;

use super::*;

fn policy(hour_utc: u64) -> Policy {
    Policy { task_days: 30, dead_letter_days: 90, event_days: 30, idempotency_days: 7, credential_days: 365, hour_utc }
}

fn open(directory: &std::path::Path, now: Timestamp) -> (Store, Ambient) {
    let (ambient, _) = Ambient::fake(1, now);
    let options = StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 64,
        readers: 1,
        sequencer: None,
        ambient: ambient.clone(),
    };
    (Store::open(options).unwrap(), ambient)
}

#[tokio::test]
async fn the_first_run_is_planned_for_the_next_quiet_hour() {
    const HOUR_US: i64 = 3_600_000_000;
    // 2026-11-23T00:00:00Z.
    const MIDNIGHT: i64 = 1_795_392_000_000_000;
    for (hour, now, expected) in [(3, 0, 3), (3, 2, 3), (3, 3, 27), (3, 4, 27), (0, 0, 24), (23, 5, 23)] {
        let directory = tempfile::tempdir().unwrap();
        let (store, ambient) = open(directory.path(), Timestamp(MIDNIGHT + now * HOUR_US));
        let retention = Retention::new(store, ambient, policy(hour), Vec::new());
        let next = retention.turn(Timestamp::ZERO, &tokio_util::sync::CancellationToken::new()).await.unwrap();
        let late = next.as_micros() - (MIDNIGHT + expected * HOUR_US);
        assert!((0..=HOUR_US / 2).contains(&late), "{hour} {now}: {next}");
        assert_eq!(retention.status().await.unwrap().next_at, Some(next));
    }
}

#[tokio::test]
async fn the_search_for_old_tasks_walks_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path(), Timestamp::ZERO);
    for sql in [finished::DUE, events::DUE] {
        let explain: &'static str = Box::leak(format!("EXPLAIN QUERY PLAN {sql}").into_boxed_str());
        let numbers = (1..=9).filter(|number| sql.contains(&format!("${number}"))).count();
        let args = vec![Arg::Integer(1); numbers];
        let plan = store.read(move |conn| conn.query(explain, &args, |row| row.text(3))).await.unwrap().join("\n");
        assert!(plan.contains("task_by_state (state=? AND id>? AND id<?)"), "{sql}\nis answered by\n{plan}");
        assert!(!plan.contains("FOR ORDER BY"), "{sql}\nis answered by\n{plan}");
    }
}
