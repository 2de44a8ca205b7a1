//! Steps: recorded once, never asked for again, never sent twice unasked.

use agentos_tasks::{Claimed, Ending, StepStart};
use agentos_types::{
    Actor, Code, Fault,
    limits::{STEP_KEY_BYTES_MAX, STEPS_PER_TASK_MAX},
    task::{ErrorClass, Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

const ALL: [Safety; 3] = [Safety::Idempotent, Safety::Keyed, Safety::Unsafe];

/// The attempt ends without a word, and another one takes over.
async fn next_attempt(bench: &Bench) -> Claimed {
    bench.clock.advance(LEASE);
    bench.tasks.sweep().await.unwrap();
    bench.clock.advance(LEASE);
    bench.claim().await
}

fn is_fresh(start: &StepStart) -> bool {
    matches!(start, StepStart::Fresh { .. })
}

#[tokio::test]
async fn a_recorded_step_is_replayed_in_every_later_attempt() {
    for safety in ALL {
        let bench = bench().await;
        let first = bench.working().await.lease;
        let start = bench.begin(&first, step("a", safety, "h")).await.unwrap();
        let StepStart::Fresh { seq, traceparent } = start else { panic!("replayed") };
        assert_eq!(seq, 1);
        assert_eq!(traceparent[..35], first.traceparent[..35]);
        bench.end(&first, "a", Ok(json!({"answer": 42}))).await.unwrap();
        let recorded = StepStart::Recorded(json!({"answer": 42}));
        assert_eq!(bench.begin(&first, step("a", safety, "h")).await.unwrap(), recorded);
        let second = next_attempt(&bench).await.lease;
        assert_eq!(bench.begin(&second, step("a", safety, "h")).await.unwrap(), recorded);
        let steps = bench.tasks.steps(&first.task).await.unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!((steps[0].status.as_str(), steps[0].result.clone()), ("done", Some(json!({"answer": 42}))));
        let events = bench.tasks.events(&first.task, 0, 100).await.unwrap();
        let told: Vec<_> = events.iter().filter(|event| event.kind == "step").map(|event| &event.data).collect();
        assert_eq!(told, [&json!({"key": "a", "syscall": "net.fetch", "status": "done"})]);
    }
}

#[tokio::test]
async fn one_key_for_two_requests_is_a_conflict() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    bench.begin(&lease, step("a", Safety::Idempotent, "h1")).await.unwrap();
    // Two calls at once with one key.
    let twice = bench.begin(&lease, step("a", Safety::Idempotent, "h1")).await;
    assert_eq!(twice.unwrap_err().code, Code::STEP_CONFLICT);
    let other = bench.begin(&lease, step("a", Safety::Idempotent, "h2")).await;
    assert_eq!(other.unwrap_err().code, Code::STEP_CONFLICT);
    bench.end(&lease, "a", Ok(json!(1))).await.unwrap();
    let other = bench.begin(&lease, step("a", Safety::Idempotent, "h2")).await;
    assert_eq!(other.unwrap_err().code, Code::STEP_CONFLICT);
    let mut renamed = step("a", Safety::Idempotent, "h1");
    renamed.syscall = "kv.put";
    assert_eq!(bench.begin(&lease, renamed).await.unwrap_err().code, Code::STEP_CONFLICT);
    // Ending what was not begun, or was ended already.
    for key in ["a", "never"] {
        assert_eq!(bench.end(&lease, key, Ok(json!(2))).await.unwrap_err().code, Code::STEP_CONFLICT);
    }
    assert_eq!(bench.tasks.steps(&lease.task).await.unwrap()[0].result, Some(json!(1)));
}

#[tokio::test]
async fn concurrent_begins_of_one_key_act_once() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    let begin = || bench.begin(&lease, step("a", Safety::Keyed, "h"));
    let (a, b, c) = tokio::join!(begin(), begin(), begin());
    let outcomes = [a, b, c];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|fault| fault.code == Code::STEP_CONFLICT));
}

#[tokio::test]
async fn a_step_that_a_crash_cut_off_is_sent_again_only_if_it_may_be() {
    for safety in [Safety::Idempotent, Safety::Keyed] {
        let bench = bench().await;
        let first = bench.working().await.lease;
        let begun = bench.begin(&first, step("a", safety, "h")).await.unwrap();
        let second = next_attempt(&bench).await.lease;
        let other = bench.begin(&second, step("a", safety, "other")).await;
        assert_eq!(other.unwrap_err().code, Code::STEP_CONFLICT);
        let again = bench.begin(&second, step("a", safety, "h")).await.unwrap();
        let (StepStart::Fresh { seq: one, .. }, StepStart::Fresh { seq: two, .. }) = (begun, again) else { panic!() };
        assert_eq!(one, two, "the step keeps its place");
        assert_eq!(bench.end(&first, "a", Ok(json!("late"))).await.unwrap_err().code, Code::LEASE_LOST);
        bench.end(&second, "a", Ok(json!("mine"))).await.unwrap();
        assert_eq!(bench.tasks.steps(&first.task).await.unwrap()[0].result, Some(json!("mine")));
    }
}

/// Crash, released by the supervisor, a reported failure: none of them sends an unsafe step a second time.
#[tokio::test]
async fn an_unsafe_step_in_doubt_waits_for_a_person() {
    for (how, class) in [("lease", None), ("release", Some(ErrorClass::Crash)), ("finish", Some(ErrorClass::Transient))]
    {
        let bench = bench().await;
        let lease = bench.working().await.lease;
        bench.begin(&lease, step("pay", Safety::Unsafe, "h")).await.unwrap();
        match class {
            None => {
                bench.clock.advance(LEASE);
                bench.tasks.sweep().await.unwrap();
            }
            Some(class) => drop(bench.tasks.release(&lease, failure(class)).await.unwrap()),
        }
        let task = bench.tasks.get(&lease.task).await.unwrap();
        assert_eq!(task.state, TaskState::InputRequired, "{how}");
        let reason = task.failure.unwrap();
        assert_eq!((reason.class, reason.code), (ErrorClass::InDoubt, Some(Code::STEP_IN_DOUBT)));
        assert!(reason.message.contains("'pay'"));
        assert!(bench.tasks.claim(&echo(), 1).await.unwrap().is_empty());
        assert_eq!(bench.last("task.park").task, Some(lease.task.clone()));
        // The person says: send it again.
        bench.tasks.retry(&person(), &lease.task).await.unwrap();
        let next = bench.claim().await.lease;
        assert!(is_fresh(&bench.begin(&next, step("pay", Safety::Unsafe, "h")).await.unwrap()));
        bench.end(&next, "pay", Ok(json!("paid"))).await.unwrap();
        bench.tasks.finish(&Actor::System, &next, Ending::Completed(json!(1))).await.unwrap();
    }
}

#[tokio::test]
async fn even_a_dead_letter_that_comes_back_does_not_repeat_an_unsafe_step() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    bench.begin(&lease, step("pay", Safety::Unsafe, "h")).await.unwrap();
    let task = bench.tasks.release(&lease, failure(ErrorClass::Permanent)).await.unwrap();
    assert_eq!(task.state, TaskState::Failed);
    for input in [None, Some(json!("edited"))] {
        bench.tasks.redrive(&person(), &task.id, input).await.unwrap();
        let next = bench.claim().await.lease;
        for hash in ["h", "other"] {
            let fault = bench.begin(&next, step("pay", Safety::Unsafe, hash)).await.unwrap_err();
            assert_eq!(fault.code, Code::STEP_IN_DOUBT);
        }
        let parked = bench.tasks.release(&next, failure(ErrorClass::InDoubt)).await.unwrap();
        assert_eq!(parked.state, TaskState::InputRequired);
        bench.sql("UPDATE task SET state = 'failed' WHERE id = $1", task.id.as_str()).await;
    }
}

#[tokio::test]
async fn a_failed_step_may_be_sent_again_unless_nobody_knows_whether_it_happened() {
    for (safety, code, again) in [
        (Safety::Idempotent, Code::REMOTE_TIMEOUT, true),
        (Safety::Keyed, Code::REMOTE_STATUS, true),
        (Safety::Unsafe, Code::NAME_UNRESOLVED, true),
        (Safety::Unsafe, Code::ADDRESS_DENIED, true),
        (Safety::Unsafe, Code::REMOTE_TIMEOUT, false),
        (Safety::Unsafe, Code::CONNECT_FAILED, true),
        (Safety::Unsafe, Code::CONNECTION_LOST, false),
        (Safety::Unsafe, Code::INTERNAL, false),
    ] {
        let bench = bench().await;
        let lease = bench.working().await.lease;
        bench.begin(&lease, step("a", safety, "h")).await.unwrap();
        bench.end(&lease, "a", Err(Fault::new(code, "on purpose"))).await.unwrap();
        let status = bench.tasks.steps(&lease.task).await.unwrap()[0].status.clone();
        let second = bench.begin(&lease, step("a", safety, "h2")).await;
        match again {
            true => assert!(status == "failed" && is_fresh(&second.unwrap()), "{safety:?} {code}"),
            false => {
                assert_eq!((status.as_str(), second.unwrap_err().code), ("started", Code::STEP_IN_DOUBT));
                let task = bench.tasks.release(&lease, failure(ErrorClass::Transient)).await.unwrap();
                assert_eq!(task.state, TaskState::InputRequired, "{code}");
            }
        }
        let events = bench.tasks.events(&lease.task, 0, 100).await.unwrap();
        let told = events.iter().find(|event| event.kind == "step").unwrap();
        let shown = if again { "failed" } else { "in-doubt" };
        assert_eq!((&told.data["status"], &told.data["code"]), (&json!(shown), &json!(code)));
    }
}

#[tokio::test]
async fn keys_and_their_number_are_limited() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    for key in [String::new(), "k".repeat(STEP_KEY_BYTES_MAX + 1)] {
        let fault = bench.begin(&lease, step(&key, Safety::Idempotent, "h")).await.unwrap_err();
        assert_eq!(fault.code, Code::SYSCALL_INVALID);
    }
    bench.begin(&lease, step(&"k".repeat(STEP_KEY_BYTES_MAX), Safety::Idempotent, "h")).await.unwrap();
    bench.sql("UPDATE task SET step_seq = 9999 WHERE id = $1", lease.task.as_str()).await;
    assert_eq!(STEPS_PER_TASK_MAX, 10_000);
    bench.begin(&lease, step("last", Safety::Idempotent, "h")).await.unwrap();
    let fault = bench.begin(&lease, step("more", Safety::Idempotent, "h")).await.unwrap_err();
    assert_eq!(fault.code, Code::STEP_LIMIT);
    // What is in the journal already can still be replayed.
    bench.end(&lease, "last", Ok(json!(1))).await.unwrap();
    assert_eq!(
        bench.begin(&lease, step("last", Safety::Idempotent, "h")).await.unwrap(),
        StepStart::Recorded(json!(1))
    );
}

#[tokio::test]
async fn an_edited_input_frees_the_keys_of_another_request_only() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    for (key, hash) in [("same", "h"), ("changed", "h")] {
        bench.begin(&lease, step(key, Safety::Unsafe, hash)).await.unwrap();
        bench.end(&lease, key, Ok(json!("old"))).await.unwrap();
    }
    bench.tasks.release(&lease, failure(ErrorClass::Permanent)).await.unwrap();
    bench.tasks.redrive(&person(), &lease.task, Some(json!({"n": 2}))).await.unwrap();
    let next = bench.claim().await;
    assert_eq!(next.task.input, json!({"n": 2}));
    let old = StepStart::Recorded(json!("old"));
    assert_eq!(bench.begin(&next.lease, step("same", Safety::Unsafe, "h")).await.unwrap(), old);
    assert!(is_fresh(&bench.begin(&next.lease, step("changed", Safety::Unsafe, "other")).await.unwrap()));
    bench.end(&next.lease, "changed", Ok(json!("new"))).await.unwrap();
    let conflict = bench.begin(&next.lease, step("changed", Safety::Unsafe, "h")).await;
    assert_eq!(conflict.unwrap_err().code, Code::STEP_CONFLICT);
}
