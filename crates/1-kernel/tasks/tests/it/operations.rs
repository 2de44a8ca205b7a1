//! Every operation in every state: the whole table, one line an operation.

use agentos_tasks::{Ending, Lease};
use agentos_types::{
    Actor, Code, Result,
    notify::Notice,
    task::{ErrorClass, Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Cancel,
    Retry,
    Redrive,
    Claim,
    Complete,
    FailTransient,
    FailPermanent,
    ReportCanceled,
    Progress,
    Renew,
    BeginStep,
    FinishStep,
    DeadlinePasses,
    LeaseRunsOut,
    ServerRestarts,
}

const FINAL: &str = "AOS-1202";
const LOST: &str = "AOS-1205";
const NOT_WAITING: &str = "AOS-1213";
const SAME: &str = "";

/// In the order of `TaskState::ALL`: the state afterwards, or the code of the refusal; empty = as before.
#[rustfmt::skip]
const TABLE: [(Operation, [&str; 8]); 15] = {
    use Operation::*;
    //                  submitted    working           input-required auth-required  completed    failed       canceled     rejected
    [
        (Cancel,         ["canceled",  SAME,             "canceled",    "canceled",    FINAL,       FINAL,       FINAL,       FINAL]),
        (Retry,          [NOT_WAITING, NOT_WAITING,      "submitted",   "submitted",   NOT_WAITING, NOT_WAITING, NOT_WAITING, NOT_WAITING]),
        (Redrive,        [NOT_WAITING, NOT_WAITING,      NOT_WAITING,   NOT_WAITING,   NOT_WAITING, "submitted", NOT_WAITING, NOT_WAITING]),
        (Claim,          ["working",   SAME,             SAME,          SAME,          SAME,        SAME,        SAME,        SAME]),
        (Complete,       [LOST,        "completed",      LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (FailTransient,  [LOST,        "submitted",      LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (FailPermanent,  [LOST,        "failed",         LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (ReportCanceled, [LOST,        "failed",         LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (Progress,       [LOST,        SAME,             LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (Renew,          [LOST,        SAME,             LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (BeginStep,      [LOST,        SAME,             LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (FinishStep,     [LOST,        SAME,             LOST,          LOST,          LOST,        LOST,        LOST,        LOST]),
        (DeadlinePasses, ["failed",    "failed",         "failed",      "failed",      SAME,        SAME,        SAME,        SAME]),
        (LeaseRunsOut,   [SAME,        "submitted",      SAME,          SAME,          SAME,        SAME,        SAME,        SAME]),
        (ServerRestarts, [SAME,        "submitted",      SAME,          SAME,          SAME,        SAME,        SAME,        SAME]),
    ]
};

/// A task in this state, and the lease that a worker had when it last worked on it.
async fn prepared(state: TaskState) -> (Bench, Lease) {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    bench.begin(&lease, step("open", Safety::Idempotent, "h")).await.unwrap();
    if state != TaskState::Working {
        bench.sql("UPDATE task SET lease_node = NULL, lease_until = NULL WHERE id = $1", lease.task.as_str()).await;
        bench.sql("UPDATE task SET state = $1", state.as_str()).await;
    }
    (bench, lease)
}

async fn perform(bench: &Bench, operation: Operation, lease: &Lease) -> Result<()> {
    let (tasks, id) = (&bench.tasks, &lease.task);
    let finish = |ending| tasks.finish(&Actor::System, lease, ending);
    match operation {
        Operation::Cancel => tasks.cancel(&person(), id).await.map(drop),
        Operation::Retry => tasks.retry(&person(), id).await.map(drop),
        Operation::Redrive => tasks.redrive(&person(), id, None).await.map(drop),
        Operation::Claim => tasks.claim(&echo(), 5).await.map(drop),
        Operation::Complete => finish(Ending::Completed(json!(1))).await.map(drop),
        Operation::FailTransient => finish(Ending::Failed(failure(ErrorClass::Transient))).await.map(drop),
        Operation::FailPermanent => finish(Ending::Failed(failure(ErrorClass::Permanent))).await.map(drop),
        Operation::ReportCanceled => finish(Ending::Canceled).await.map(drop),
        Operation::Progress => tasks.progress(lease, json!(1)).await,
        Operation::Renew => {
            let lost = tasks.renew(std::slice::from_ref(lease)).await?;
            match lost.is_empty() {
                true => Ok(()),
                false => Err(agentos_types::Fault::new(Code::LEASE_LOST, "named as lost")),
            }
        }
        Operation::BeginStep => bench.begin(lease, step("next", Safety::Idempotent, "h")).await.map(drop),
        Operation::FinishStep => bench.end(lease, "open", Ok(json!(1))).await,
        Operation::DeadlinePasses => {
            bench.sql("UPDATE task SET deadline_at = 1 WHERE id = $1", id.as_str()).await;
            tasks.sweep().await.map(drop)
        }
        Operation::LeaseRunsOut => {
            bench.clock.advance(LEASE);
            tasks.sweep().await.map(drop)
        }
        Operation::ServerRestarts => tasks.recover().await.map(drop),
    }
}

#[tokio::test]
async fn every_operation_in_every_state() {
    for (operation, expected) in TABLE {
        for (state, expected) in TaskState::ALL.into_iter().zip(expected) {
            let (bench, lease) = prepared(state).await;
            let before = bench.count("SELECT CAST(sum(event_seq) AS INTEGER) FROM task").await;
            let outcome = perform(&bench, operation, &lease).await;
            let after = bench.state(&lease.task).await;
            match outcome {
                Err(fault) => {
                    assert_eq!(fault.code.to_string(), expected, "{operation:?} in {state}");
                    assert_eq!(after, state);
                    assert_eq!(
                        bench.count("SELECT CAST(sum(event_seq) AS INTEGER) FROM task").await,
                        before,
                        "a refusal wrote"
                    );
                }
                Ok(()) if expected == SAME => assert_eq!(after, state, "{operation:?} in {state}"),
                Ok(()) => assert_eq!(after.as_str(), expected, "{operation:?} in {state}"),
            }
        }
    }
}

#[tokio::test]
async fn operations_on_an_unknown_task_say_so() {
    let bench = bench().await;
    let id = bench.ambient.task_id();
    let tasks = &bench.tasks;
    let outcomes = [
        tasks.cancel(&person(), &id).await.map(drop),
        tasks.retry(&person(), &id).await.map(drop),
        tasks.redrive(&person(), &id, None).await.map(drop),
        tasks.get(&id).await.map(drop),
        tasks.steps(&id).await.map(drop),
        tasks.events(&id, 0, 1).await.map(drop),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().code, Code::TASK_NOT_FOUND);
    }
}

#[tokio::test]
async fn a_working_task_is_asked_once_and_then_ends_as_canceled_however_it_ends() {
    let endings = [
        (Some(Ending::Canceled), TaskState::Canceled),
        (Some(Ending::Failed(failure(ErrorClass::Transient))), TaskState::Canceled),
        (Some(Ending::Failed(failure(ErrorClass::Permanent))), TaskState::Canceled),
        (Some(Ending::Failed(failure(ErrorClass::Crash))), TaskState::Canceled),
        // The work was done: that is the truth, and it is recorded.
        (Some(Ending::Completed(json!("done"))), TaskState::Completed),
        (None, TaskState::Canceled),
    ];
    for (ending, expected) in endings {
        let bench = bench().await;
        let lease = bench.working().await.lease;
        let mut notices = bench.store.subscribe();
        let asked = bench.tasks.cancel(&person(), &lease.task).await.unwrap();
        assert_eq!((asked.state, asked.cancel_asked_at), (TaskState::Working, Some(START)));
        bench.clock.advance(LEASE / 5);
        assert_eq!(bench.tasks.cancel(&person(), &lease.task).await.unwrap(), asked, "asking again changes nothing");
        let told = Notice::CancelAsked { agent: echo(), task: lease.task.clone() };
        assert_eq!(drain(&mut notices).iter().filter(|notice| **notice == told).count(), 1);
        assert!(bench.tasks.renew(std::slice::from_ref(&lease)).await.unwrap().is_empty(), "the grace goes on");
        match ending {
            Some(ending) => drop(bench.tasks.finish(&Actor::System, &lease, ending).await.unwrap()),
            None => {
                bench.clock.advance(LEASE);
                bench.tasks.sweep().await.unwrap();
            }
        }
        assert_eq!(bench.state(&lease.task).await, expected);
        assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
        assert_eq!(bench.actions().iter().filter(|action| *action == "task.cancel").count(), 1);
    }
}

#[tokio::test]
async fn a_step_in_the_middle_of_a_cancel_is_still_recorded_but_none_is_begun() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    bench.begin(&lease, step("a", Safety::Unsafe, "h")).await.unwrap();
    bench.tasks.cancel(&person(), &lease.task).await.unwrap();
    bench.end(&lease, "a", Ok(json!("sent"))).await.unwrap();
    for key in ["a", "b"] {
        let fault = bench.begin(&lease, step(key, Safety::Unsafe, "h")).await.unwrap_err();
        assert_eq!(fault.code, Code::TASK_CANCELED);
    }
    assert_eq!(bench.tasks.steps(&lease.task).await.unwrap()[0].status, "done");
}

/// Whoever waits for a call that lasts hears of it, by a word or by looking.
#[tokio::test]
async fn a_call_that_lasts_is_told_when_its_task_is_no_longer_in_its_hands() {
    for (how, expected) in
        [("cancel", Code::TASK_CANCELED), ("another fence", Code::LEASE_LOST), ("deadline", Code::TASK_DEADLINE)]
    {
        let bench = bench().await;
        let lease = bench.working().await.lease;
        let watching = bench.tasks.taken_away(&lease);
        tokio::pin!(watching);
        assert!(futures_util::poll!(&mut watching).is_pending(), "{how}: nothing has happened");
        match how {
            "cancel" => drop(bench.tasks.cancel(&person(), &lease.task).await.unwrap()),
            "another fence" => drop(bench.sql("UPDATE task SET fence = fence + 1, agent = $1", echo().as_str()).await),
            _ => drop(bench.sql("UPDATE task SET deadline_at = 1, agent = $1", echo().as_str()).await),
        }
        let fault = tokio::time::timeout(std::time::Duration::from_secs(60), watching).await.expect("a word");
        assert_eq!(fault.code, expected, "{how}");
    }
}
