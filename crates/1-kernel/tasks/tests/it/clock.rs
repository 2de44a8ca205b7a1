//! The clock of a running server is set by hours: nothing fires twice, nothing storms, nobody waits for hours.

use std::time::Duration;

use agentos_tasks::{ClockStep, NewSchedule, NewTask};
use agentos_types::{
    Timestamp,
    task::{Cadence, ErrorClass, TaskState},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::bench::*;

const HOUR: i64 = 3_600_000_000;
const HOURS: Duration = Duration::from_secs(2 * 3_600);

/// The clock is set, and the loop has seen it.
async fn set(bench: &Bench, by_us: i64) {
    let from = bench.ambient.now();
    bench.clock.set(Timestamp(from.as_micros() + by_us));
    bench.tasks.follow_clock(ClockStep { from, by_us }).await.unwrap();
}

async fn scheduled(bench: &Bench, name: &str, cadence: Cadence) {
    let new = NewSchedule { agent: echo(), name: name.into(), cadence, input: json!({"n": 1}) };
    bench.tasks.create_schedule(&person(), new).await.unwrap();
}

const FIRED: &str = "SELECT count(*) FROM task WHERE schedule IS NOT NULL";

#[tokio::test]
async fn a_step_forward_ends_no_lease_that_is_held_and_a_step_back_lets_none_last_longer() {
    let bench = bench().await;
    for by_us in [2 * HOUR, -2 * HOUR, 5 * HOUR, -9 * HOUR] {
        let held = bench.working().await;
        bench.clock.advance(LEASE / 3);
        set(&bench, by_us).await;
        bench.tasks.sweep().await.unwrap();
        assert_eq!(bench.state(&held.task.id).await, TaskState::Working, "{by_us}");
        assert!(bench.tasks.renew(std::slice::from_ref(&held.lease)).await.unwrap().is_empty(), "{by_us}");
        // Whoever does not renew loses it as late as ever, and no later.
        bench.clock.advance(LEASE);
        bench.tasks.sweep().await.unwrap();
        assert_eq!(bench.state(&held.task.id).await, TaskState::Submitted, "{by_us}");
        bench.tasks.cancel(&person(), &held.task.id).await.unwrap();
    }
    assert_eq!(bench.last("server.clock_step").facts["by_us"], json!(-9 * HOUR));
}

#[tokio::test]
async fn after_a_step_back_what_was_due_is_due_and_a_retry_waits_as_long_as_before() {
    let bench = bench().await;
    let due = bench.submit().await;
    let chosen = bench.ambient.now().after(Duration::from_secs(60));
    let later = NewTask { run_at: Some(chosen), ..NewTask::new(echo(), json!({})) };
    let later = bench.tasks.submit(&person(), later).await.unwrap().task;
    let claimed = bench.claim().await;
    assert_eq!(claimed.task.id, due.id);
    let waiting = bench.tasks.release(&claimed.lease, failure(ErrorClass::RateLimited)).await.unwrap();
    let wait = waiting.run_at.since(bench.ambient.now());
    assert!(wait > Duration::ZERO);
    let also_due = bench.submit().await;
    set(&bench, -2 * HOUR).await;
    assert_eq!(bench.claim().await.task.id, also_due.id, "it was due before the clock was set");
    assert_eq!(bench.tasks.get(&due.id).await.unwrap().run_at, bench.ambient.now().after(wait));
    assert_eq!(bench.tasks.get(&later.id).await.unwrap().run_at, chosen, "an instant of the calendar stays");
}

#[tokio::test]
async fn schedules_neither_storm_nor_fire_twice_nor_fall_silent() {
    let bench = bench().await;
    scheduled(&bench, "interval", Cadence::Interval { every_s: 60 }).await;
    let expression = "*/10 * * * *".to_owned();
    scheduled(&bench, "cron", Cadence::Cron { expression, timezone: "UTC".into() }).await;
    bench.clock.advance(Duration::from_secs(601));
    bench.tasks.fire_due().await.unwrap();
    assert_eq!(bench.count(FIRED).await, 2);
    // Hours of firings were passed over: each schedule makes up for them once.
    set(&bench, 2 * HOUR).await;
    bench.tasks.fire_due().await.unwrap();
    bench.tasks.fire_due().await.unwrap();
    assert_eq!(bench.count(FIRED).await, 4);
    // The interval goes on at once; the times of the calendar have been, and are not fired again.
    set(&bench, -2 * HOUR).await;
    for minute in 1..=20 {
        bench.clock.advance(Duration::from_secs(60));
        bench.tasks.fire_due().await.unwrap();
        assert_eq!(bench.count(FIRED).await, 4 + minute, "one firing a minute");
    }
    bench.clock.advance(HOURS);
    bench.tasks.fire_due().await.unwrap();
    assert_eq!(bench.count(FIRED).await, 26, "both again");
    let twice = "SELECT count(*) FROM (SELECT 1 FROM task WHERE schedule IS NOT NULL
       GROUP BY idem_scope, idem_key HAVING count(*) > 1) AS twice";
    assert_eq!(bench.count(twice).await, 0);
}

/// The loop itself sees a step, by the monotonic clock, before it settles anything by the new time.
#[tokio::test]
async fn the_loop_sees_a_step_before_it_ends_a_lease() {
    let bench = bench().await;
    let held = bench.working().await;
    let shutdown = CancellationToken::new();
    let story = async {
        for by in [2 * HOUR, -3 * HOUR] {
            let steps = bench.actions().iter().filter(|action| *action == "server.clock_step").count();
            bench.clock.set(Timestamp(bench.ambient.now().as_micros() + by));
            let seen = async {
                while bench.actions().iter().filter(|action| *action == "server.clock_step").count() == steps {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the loop did not see the step");
            assert_eq!(bench.state(&held.task.id).await, TaskState::Working);
            assert!(bench.tasks.renew(std::slice::from_ref(&held.lease)).await.unwrap().is_empty());
        }
        shutdown.cancel();
    };
    tokio::join!(bench.tasks.clone().run(shutdown.clone()), story);
    assert_eq!(bench.tasks.get(&held.task.id).await.unwrap().attempt, 1);
}
