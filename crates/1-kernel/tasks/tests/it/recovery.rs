//! The death of the process: everything acknowledged is there afterwards, and nothing is done twice.

use std::time::Duration;

use agentos_base::Ambient;
use agentos_store::Store;
use agentos_tasks::{Ending, StepStart, Tasks};
use agentos_types::{
    Actor, Code,
    notify::Notice,
    task::{ErrorClass, Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

/// As the bench's settings have it.
const ATTEMPTS_MAX: i64 = 3;

/// Drops the handles in the middle of the work and opens the same directory again.
fn restart(bench: Bench, seed: u64) -> Bench {
    let Bench { directory, scratch, store, tasks, ambient, clock, audited } = bench;
    drop((store, tasks, ambient));
    // The clock is shared; the randomness begins elsewhere, as it does in a new process.
    let (fresh, _) = Ambient::fake(seed, START);
    let ambient = Ambient::new(clock.clone(), std::sync::Arc::new(Seeded(fresh)));
    let store = open(directory.path(), &scratch, ambient.clone(), audited.clone());
    let tasks = Tasks::new(store.clone(), ambient.clone(), options("node-a"));
    Bench { directory, scratch, store, tasks, ambient, clock, audited }
}

struct Seeded(Ambient);

impl agentos_base::Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.0.random::<1>()[0]);
    }
}

#[tokio::test]
async fn after_a_crash_the_work_goes_on_at_once_from_the_last_recorded_step() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    bench.begin(&lease, step("done", Safety::Unsafe, "h")).await.unwrap();
    bench.end(&lease, "done", Ok(json!("first"))).await.unwrap();
    bench.begin(&lease, step("open", Safety::Keyed, "h")).await.unwrap();
    let waiting = bench.submit().await;

    let bench = restart(bench, 8);
    let mut notices = bench.store.subscribe();
    // Nobody waits for the lease to run out.
    assert_eq!(bench.tasks.recover().await.unwrap(), 1);
    assert!(drain(&mut notices).contains(&Notice::WorkFor(echo())));
    assert_eq!(bench.tasks.recover().await.unwrap(), 0);
    assert_eq!(bench.state(&waiting.id).await, TaskState::Submitted);
    let late = bench.tasks.finish(&Actor::System, &lease, Ending::Completed(json!("late"))).await;
    assert!(late.is_err(), "the old process cannot come back");

    let next = bench.tasks.claim(&echo(), 5).await.unwrap();
    assert_eq!(next.len(), 2);
    let next = next.into_iter().find(|claimed| claimed.task.id == lease.task).unwrap();
    assert_eq!((next.task.attempt, next.lease.fence), (2, 2), "the crash was an attempt, the fence rose");
    let replayed = bench.begin(&next.lease, step("done", Safety::Unsafe, "h")).await.unwrap();
    assert_eq!(replayed, StepStart::Recorded(json!("first")));
    let again = bench.begin(&next.lease, step("open", Safety::Keyed, "h")).await.unwrap();
    assert!(matches!(again, StepStart::Fresh { seq: 2, .. }));
    assert_eq!(bench.history(&lease.task).await, ["submitted", "working", "submitted", "working"]);
}

#[tokio::test]
async fn a_crash_in_an_unsafe_step_asks_a_person_and_a_cancel_that_was_asked_holds() {
    let bench = bench().await;
    let doubtful = bench.working().await.lease;
    bench.begin(&doubtful, step("pay", Safety::Unsafe, "h")).await.unwrap();
    let canceling = bench.working().await.lease;
    bench.tasks.cancel(&person(), &canceling.task).await.unwrap();
    let bench = restart(bench, 9);
    assert_eq!(bench.tasks.recover().await.unwrap(), 2);
    let parked = bench.tasks.get(&doubtful.task).await.unwrap();
    assert_eq!((parked.state, parked.attempt), (TaskState::InputRequired, 1));
    assert_eq!(bench.state(&canceling.task).await, TaskState::Canceled);
    assert!(bench.tasks.claim(&echo(), 5).await.unwrap().is_empty());
    assert_eq!(bench.last("task.park").facts["recovered"], json!(true));
}

/// Whatever kills the server each time that it is worked on must end somewhere.
#[tokio::test]
async fn a_task_that_takes_the_server_down_ends_as_a_dead_letter() {
    let mut bench = bench().await;
    let id = bench.submit().await.id;
    for attempt in 1..=ATTEMPTS_MAX {
        let claimed = bench.tasks.claim(&echo(), 1).await.unwrap();
        assert_eq!(claimed[0].task.attempt, attempt);
        bench = restart(bench, 20 + attempt.unsigned_abs());
        assert_eq!(bench.tasks.recover().await.unwrap(), 1);
        let task = bench.tasks.get(&id).await.unwrap();
        let failure = task.failure.unwrap();
        assert_eq!((failure.class, failure.code), (ErrorClass::Crash, Some(Code::TASK_CRASHED)));
        let expected = if attempt < ATTEMPTS_MAX { TaskState::Submitted } else { TaskState::Failed };
        assert_eq!((task.state, task.attempt), (expected, attempt));
        // The first crash says little; from the second on there is a pause, in which others come to their end.
        assert!(task.run_at <= bench.ambient.now() || attempt > 1);
        bench.clock.advance(Duration::from_secs(300));
    }
    assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
    assert_eq!(bench.last("task.finish").facts["recovered"], json!(true));
}

#[tokio::test]
async fn an_orderly_stop_costs_no_attempt() {
    let bench = bench().await;
    let plain = bench.working().await.lease;
    let doubtful = bench.working().await.lease;
    bench.begin(&doubtful, step("pay", Safety::Unsafe, "h")).await.unwrap();
    let canceling = bench.working().await.lease;
    bench.tasks.cancel(&person(), &canceling.task).await.unwrap();
    assert_eq!(bench.tasks.hand_back().await.unwrap(), 3);
    let bench = restart(bench, 30);
    assert_eq!(bench.tasks.recover().await.unwrap(), 0);
    for (lease, state) in
        [(&plain, TaskState::Submitted), (&doubtful, TaskState::InputRequired), (&canceling, TaskState::Canceled)]
    {
        let task = bench.tasks.get(&lease.task).await.unwrap();
        assert_eq!((task.state, task.attempt), (state, 0));
    }
    assert_eq!(bench.tasks.claim(&echo(), 5).await.unwrap()[0].task.attempt, 1);
}

#[tokio::test]
async fn only_the_leases_of_this_node_are_given_back() {
    let bench = bench().await;
    let neighbour = Tasks::new(bench.store.clone(), bench.ambient.clone(), options("node-b"));
    let theirs = bench.submit().await;
    neighbour.claim(&echo(), 1).await.unwrap();
    let ours = bench.working().await;
    assert_eq!(bench.tasks.recover().await.unwrap(), 1);
    assert_eq!(bench.state(&theirs.id).await, TaskState::Working);
    assert_eq!(bench.state(&ours.task.id).await, TaskState::Submitted);
}

#[tokio::test]
async fn many_open_tasks_come_back() {
    let bench = bench().await;
    for _ in 0..450 {
        bench.submit().await;
    }
    assert_eq!(bench.tasks.claim(&echo(), 500).await.unwrap().len(), 450);
    let bench = restart(bench, 10);
    assert_eq!(bench.tasks.recover().await.unwrap(), 450);
    assert_eq!(bench.tasks.claim(&echo(), 500).await.unwrap().len(), 450);
}

/// A submission that waits in the queue while every handle goes away is still done, and the close does not hang.
#[tokio::test]
async fn an_abandoned_submission_does_not_keep_the_store_open() {
    let bench = bench().await;
    let directory = bench.directory.path().to_owned();
    {
        let submit = bench.tasks.submit(&Actor::System, agentos_tasks::NewTask::new(echo(), json!(1)));
        tokio::pin!(submit);
        // Enqueued by the first poll, then dropped.
        let _ = futures_util::poll!(&mut submit);
    }
    let Bench { store, tasks, directory: kept, scratch, .. } = bench;
    drop((store, tasks));
    let (ambient, _) = Ambient::fake(11, START);
    let store: Store = open(&directory, &scratch, ambient, Default::default());
    let count = store.read(|conn| conn.query_one("SELECT count(*) FROM task", &[], |row| row.integer(0))).await;
    assert_eq!(count.unwrap(), Some(1));
    drop(kept);
}

/// The monitor's operations hold a handle themselves. When theirs is the last one, it goes away on the writer, which must
/// neither wait for itself nor lose the write.
#[tokio::test]
async fn the_last_handle_may_be_inside_an_operation() {
    let bench = bench().await;
    let id = bench.submit().await.id;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (store, tasks) = (bench.store.clone(), bench.tasks.clone());
    {
        let block = bench.store.write(move |_| held.recv().map_err(agentos_types::Fault::internal));
        let write = store.write(move |tx| tasks.append_event(tx, &id, "notify", &json!(1)).map(drop));
        tokio::pin!(block, write);
        // Both wait in the queue now; nobody waits for their answers.
        let _ = (futures_util::poll!(&mut block), futures_util::poll!(&mut write));
    }
    let Bench { directory, scratch, store: other, tasks, ambient, .. } = bench;
    drop((store, other, tasks));
    release.send(()).unwrap();
    let reopen = async {
        loop {
            let options = agentos_store::StoreOptions {
                directory: directory.path().into(),
                database: database(&scratch),
                queue_max: 8,
                readers: 1,
                sequencer: None,
                ambient: ambient.clone(),
            };
            match Store::open(options) {
                Ok(store) => return store,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let store = tokio::time::timeout(std::time::Duration::from_secs(20), reopen).await.unwrap();
    let kept = "SELECT count(*) FROM task_event WHERE kind = 'notify'";
    let count = store.read(move |conn| conn.query_one(kept, &[], |row| row.integer(0))).await.unwrap();
    assert_eq!(count, Some(1));
}
