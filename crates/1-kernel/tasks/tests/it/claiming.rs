//! Leases: one holder at a time, and nothing from anybody else.

use std::{collections::BTreeSet, time::Duration};

use agentos_tasks::{Claimed, Ending, NewTask, StepStart};
use agentos_types::{
    Actor, Code, TaskId,
    task::{ErrorClass, Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

#[tokio::test]
async fn concurrent_claimers_never_get_the_same_task() {
    let bench = bench().await;
    for _ in 0..100 {
        bench.submit().await;
    }
    let claimer = |slots: usize| {
        let bench = &bench;
        async move {
            let mut got = Vec::new();
            loop {
                let claimed = bench.tasks.claim(&echo(), slots).await.unwrap();
                if claimed.is_empty() {
                    return got;
                }
                assert!(claimed.len() <= slots);
                got.extend(claimed.into_iter().map(|claimed| claimed.task.id));
            }
        }
    };
    let (a, b, c, d) = tokio::join!(claimer(1), claimer(3), claimer(7), claimer(2));
    let all: Vec<TaskId> = [a, b, c, d].concat();
    assert_eq!(all.len(), 100);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 100);
}

/// Postgres may run the inner query of a claim once for each task if its planner takes that for cheap, and then finds
/// other tasks each time.
#[tokio::test]
async fn a_claim_takes_no_more_than_it_asks_for_however_it_is_planned() {
    let bench = bench().await;
    bench.submit().await;
    if bench.scratch.urls().is_some() {
        // The planner learns of a table with one row.
        bench.scratch.postgres().run("ANALYZE agent_os.task");
        bench.scratch.postgres().disconnect_all();
    }
    for _ in 0..5 {
        bench.submit().await;
    }
    let mut left: usize = 6;
    while left > 0 {
        let claimed = bench.tasks.claim(&echo(), 1).await.unwrap();
        assert_eq!(claimed.len(), 1, "{left} are left");
        left -= 1;
    }
    assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_claim_takes_what_is_due_for_this_agent_oldest_first() {
    let bench = bench().await;
    bench.deploy("other").await;
    let later = NewTask { run_at: Some(START.after(Duration::from_secs(60))), ..NewTask::new(echo(), json!("later")) };
    let later = bench.tasks.submit(&person(), later).await.unwrap().task;
    bench.tasks.submit(&person(), NewTask::new(agent("other"), json!(1))).await.unwrap();
    let first = bench.submit().await;
    bench.clock.advance(Duration::from_millis(5));
    let second = bench.submit().await;
    assert!(bench.tasks.claim(&echo(), 0).await.unwrap().is_empty());
    let claimed = bench.tasks.claim(&echo(), 10).await.unwrap();
    let ids: Vec<_> = claimed.iter().map(|claimed| claimed.task.id.clone()).collect();
    assert_eq!(ids, [first.id, second.id]);
    for Claimed { task, lease } in claimed {
        assert_eq!((task.state, task.attempt, lease.fence), (TaskState::Working, 1, 1));
        assert_eq!(lease.until, bench.ambient.now().after(LEASE));
    }
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.claim().await.task.id, later.id);
}

#[tokio::test]
async fn a_renewed_lease_outlives_its_first_end_and_a_lost_one_is_named() {
    let bench = bench().await;
    let kept = bench.working().await;
    let lost = bench.working().await;
    for _ in 0..5 {
        bench.clock.advance(LEASE / 2);
        assert!(bench.tasks.renew(std::slice::from_ref(&kept.lease)).await.unwrap().is_empty());
        bench.tasks.sweep().await.unwrap();
    }
    assert_eq!(bench.state(&kept.task.id).await, TaskState::Working);
    assert_eq!(bench.state(&lost.task.id).await, TaskState::Submitted);
    let both = [kept.lease.clone(), lost.lease.clone()];
    assert_eq!(bench.tasks.renew(&both).await.unwrap(), std::slice::from_ref(&lost.task.id));
    // Taken again, the old holder is still refused although the state is working.
    assert_eq!(bench.claim().await.lease.fence, 2);
    assert_eq!(bench.tasks.renew(&both).await.unwrap(), [lost.task.id]);
}

/// Whatever a late worker tries, it is refused and nothing changes.
#[tokio::test]
async fn every_write_of_a_stale_lease_is_refused() {
    let bench = bench().await;
    let stale = bench.working().await.lease;
    assert!(matches!(bench.begin(&stale, step("a", Safety::Idempotent, "h")).await, Ok(StepStart::Fresh { .. })));
    bench.clock.advance(LEASE);
    bench.tasks.sweep().await.unwrap();
    let current = bench.claim().await.lease;
    assert!(current.fence > stale.fence);
    let before = bench.tasks.get(&stale.task).await.unwrap();
    let events = bench.tasks.events(&stale.task, 0, 100).await.unwrap();
    let tasks = &bench.tasks;
    let outcomes = [
        tasks.finish(&Actor::System, &stale, Ending::Completed(json!(1))).await.map(drop),
        tasks.finish(&Actor::System, &stale, Ending::Failed(failure(ErrorClass::Permanent))).await.map(drop),
        tasks.finish(&Actor::System, &stale, Ending::Canceled).await.map(drop),
        tasks.release(&stale, failure(ErrorClass::Crash)).await.map(drop),
        tasks.progress(&stale, json!({"p": 1})).await,
        bench.begin(&stale, step("b", Safety::Idempotent, "h")).await.map(drop),
        bench.begin(&stale, step("a", Safety::Idempotent, "h")).await.map(drop),
        bench.end(&stale, "a", Ok(json!(1))).await,
        {
            let (tasks, stale) = (tasks.clone(), stale.clone());
            bench.store.read(move |conn| tasks.check_lease(conn, &stale)).await
        },
    ];
    for (index, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().code, Code::LEASE_LOST, "write {index}");
    }
    assert_eq!(tasks.renew(std::slice::from_ref(&stale)).await.unwrap(), std::slice::from_ref(&stale.task));
    assert_eq!(tasks.get(&stale.task).await.unwrap(), before);
    assert_eq!(tasks.events(&stale.task, 0, 100).await.unwrap(), events);
    // The present holder is not disturbed.
    tasks.finish(&Actor::System, &current, Ending::Completed(json!(2))).await.unwrap();
    let again = tasks.finish(&Actor::System, &current, Ending::Completed(json!(3))).await;
    assert_eq!(again.unwrap_err().code, Code::LEASE_LOST);
    assert_eq!(tasks.get(&stale.task).await.unwrap().output, Some(json!(2)));
}

#[tokio::test]
async fn the_monitor_learns_why_a_lease_does_not_serve() {
    let bench = bench().await;
    let check = |lease: &agentos_tasks::Lease| {
        let (tasks, lease) = (bench.tasks.clone(), lease.clone());
        let store = bench.store.clone();
        async move { store.read(move |conn| tasks.check_lease(conn, &lease)).await.map_err(|fault| fault.code) }
    };
    let held = bench.working().await.lease;
    assert_eq!(check(&held).await, Ok(()));
    let canceled = bench.working().await.lease;
    bench.tasks.cancel(&person(), &canceled.task).await.unwrap();
    assert_eq!(check(&canceled).await, Err(Code::TASK_CANCELED));
    let new = NewTask { deadline_at: Some(START.after(LEASE / 3)), ..NewTask::new(echo(), json!(1)) };
    bench.tasks.submit(&person(), new).await.unwrap();
    let late = bench.claim().await.lease;
    bench.clock.advance(LEASE / 3);
    assert_eq!(check(&late).await, Err(Code::TASK_DEADLINE));
    assert_eq!(bench.begin(&late, step("a", Safety::Idempotent, "h")).await.unwrap_err().code, Code::TASK_DEADLINE);
    let mut nobody = held;
    nobody.task = bench.ambient.task_id();
    assert_eq!(check(&nobody).await, Err(Code::LEASE_LOST));
}
