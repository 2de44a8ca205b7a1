//! What time does: deadlines, leases, wake-ups, and the loop that watches for them.

use std::time::Duration;

use agentos_tasks::{NewSchedule, NewTask};
use agentos_types::{
    Code, Timestamp,
    notify::Notice,
    task::{Cadence, ErrorClass, TaskState},
};
use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::bench::*;

const SECOND: Duration = Duration::from_secs(1);

fn after(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_deadline_ends_the_task_in_whatever_state_it_waits() {
    for state in [TaskState::Submitted, TaskState::Working, TaskState::InputRequired, TaskState::AuthRequired] {
        let bench = bench().await;
        let new = NewTask { deadline_at: Some(after(10)), ..NewTask::new(echo(), json!(1)) };
        let id = bench.tasks.submit(&person(), new).await.unwrap().task.id;
        let lease = match state {
            TaskState::Submitted => None,
            _ => Some(bench.claim().await.lease),
        };
        if lease.is_some() && state != TaskState::Working {
            bench.sql("UPDATE task SET state = $1, lease_until = NULL", state.as_str()).await;
        }
        bench.clock.set(after(9));
        assert_eq!(bench.tasks.sweep().await.unwrap(), Some(after(10)), "the sweeper knows when to come back");
        assert_eq!(bench.state(&id).await, state);
        bench.clock.set(after(10));
        let mut notices = bench.store.subscribe();
        assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty(), "too late to begin");
        bench.tasks.sweep().await.unwrap();
        let task = bench.tasks.get(&id).await.unwrap();
        let reason = task.failure.unwrap();
        assert_eq!((task.state, reason.class), (TaskState::Failed, ErrorClass::Deadline));
        assert_eq!(reason.code, Some(Code::TASK_DEADLINE));
        let told = drain(&mut notices).contains(&Notice::CancelAsked { agent: echo(), task: id.clone() });
        assert_eq!(told, state == TaskState::Working);
        if let Some(lease) = lease {
            let late = bench.tasks.progress(&lease, json!(1)).await;
            assert_eq!(late.unwrap_err().code, Code::LEASE_LOST);
            let fence = bench.count("SELECT fence FROM task").await;
            assert_eq!(fence > lease.fence, state == TaskState::Working, "only a held lease is broken");
        }
        assert_eq!(bench.last("task.finish").facts["class"], json!("deadline"));
        assert_eq!(bench.tasks.sweep().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_costs_an_attempt_and_backs_off_from_the_second_on() {
    let bench = bench().await;
    let id = bench.submit().await.id;
    for attempt in 1..=3 {
        bench.claim().await;
        assert_eq!(bench.tasks.sweep().await.unwrap(), Some(bench.ambient.now().after(LEASE)));
        bench.clock.advance(LEASE);
        bench.tasks.sweep().await.unwrap();
        let task = bench.tasks.get(&id).await.unwrap();
        let expected = if attempt < 3 { TaskState::Submitted } else { TaskState::Failed };
        assert_eq!((task.state, task.attempt), (expected, attempt));
        assert!(attempt != 1 || task.run_at == bench.ambient.now(), "the first crash is tried again at once");
        bench.clock.advance(2 * SECOND);
    }
    assert_eq!(bench.last("task.finish").facts["lease_expired"], json!(true));
}

#[tokio::test]
async fn many_expired_leases_and_deadlines_are_settled_in_one_sweep() {
    let bench = bench().await;
    for index in 0..450 {
        let deadline_at = (index % 2 == 0).then(|| after(5));
        let new = NewTask { deadline_at, ..NewTask::new(echo(), json!(index)) };
        bench.tasks.submit(&person(), new).await.unwrap();
    }
    assert_eq!(bench.tasks.claim(&echo(), 500).await.unwrap().len(), 450);
    bench.clock.set(after(60));
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM task WHERE state = 'failed'").await, 225);
    assert_eq!(bench.count("SELECT count(*) FROM task WHERE state = 'submitted'").await, 225);
}

#[tokio::test]
async fn an_agent_is_woken_once_when_its_task_becomes_ready() {
    let bench = bench().await;
    let mut notices = bench.store.subscribe();
    let woken = |notices: &mut broadcast::Receiver<Notice>| {
        drain(notices).into_iter().filter(|notice| *notice == Notice::WorkFor(echo())).count()
    };
    bench.tasks.sweep().await.unwrap();
    for _ in 0..2 {
        let new = NewTask { run_at: Some(after(30)), ..NewTask::new(echo(), json!(1)) };
        bench.tasks.submit(&person(), new).await.unwrap();
    }
    assert_eq!(bench.tasks.sweep().await.unwrap(), Some(after(30)));
    assert_eq!(woken(&mut notices), 0);
    bench.clock.set(after(30));
    assert_eq!(bench.tasks.sweep().await.unwrap(), None);
    assert_eq!(woken(&mut notices), 1);
    bench.tasks.sweep().await.unwrap();
    assert_eq!(woken(&mut notices), 0, "a backlog is not announced again and again");
}

/// Waits for a notice; only a defect lets the time-out pass.
async fn expect(notices: &mut broadcast::Receiver<Notice>, wanted: &Notice) {
    let found = async { while notices.recv().await.unwrap() != *wanted {} };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the notice did not come");
}

#[tokio::test]
async fn the_loop_fires_wakes_and_stops() {
    let bench = bench().await;
    let mut notices = bench.store.subscribe();
    let shutdown = CancellationToken::new();
    let service = bench.tasks.clone().run(shutdown.clone());
    let story = async {
        let new = NewSchedule {
            agent: echo(),
            name: "watch".into(),
            cadence: Cadence::Interval { every_s: 60 },
            input: json!({"watch": 1}),
        };
        let schedule = bench.tasks.create_schedule(&person(), new).await.unwrap();
        // A wall clock that jumps is noticed at the next look, without anybody saying so.
        bench.clock.advance(61 * SECOND);
        expect(&mut notices, &Notice::WorkFor(echo())).await;
        let claimed = bench.claim().await;
        assert_eq!(claimed.task.schedule, Some(schedule.id));
        // A retry in less than a look rings the loop.
        bench.tasks.release(&claimed.lease, failure(ErrorClass::Transient)).await.unwrap();
        bench.clock.advance(2 * SECOND);
        expect(&mut notices, &Notice::WorkFor(echo())).await;
        bench.claim().await;
        bench.clock.advance(LEASE);
        expect(&mut notices, &Notice::TaskEvents(claimed.task.id)).await;
        shutdown.cancel();
    };
    tokio::join!(service, story);
}

/// The tasks of others are theirs to renew, and its own leases last no longer than any other afterwards.
#[tokio::test]
async fn a_server_that_stood_still_keeps_its_own_leases_once() {
    let bench = bench().await;
    let (held, foreign) = (bench.working().await, bench.working().await);
    bench.sql("UPDATE task SET lease_node = 'another' WHERE id = $1", foreign.task.id.as_str()).await;
    bench.clock.advance(LEASE * 3);
    bench.tasks.keep_leases().await.unwrap();
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.state(&held.task.id).await, TaskState::Working);
    assert_eq!(bench.state(&foreign.task.id).await, TaskState::Submitted);
    assert!(bench.tasks.renew(std::slice::from_ref(&held.lease)).await.unwrap().is_empty());
    bench.clock.advance(LEASE);
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.state(&held.task.id).await, TaskState::Submitted);
}
