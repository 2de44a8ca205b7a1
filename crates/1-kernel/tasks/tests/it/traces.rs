//! The spans of tasks: from the rows, after the commit, and the same again after a crash.

use agentos_base::trace::{Span, Spans, TraceContext, Tracer};
use agentos_tasks::{Claimed, Ending, NewTask, Tasks};
use agentos_types::{
    Actor, Code, Fault,
    task::{ErrorClass, Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A bench whose spans can be read.
async fn traced() -> (Bench, Spans) {
    let Bench { directory, scratch, store, tasks, ambient, clock, audited } = bench().await;
    drop((store, tasks));
    let (tracer, spans) = Tracer::new(1.0, 1_000);
    let ambient = ambient.with_tracer(tracer);
    let store = open(directory.path(), &scratch, ambient.clone(), audited.clone());
    let tasks = Tasks::new(store.clone(), ambient.clone(), options("node-a"));
    (Bench { directory, scratch, store, tasks, ambient, clock, audited }, spans)
}

async fn claimed(bench: &Bench, traceparent: &str) -> Claimed {
    let new = NewTask { traceparent: Some(traceparent.to_owned()), ..NewTask::new(echo(), json!(1)) };
    bench.tasks.submit(&person(), new).await.unwrap();
    bench.claim().await
}

/// What came since the last look, but for the commits.
fn taken(spans: &mut Spans) -> Vec<Span> {
    std::iter::from_fn(|| spans.queue.try_recv().ok()).filter(|span| span.name != "commit").collect()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_ref()).collect()
}

#[tokio::test]
async fn spans_have_the_ids_and_times_of_the_rows() {
    let (bench, mut spans) = traced().await;
    let Claimed { task, lease } = claimed(&bench, CALLER).await;
    bench.clock.advance(std::time::Duration::from_secs(2));
    bench.begin(&lease, step("a", Safety::Keyed, "h")).await.unwrap();
    bench.clock.advance(std::time::Duration::from_secs(3));
    bench.end(&lease, "a", Ok(json!("payload"))).await.unwrap();
    bench.begin(&lease, step("a", Safety::Keyed, "h")).await.unwrap();
    bench.begin(&lease, step("b", Safety::Keyed, "h")).await.unwrap();
    bench.end(&lease, "b", Err(Fault::new(Code::CONNECT_FAILED, "gone"))).await.unwrap();
    bench.tasks.finish(&person(), &lease, Ending::Completed(json!(1))).await.unwrap();

    let told = taken(&mut spans);
    let expected = [
        "submit_task echo",
        "execute_tool net.fetch",
        "execute_tool net.fetch",
        "execute_tool net.fetch",
        "invoke_agent echo",
    ];
    assert_eq!(names(&told), expected);
    let [submission, done, replay, failed, attempt] = &told[..] else { panic!("{told:?}") };
    let at = |span: &Span| (span.started_at, span.ended_at);
    assert_eq!(submission.context.to_string(), task.traceparent);
    assert_eq!(submission.parent, TraceContext::parse(CALLER));
    assert_eq!((attempt.context.to_string(), attempt.parent), (lease.traceparent.clone(), Some(submission.context)));
    let seconds = |count| START.after(std::time::Duration::from_secs(count));
    assert_eq!((at(done), at(attempt)), ((seconds(2), seconds(5)), (START, seconds(5))));
    let row = bench.tasks.steps(&task.id).await.unwrap().remove(0);
    assert_eq!((done.context.to_string(), done.parent), (row.traceparent, Some(attempt.context)));
    assert_eq!((replay.links[0], replay.parent), (done.context, Some(attempt.context)));
    assert_eq!(failed.error.as_deref(), Some("AOS-1603"));
    assert!(!format!("{told:?}").contains("payload"), "{told:?}");
}

#[tokio::test]
async fn the_next_start_tells_of_the_attempt_that_a_crash_cut_short() {
    let (bench, mut spans) = traced().await;
    let Claimed { task, lease } = claimed(&bench, CALLER).await;
    bench.begin(&lease, step("done", Safety::Keyed, "h")).await.unwrap();
    bench.end(&lease, "done", Ok(json!(1))).await.unwrap();
    bench.begin(&lease, step("open", Safety::Keyed, "h")).await.unwrap();
    let before = taken(&mut spans);
    bench.clock.advance(std::time::Duration::from_secs(9));
    bench.tasks.recover().await.unwrap();
    let after = taken(&mut spans);
    assert_eq!(names(&after), ["execute_tool net.fetch", "execute_tool net.fetch", "invoke_agent echo"]);
    let [open, done, attempt] = &after[..] else { panic!("{after:?}") };
    assert_eq!((attempt.context.to_string(), attempt.started_at), (lease.traceparent.clone(), START));
    assert_eq!(attempt.error.as_deref(), Some("interrupted"));
    assert_eq!(done.context, before[1].context, "the same span again, under the same id");
    assert_eq!((done.error.as_deref(), open.error.as_deref()), (None, Some("interrupted")));
    assert!(open.parent == Some(attempt.context) && done.parent == Some(attempt.context));

    let next = bench.claim().await.lease;
    assert_eq!(next.traceparent[..35], lease.traceparent[..35]);
    bench.tasks.finish(&person(), &next, Ending::Completed(json!(1))).await.unwrap();
    let second = taken(&mut spans).remove(0);
    assert_eq!((second.links.as_slice(), second.parent), (&[attempt.context][..], attempt.parent));
    assert_eq!(bench.state(&task.id).await, TaskState::Completed);
}

#[tokio::test]
async fn other_ends_and_traces_that_nobody_records() {
    let (bench, mut spans) = traced().await;
    let unsampled = claimed(&bench, &CALLER.replace("-01", "-00")).await.lease;
    bench.begin(&unsampled, step("a", Safety::Keyed, "h")).await.unwrap();
    bench.end(&unsampled, "a", Ok(json!(1))).await.unwrap();
    bench.tasks.finish(&person(), &unsampled, Ending::Completed(json!(1))).await.unwrap();
    assert!(spans.queue.try_recv().is_err(), "not even a commit");

    let failing = claimed(&bench, CALLER).await.lease;
    bench.tasks.finish(&person(), &failing, Ending::Failed(failure(ErrorClass::Permanent))).await.unwrap();
    let canceling = claimed(&bench, CALLER).await.lease;
    bench.tasks.cancel(&person(), &canceling.task).await.unwrap();
    bench.tasks.finish(&Actor::System, &canceling, Ending::Canceled).await.unwrap();
    let expiring = claimed(&bench, CALLER).await.lease;
    bench.clock.advance(LEASE * 2);
    let ended = taken(&mut spans);
    let attempts: Vec<&Span> = ended.iter().filter(|span| span.name == "invoke_agent echo").collect();
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|span| span.started_at == START), "a request to cancel is no start: {attempts:?}");
    assert_eq!((attempts[0].error.as_deref(), attempts[1].error.as_deref()), (Some("permanent"), None));
    bench.tasks.sweep().await.unwrap();
    let swept = taken(&mut spans);
    let attempt = swept.iter().find(|span| span.name == "invoke_agent echo").unwrap();
    assert_eq!(attempt.context.to_string(), expiring.traceparent);
    assert_eq!(attempt.error.as_deref(), Some("interrupted"));
    // A write that is refused tells nothing.
    let late = bench.tasks.finish(&person(), &expiring, Ending::Completed(json!(1))).await;
    assert!(late.is_err() && taken(&mut spans).is_empty());
}
