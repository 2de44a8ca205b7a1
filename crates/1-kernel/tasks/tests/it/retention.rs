//! What goes when its time is over, and what never goes.

use std::time::Duration;

use agentos_store::Store;
use agentos_tasks::{
    Ending, NewTask,
    retention::{self, Pass, Policy, Pruner, Retention, Status},
};
use agentos_types::{
    Actor, Code, Fault, Result, TaskId, Timestamp,
    audit::{Decision, Phase},
    task::{Cadence, ErrorClass, Safety, TaskState},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::bench::*;

const POLICY: Policy = Policy {
    task_days: 30,
    dead_letter_days: 90,
    event_days: 30,
    idempotency_days: 7,
    credential_days: 0,
    hour_utc: 3,
};

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn retention(bench: &Bench, policy: Policy) -> Retention {
    let mut pruners = retention::pruners(&policy);
    pruners.push(retention::last());
    Retention::new(bench.store.clone(), bench.ambient.clone(), policy, pruners)
}

/// Asks for a run and works it off.
async fn run(retention: &Retention) -> Status {
    retention.ask(&person(), Some("req_1".into())).await.unwrap();
    retention.turn(Timestamp::ZERO, &CancellationToken::new()).await.unwrap();
    let status = retention.status().await.unwrap();
    assert!(!status.is_running(), "{status:?}");
    status
}

fn taken(status: &Status, kind: &str) -> u64 {
    status.counts.iter().find(|count| count.kind == kind).map_or(0, |count| count.rows_last)
}

async fn completed(bench: &Bench, key: Option<&str>) -> TaskId {
    let new = NewTask { idempotency_key: key.map(str::to_owned), ..NewTask::new(echo(), json!({})) };
    bench.tasks.submit(&person(), new).await.unwrap();
    let lease = bench.claim().await.lease;
    bench.begin(&lease, step("a", Safety::Idempotent, "h")).await.unwrap();
    bench.end(&lease, "a", Ok(json!(1))).await.unwrap();
    bench.tasks.finish(&Actor::System, &lease, Ending::Completed(json!("done"))).await.unwrap();
    lease.task
}

async fn failed(bench: &Bench) -> TaskId {
    let lease = bench.working().await.lease;
    bench.tasks.finish(&Actor::System, &lease, Ending::Failed(failure(ErrorClass::Permanent))).await.unwrap();
    assert_eq!(bench.state(&lease.task).await, TaskState::Failed);
    lease.task
}

async fn is_gone(bench: &Bench, id: &TaskId) -> bool {
    match bench.tasks.get(id).await {
        Ok(_) => false,
        Err(fault) => {
            assert_eq!(fault.code, Code::TASK_NOT_FOUND);
            assert_eq!(bench.tasks.steps(id).await.unwrap_err().code, Code::TASK_NOT_FOUND);
            assert_eq!(bench.tasks.events(id, 0, 10).await.unwrap_err().code, Code::TASK_NOT_FOUND);
            true
        }
    }
}

async fn rows(bench: &Bench) -> [i64; 4] {
    [
        bench.count("SELECT count(*) FROM task").await,
        bench.count("SELECT count(*) FROM step").await,
        bench.count("SELECT count(*) FROM task_event").await,
        bench.count("SELECT count(*) FROM task_pruned").await,
    ]
}

#[tokio::test]
async fn finished_tasks_go_with_their_steps_and_events_when_their_time_is_over() {
    let bench = bench().await;
    let retention = retention(&bench, POLICY);
    let old = completed(&bench, None).await;
    let canceled = bench.submit().await.id;
    bench.tasks.cancel(&person(), &canceled).await.unwrap();
    bench.clock.advance(days(29));
    let young = completed(&bench, None).await;
    // One day before, nothing goes; the promise counts from the end of the task.
    let status = run(&retention).await;
    // On Postgres an earlier test may have left partitions without rows.
    assert!(status.counts.iter().all(|count| count.kind == "days"), "nothing is old enough: {status:?}");
    bench.clock.advance(days(1) + Duration::from_secs(1));
    let preview = retention.preview().await.unwrap();
    let status = run(&retention).await;
    for (kind, expected) in [("tasks", 2), ("dead-letters", 0), ("steps", 1), ("events", 6)] {
        assert_eq!((preview[kind], taken(&status, kind)), (expected, expected), "{kind}");
    }
    assert!(is_gone(&bench, &old).await && is_gone(&bench, &canceled).await);
    assert_eq!(bench.history(&young).await, ["submitted", "working", "completed"]);
    assert_eq!(rows(&bench).await, [1, 1, 4, 0], "nothing is left of them");
    let status = run(&retention).await;
    let of = |kind: &str| status.counts.iter().find(|count| count.kind == kind).unwrap().clone();
    assert_eq!((of("tasks").rows_last, of("tasks").rows_total), (0, 2), "counts are of one run, totals of all");
}

#[tokio::test]
async fn an_unfinished_task_stays_whatever_its_age() {
    let bench = bench().await;
    let retention = retention(&bench, Policy { task_days: 1, dead_letter_days: 1, event_days: 1, ..POLICY });
    let waiting = bench.working().await.lease;
    bench.begin(&waiting, step("pay", Safety::Unsafe, "h")).await.unwrap();
    bench.tasks.recover().await.unwrap();
    let working = bench.working().await.lease;
    bench.begin(&working, step("a", Safety::Idempotent, "h")).await.unwrap();
    let submitted = bench.submit().await.id;
    bench.clock.advance(days(3_650));
    let before = rows(&bench).await;
    assert!(retention.preview().await.unwrap().values().all(|rows| *rows == 0));
    run(&retention).await;
    assert_eq!(rows(&bench).await, before);
    for (id, state) in [
        (&waiting.task, TaskState::InputRequired),
        (&working.task, TaskState::Working),
        (&submitted, TaskState::Submitted),
    ] {
        assert_eq!(bench.state(id).await, state);
    }
    bench.tasks.finish(&Actor::System, &working, Ending::Completed(json!(1))).await.unwrap();
}

#[tokio::test]
async fn dead_letters_wait_longer_and_an_open_doubt_holds_them() {
    let bench = bench().await;
    let retention = retention(&bench, POLICY);
    let letter = failed(&bench).await;
    // The deadline ends it while a person has still to find out what became of the step.
    let deadline = Some(bench.ambient.now().after(Duration::from_secs(5)));
    bench.tasks.submit(&person(), NewTask { deadline_at: deadline, ..NewTask::new(echo(), json!({})) }).await.unwrap();
    let doubtful = bench.claim().await.lease;
    bench.begin(&doubtful, step("pay", Safety::Unsafe, "h")).await.unwrap();
    bench.clock.advance(Duration::from_secs(6));
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.state(&doubtful.task).await, TaskState::Failed);
    bench.clock.advance(days(31));
    run(&retention).await;
    // Its events are as old as those of others, and the last one stays with it.
    assert_eq!(bench.state(&letter).await, TaskState::Failed);
    let left = bench.tasks.events(&letter, 0, 10).await.unwrap();
    assert_eq!(left.iter().map(|event| event.seq).collect::<Vec<_>>(), [3]);
    bench.clock.advance(days(60));
    let status = run(&retention).await;
    assert_eq!(taken(&status, "dead-letters"), 1);
    assert!(is_gone(&bench, &letter).await);
    bench.clock.advance(days(3_650));
    run(&retention).await;
    assert_eq!(bench.state(&doubtful.task).await, TaskState::Failed, "somebody has to look at it first");
    assert_eq!(bench.tasks.steps(&doubtful.task).await.unwrap().len(), 1);
    // A redrive is a decision; after it the task goes like any other.
    bench.tasks.redrive(&person(), &doubtful.task, None).await.unwrap();
    bench.tasks.cancel(&person(), &doubtful.task).await.unwrap();
    bench.clock.advance(days(31));
    run(&retention).await;
    assert!(is_gone(&bench, &doubtful.task).await);
}

#[tokio::test]
async fn a_promised_idempotency_key_holds_its_task() {
    let bench = bench().await;
    let policy = Policy { task_days: 1, idempotency_days: 7, ..POLICY };
    let (short, for_ever) = (retention(&bench, policy), retention(&bench, Policy { idempotency_days: 0, ..policy }));
    let (keyed, free) = (completed(&bench, Some("once")).await, completed(&bench, None).await);
    bench.clock.advance(days(6));
    run(&short).await;
    assert!(is_gone(&bench, &free).await);
    let again = NewTask { idempotency_key: Some("once".into()), ..NewTask::new(echo(), json!({})) };
    let answer = bench.tasks.submit(&person(), again.clone()).await.unwrap();
    assert!(answer.replayed && answer.task.id == keyed);
    bench.clock.advance(days(3));
    run(&for_ever).await;
    assert!(!is_gone(&bench, &keyed).await);
    run(&short).await;
    assert!(is_gone(&bench, &keyed).await);
    assert!(!bench.tasks.submit(&person(), again).await.unwrap().replayed, "the key is free again");
}

#[tokio::test]
async fn zero_keeps_for_ever() {
    let bench = bench().await;
    let policy = Policy { task_days: 0, dead_letter_days: 0, event_days: 0, ..POLICY };
    completed(&bench, None).await;
    failed(&bench).await;
    let before = rows(&bench).await;
    bench.clock.advance(days(36_500));
    run(&retention(&bench, policy)).await;
    assert_eq!(rows(&bench).await, before);
}

#[tokio::test]
async fn events_may_go_before_their_task_but_never_the_last_one() {
    let bench = bench().await;
    let retention = retention(&bench, Policy { event_days: 2, ..POLICY });
    let (done, letter) = (completed(&bench, None).await, failed(&bench).await);
    let last = bench.tasks.events(&done, 0, 100).await.unwrap().pop().unwrap();
    bench.clock.advance(days(3));
    let preview = retention.preview().await.unwrap()["events"];
    let status = run(&retention).await;
    assert_eq!((preview, taken(&status, "events")), (5, 5));
    // Whoever resumes from an older event learns how the task ended, and the stream ends with it.
    assert_eq!(bench.tasks.events(&done, 1, 100).await.unwrap(), [last]);
    assert_eq!(bench.tasks.steps(&done).await.unwrap().len(), 1, "the journal stays as long as the task");
    assert_eq!(taken(&run(&retention).await, "events"), 0);
    // A task that comes back to life has events again, which are counted from its next end.
    bench.tasks.redrive(&person(), &letter, None).await.unwrap();
    run(&retention).await;
    let lease = bench.claim().await.lease;
    bench.tasks.finish(&Actor::System, &lease, Ending::Completed(json!(1))).await.unwrap();
    run(&retention).await;
    assert_eq!(bench.tasks.events(&letter, 0, 100).await.unwrap().len(), 4);
    bench.clock.advance(days(3));
    run(&retention).await;
    assert_eq!(bench.tasks.events(&letter, 0, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_one_task_left_goes_in_parts() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    let (tasks, held) = (bench.tasks.clone(), lease.clone());
    let steps = move |tx: &mut agentos_store::Tx<'_>| {
        for number in 0..1_100 {
            let key = format!("k{number}");
            tasks.begin_step(tx, &held, &step(&key, Safety::Idempotent, "h"))?;
            tasks.finish_step(tx, &held, &key, Ok(&json!(1)))?;
        }
        Ok(())
    };
    bench.store.write(steps).await.unwrap();
    bench.tasks.finish(&Actor::System, &lease, Ending::Completed(json!(1))).await.unwrap();
    let trimmed = completed(&bench, None).await;
    bench.clock.advance(days(3));
    let status = run(&retention(&bench, Policy { event_days: 1, ..POLICY })).await;
    assert_eq!(taken(&status, "events"), 1_100 + 2 + 3);
    assert_eq!(bench.tasks.events(&lease.task, 0, 10).await.unwrap().len(), 1);
    bench.clock.advance(days(30));
    let status = run(&retention(&bench, POLICY)).await;
    assert_eq!((taken(&status, "tasks"), taken(&status, "steps"), taken(&status, "events")), (2, 1_101, 2));
    assert!(is_gone(&bench, &lease.task).await && is_gone(&bench, &trimmed).await);
    assert_eq!(rows(&bench).await, [0; 4]);
}

#[tokio::test]
async fn notifications_and_guards_of_firings_go_too() {
    let bench = bench().await;
    let retention = retention(&bench, POLICY);
    bench.submit().await;
    for _ in 0..3 {
        let id = bench.ambient.event_id().to_string();
        bench
            .sql(
                "INSERT INTO notification (id, agent, task, at, kind, data_key, data)
                 SELECT $1, 'echo', 't', 0, 'k', data_key, data FROM task_event LIMIT 1",
                &id,
            )
            .await;
        bench.clock.advance(days(20));
    }
    let cadence = Cadence::Interval { every_s: 3_600 };
    let new = agentos_tasks::NewSchedule { agent: echo(), name: "hourly".into(), cadence, input: json!({}) };
    let schedule = bench.tasks.create_schedule(&person(), new).await.unwrap();
    bench.clock.advance(Duration::from_secs(3_600));
    bench.tasks.fire_due().await.unwrap();
    bench.tasks.pause_schedule(&person(), &schedule.id, true).await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM schedule_fire").await, 1);
    bench.clock.advance(days(2));
    let status = run(&retention).await;
    assert_eq!((taken(&status, "notifications"), taken(&status, "schedule-firings")), (2, 1));
    assert_eq!(bench.count("SELECT count(*) FROM notification").await, 1);
}

/// Stops the run in the middle, as a kill would.
struct Death(CancellationToken);

#[async_trait::async_trait]
impl Pruner for Death {
    async fn count(&self, _: &Store, _: Timestamp) -> Result<Vec<(retention::Kind, u64)>> {
        Ok(Vec::new())
    }
    async fn batch(&self, _: &Pass) -> Result<bool> {
        self.0.cancel();
        Ok(true)
    }
}

#[tokio::test]
async fn a_run_that_died_half_way_goes_on_and_is_recorded_once() {
    let bench = bench().await;
    for _ in 0..3 {
        completed(&bench, None).await;
    }
    bench.clock.advance(days(40));
    // The rows of the tasks are gone, what they left is not: the worst moment to die.
    let mut pruners = retention::pruners(&POLICY);
    let death = CancellationToken::new();
    pruners.insert(4, Box::new(Death(death.clone())));
    let dying = Retention::new(bench.store.clone(), bench.ambient.clone(), POLICY, pruners);
    dying.ask(&person(), Some("req_1".into())).await.unwrap();
    dying.turn(Timestamp::ZERO, &death).await.unwrap();
    assert_eq!(rows(&bench).await, [0, 3, 12, 3]);

    // Another process: nothing but the database is left. Nobody has to ask again, and asking joins the same run.
    let next = retention(&bench, POLICY);
    assert!(next.status().await.unwrap().is_running());
    bench.clock.advance(Duration::from_secs(60));
    next.ask(&Actor::System, None).await.unwrap();
    next.turn(Timestamp::NEVER, &CancellationToken::new()).await.unwrap();
    let status = next.status().await.unwrap();
    assert_eq!((taken(&status, "tasks"), taken(&status, "steps"), taken(&status, "events")), (3, 3, 12));
    assert_eq!(rows(&bench).await, [0; 4]);
    let run = status.last_run.clone().unwrap();
    assert_eq!((run.asked_by, run.failure), (person().label(), None));
    let audited = bench.audited.lock().unwrap().clone();
    let records: Vec<_> = audited.iter().filter(|event| event.action == "retention.run").collect();
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[0].phase, records[0].decision, &records[0].actor),
        (Phase::Intent, Decision::Allowed, &person())
    );
    assert_eq!(records[0].correlation.as_deref(), Some("req_1"));
    assert_eq!((records[1].phase, records[1].decision), (Phase::Outcome, Decision::Succeeded));
    assert_eq!((&records[1].facts["tasks"], &records[1].facts["events"]), (&json!(3), &json!(12)));
}

/// A part that cannot be done, for good or for now.
struct Broken(Code);

#[async_trait::async_trait]
impl Pruner for Broken {
    async fn count(&self, _: &Store, _: Timestamp) -> Result<Vec<(retention::Kind, u64)>> {
        Ok(Vec::new())
    }
    async fn batch(&self, _: &Pass) -> Result<bool> {
        Err(Fault::new(self.0, "on purpose"))
    }
}

#[tokio::test]
async fn a_pruner_that_fails_does_not_stop_the_others() {
    let bench = bench().await;
    completed(&bench, None).await;
    bench.clock.advance(days(40));
    let mut pruners = retention::pruners(&POLICY);
    pruners.insert(0, Box::new(Broken(Code::INTERNAL)));
    let status = run(&Retention::new(bench.store.clone(), bench.ambient.clone(), POLICY, pruners)).await;
    assert_eq!(status.last_run.as_ref().unwrap().failure, Some(Code::INTERNAL));
    assert_eq!(taken(&status, "tasks"), 1);
    assert_eq!(bench.last("retention.run").decision, Decision::Failed);
}

#[tokio::test]
async fn what_may_pass_leaves_the_run_open_and_the_others_at_work() {
    let bench = bench().await;
    completed(&bench, None).await;
    bench.clock.advance(days(40));
    let mut pruners = retention::pruners(&POLICY);
    pruners.insert(0, Box::new(Broken(Code::STORE_UNAVAILABLE)));
    let hindered = Retention::new(bench.store.clone(), bench.ambient.clone(), POLICY, pruners);
    hindered.ask(&person(), None).await.unwrap();
    let stop = CancellationToken::new();
    assert_eq!(hindered.turn(Timestamp::ZERO, &stop).await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    assert_eq!(rows(&bench).await, [0; 4]);
    assert!(hindered.status().await.unwrap().is_running());
    let free = retention(&bench, POLICY);
    free.turn(Timestamp::ZERO, &stop).await.unwrap();
    let status = free.status().await.unwrap();
    assert_eq!((status.is_running(), taken(&status, "tasks")), (false, 1));
}

#[tokio::test]
async fn a_run_is_due_once_a_day_and_at_the_start_when_it_was_missed() {
    let bench = bench().await;
    let (retention, stop) = (retention(&bench, POLICY), CancellationToken::new());
    let planned = retention.turn(Timestamp::ZERO, &stop).await.unwrap();
    assert_eq!(bench.actions().iter().filter(|action| *action == "retention.run").count(), 0);
    bench.clock.set(planned);
    let next = retention.turn(Timestamp::ZERO, &stop).await.unwrap();
    let apart = next.since(planned);
    assert!(apart > days(1) - Duration::from_secs(1_800) && apart < days(1) + Duration::from_secs(1_800), "{apart:?}");
    assert_eq!(retention.turn(Timestamp::ZERO, &stop).await.unwrap(), next, "once is enough");
    assert_eq!(bench.actions().iter().filter(|action| *action == "retention.run").count(), 2);
    // A server that was off for a week begins a little after its start.
    bench.clock.advance(days(7));
    let start = bench.ambient.now().after(Duration::from_secs(30));
    assert_eq!(retention.turn(start, &stop).await.unwrap(), start);
    bench.clock.set(start);
    assert!(retention.turn(start, &stop).await.unwrap() > start);
    assert_eq!(bench.last("retention.run").facts["asked_by"], json!("system"));
}

#[tokio::test]
async fn a_shutdown_leaves_the_run_open() {
    let bench = bench().await;
    completed(&bench, None).await;
    bench.clock.advance(days(40));
    let (first, stop) = (retention(&bench, POLICY), CancellationToken::new());
    stop.cancel();
    first.ask(&person(), None).await.unwrap();
    first.turn(Timestamp::ZERO, &stop).await.unwrap();
    assert!(first.status().await.unwrap().is_running());
    first.turn(Timestamp::ZERO, &CancellationToken::new()).await.unwrap();
    assert!(!first.status().await.unwrap().is_running());
    assert_eq!(rows(&bench).await, [0; 4]);
}

#[tokio::test]
async fn the_loop_does_what_was_asked_and_ends_with_the_server() {
    let bench = bench().await;
    completed(&bench, None).await;
    bench.clock.advance(days(40));
    let (retention, stop) = (retention(&bench, POLICY), CancellationToken::new());
    let running = tokio::spawn(retention.clone().run(stop.clone()));
    retention.ask(&person(), None).await.unwrap();
    while retention.status().await.unwrap().is_running() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!(rows(&bench).await, [0; 4]);
}
