//! How attempts end, class by class, and what is kept of it.

use std::time::Duration;

use agentos_tasks::{Ending, NewTask};
use agentos_types::{
    Actor, Code,
    audit::Decision,
    limits::PAYLOAD_BYTES_MAX,
    notify::Notice,
    task::{ErrorClass, Failure, TaskState},
};
use serde_json::json;

use super::bench::*;

#[tokio::test]
async fn a_completed_task_has_its_output_event_and_audit_fact() {
    let bench = bench().await;
    let claimed = bench.working().await;
    let actor =
        Actor::Agent { agent: echo(), instance: bench.ambient.instance_id(), task: Some(claimed.task.id.clone()) };
    bench.tasks.progress(&claimed.lease, json!({"percent": 50})).await.unwrap();
    let task = bench.tasks.finish(&actor, &claimed.lease, Ending::Completed(json!({"sum": 3}))).await.unwrap();
    assert_eq!((task.state, task.output.clone()), (TaskState::Completed, Some(json!({"sum": 3}))));
    assert_eq!(bench.tasks.get(&task.id).await.unwrap(), task);
    let events = bench.tasks.events(&task.id, 0, 10).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| (event.seq, event.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "state"), (2, "state"), (3, "progress"), (4, "state")]);
    assert_eq!(events[3].data, json!({"state": "completed", "attempt": 1, "output": {"sum": 3}}));
    let fact = bench.last("task.finish");
    assert_eq!((fact.actor, fact.decision), (actor, Decision::Succeeded));
    assert_eq!((&fact.facts["state"], &fact.facts["attempt"]), (&json!("completed"), &json!(1)));
}

#[tokio::test]
async fn a_large_output_stays_out_of_the_event_and_a_too_large_one_fails_the_task() {
    let bench = bench().await;
    let finish = |size: usize| {
        let bench = &bench;
        async move {
            let lease = bench.working().await.lease;
            let output = json!("x".repeat(size));
            let task = bench.tasks.finish(&Actor::System, &lease, Ending::Completed(output)).await.unwrap();
            let event = bench.tasks.events(&task.id, 2, 10).await.unwrap().pop().unwrap();
            (task, event.data)
        }
    };
    let (task, event) = finish(100_000).await;
    assert_eq!((task.state, &event["output_bytes"]), (TaskState::Completed, &json!(100_002)));
    assert!(event.get("output").is_none());
    let (task, _) = finish(PAYLOAD_BYTES_MAX).await;
    let reason = task.failure.unwrap();
    assert_eq!((task.state, reason.code), (TaskState::Failed, Some(Code::PAYLOAD_TOO_LARGE)));
}

#[tokio::test]
async fn each_class_of_failure_leads_where_the_policy_says() {
    for class in ErrorClass::ALL {
        let bench = bench().await;
        let mut notices = bench.store.subscribe();
        let lease = bench.working().await.lease;
        drain(&mut notices);
        let ending = Ending::Failed(failure(class));
        let task = bench.tasks.finish(&Actor::System, &lease, ending).await.unwrap();
        let (state, action) = match class {
            ErrorClass::Transient | ErrorClass::RateLimited | ErrorClass::Crash => {
                (TaskState::Submitted, "task.requeue")
            }
            ErrorClass::InDoubt => (TaskState::InputRequired, "task.park"),
            _ => (TaskState::Failed, "task.finish"),
        };
        assert_eq!(task.state, state, "{class:?}");
        assert_eq!(task.failure.as_ref().map(|failure| failure.class), Some(class));
        let fact = bench.last(action);
        assert_eq!((fact.decision, &fact.facts["class"]), (Decision::Failed, &json!(class)));
        let told = bench.tasks.events(&task.id, 2, 10).await.unwrap().pop().unwrap().data;
        assert_eq!((&told["state"], &told["failure"]["class"]), (&json!(state), &json!(class)));
        let at_once = drain(&mut notices).contains(&Notice::WorkFor(echo()));
        assert_eq!(at_once, class == ErrorClass::Crash, "{class:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_waits_as_long_as_it_was_told() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    let limited = Failure { retry_after_s: Some(120), ..failure(ErrorClass::RateLimited) };
    let task = bench.tasks.finish(&Actor::System, &lease, Ending::Failed(limited)).await.unwrap();
    assert!(task.run_at >= START.after(Duration::from_secs(120)));
    assert_eq!(bench.tasks.get(&task.id).await.unwrap().failure.unwrap().retry_after_s, Some(120));
    bench.clock.advance(Duration::from_secs(119));
    assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.claim().await.task.attempt, 2);
}

#[tokio::test]
async fn exhausted_attempts_make_a_dead_letter_that_can_be_redriven_with_its_history() {
    let bench = bench().await;
    let id = bench.submit().await.id;
    for attempt in 1..=3 {
        bench.clock.advance(Duration::from_secs(600));
        let claimed = bench.claim().await;
        assert_eq!((claimed.task.attempt, claimed.lease.fence), (attempt, attempt));
        bench.tasks.release(&claimed.lease, failure(ErrorClass::Crash)).await.unwrap();
    }
    let dead = bench.tasks.get(&id).await.unwrap();
    assert_eq!((dead.state, dead.failure.unwrap().code), (TaskState::Failed, Some(Code::TASK_CRASHED)));
    bench.clock.advance(Duration::from_secs(600));
    assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
    let back = bench.tasks.redrive(&person(), &id, None).await.unwrap();
    assert_eq!((back.state, back.attempt, back.redrives), (TaskState::Submitted, 0, 1));
    assert_eq!(bench.last("task.redrive").actor, person());
    let claimed = bench.claim().await;
    assert_eq!((claimed.task.attempt, claimed.lease.fence), (1, 4), "the fence never goes back");
    bench.tasks.finish(&Actor::System, &claimed.lease, Ending::Completed(json!(1))).await.unwrap();
    let round = ["submitted", "working"];
    let expected = [round.repeat(3), vec!["failed", "submitted", "working", "completed"]].concat();
    assert_eq!(bench.history(&id).await, expected);
    let events = bench.tasks.events(&id, 0, 100).await.unwrap();
    let reasons = events.iter().filter(|event| event.data.get("failure").is_some()).count();
    assert_eq!(reasons, 3, "every failed attempt is still told");
}

#[tokio::test]
async fn a_redrive_drops_a_passed_deadline_and_refuses_a_terminated_agent() {
    let bench = bench().await;
    let new = NewTask { deadline_at: Some(START.after(LEASE)), ..NewTask::new(echo(), json!(1)) };
    let id = bench.tasks.submit(&person(), new).await.unwrap().task.id;
    bench.clock.advance(LEASE);
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.state(&id).await, TaskState::Failed);
    bench.sql("UPDATE agent SET state = 'terminated' WHERE name = $1", "echo").await;
    assert_eq!(bench.tasks.redrive(&person(), &id, None).await.unwrap_err().code, Code::AGENT_STATE);
    bench.sql("UPDATE agent SET state = 'ready' WHERE name = $1", "echo").await;
    let too_large = Some(json!("x".repeat(PAYLOAD_BYTES_MAX)));
    assert_eq!(bench.tasks.redrive(&person(), &id, too_large).await.unwrap_err().code, Code::PAYLOAD_TOO_LARGE);
    assert_eq!(bench.tasks.redrive(&person(), &id, None).await.unwrap().deadline_at, None);
    bench.tasks.sweep().await.unwrap();
    assert_eq!(bench.state(&id).await, TaskState::Submitted);
}

#[tokio::test]
async fn a_persons_retry_is_worth_one_more_attempt() {
    let bench = bench().await;
    let new = NewTask { attempts_max: Some(1), ..NewTask::new(echo(), json!(1)) };
    bench.tasks.submit(&person(), new).await.unwrap();
    let lease = bench.claim().await.lease;
    bench.tasks.release(&lease, failure(ErrorClass::InDoubt)).await.unwrap();
    let task = bench.tasks.retry(&person(), &lease.task).await.unwrap();
    assert_eq!((task.state, task.attempt, task.attempts_max), (TaskState::Submitted, 1, 2));
    let lease = bench.claim().await.lease;
    let task = bench.tasks.release(&lease, failure(ErrorClass::Transient)).await.unwrap();
    assert_eq!(task.state, TaskState::Failed);
}

#[tokio::test]
async fn a_long_failure_text_is_cut_and_progress_has_limits() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    let huge = bench.tasks.progress(&lease, json!("x".repeat(PAYLOAD_BYTES_MAX))).await;
    assert_eq!(huge.unwrap_err().code, Code::PAYLOAD_TOO_LARGE);
    bench.sql("UPDATE task SET event_seq = 100000 WHERE id = $1", lease.task.as_str()).await;
    let flood = bench.tasks.progress(&lease, json!(1)).await;
    assert_eq!(flood.unwrap_err().code, Code::STEP_LIMIT);
    let wordy = Failure { message: "é".repeat(10_000), ..failure(ErrorClass::Permanent) };
    let task = bench.tasks.finish(&Actor::System, &lease, Ending::Failed(wordy)).await.unwrap();
    assert!(task.failure.unwrap().message.len() < 5_000);
}
