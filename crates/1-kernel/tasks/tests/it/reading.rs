//! Listings and streams: stable pages, no gaps.

use std::time::Duration;

use agentos_tasks::{Ending, NewTask, STEP_RESULT_LISTED_BYTES_MAX, TaskFilter};
use agentos_types::{
    Actor, Code,
    limits::PAGE_MAX,
    task::{Safety, TaskState},
};
use serde_json::json;

use super::bench::*;

#[tokio::test]
async fn pages_are_stable_while_tasks_come_in() {
    let bench = bench().await;
    let mut expected = Vec::new();
    for _ in 0..25 {
        bench.clock.advance(Duration::from_millis(1));
        expected.insert(0, bench.submit().await.id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = bench.tasks.list(TaskFilter { after, limit: 4, ..TaskFilter::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page.into_iter().map(|task| task.id));
        // Someone submits between two pages.
        bench.clock.advance(Duration::from_millis(1));
        bench.submit().await;
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn filters_combine_and_the_page_is_bounded() {
    let bench = bench().await;
    bench.deploy("other").await;
    for index in 0..6 {
        bench.clock.advance(Duration::from_millis(1));
        let name = if index % 2 == 0 { "echo" } else { "other" };
        bench.tasks.submit(&person(), NewTask::new(agent(name), json!(index))).await.unwrap();
    }
    bench.claim().await;
    let count = |agent, state, limit| {
        let filter = TaskFilter { agent, state, limit, ..TaskFilter::default() };
        let tasks = bench.tasks.clone();
        async move { tasks.list(filter).await.unwrap().len() }
    };
    assert_eq!(count(None, None, 100).await, 6);
    assert_eq!(count(Some(echo()), None, 100).await, 3);
    assert_eq!(count(None, Some(TaskState::Submitted), 100).await, 5);
    assert_eq!(count(Some(echo()), Some(TaskState::Working), 100).await, 1);
    assert_eq!(count(Some(agent("other")), Some(TaskState::Working), 100).await, 0);
    assert_eq!(count(None, None, 0).await, 0);
    assert_eq!(count(None, None, usize::MAX).await, 6);
    assert_eq!(PAGE_MAX, 500);
}

#[tokio::test]
async fn an_owner_lists_its_own_tasks_in_pages_whatever_else_is_there() {
    let bench = bench().await;
    bench.deploy("other").await;
    let mut owned = Vec::new();
    for index in 0..12 {
        bench.clock.advance(Duration::from_millis(1));
        let name = if index % 4 == 0 { "other" } else { "echo" };
        let owner = if index % 2 == 0 { "token:mine" } else { "token:theirs" };
        let new = NewTask::new(agent(name), json!(index));
        let task = bench.tasks.submit_for(&person(), owner.into(), new).await.unwrap().task;
        assert_eq!(task.submitted_by, owner);
        assert_eq!(bench.last("task.submit").actor, person(), "the record names who acted, not who owns");
        owned.extend((index % 2 == 0).then_some(task.id));
    }
    owned.reverse();
    let list = |after, agent, state, limit| {
        let filter = TaskFilter { submitted_by: Some("token:mine".into()), after, agent, state, limit };
        let tasks = bench.tasks.clone();
        async move { tasks.list(filter).await.unwrap().into_iter().map(|task| task.id).collect::<Vec<_>>() }
    };
    let first = list(None, None, None, 4).await;
    let second = list(first.last().cloned(), None, None, 4).await;
    assert_eq!([first, second].concat(), owned);
    assert_eq!(list(None, Some(echo()), None, 100).await.len(), 3);
    assert_eq!(list(None, Some(echo()), Some(TaskState::Submitted), 100).await.len(), 3);
    assert_eq!(list(None, Some(echo()), Some(TaskState::Failed), 100).await.len(), 0);
}

#[tokio::test]
async fn an_owner_keeps_its_idempotency_keys_when_the_actor_changes() {
    let bench = bench().await;
    let keyed = || NewTask { idempotency_key: Some("k".into()), ..NewTask::new(echo(), json!(1)) };
    let first = bench.tasks.submit_for(&person(), "token:line".into(), keyed()).await.unwrap();
    let again = bench.tasks.submit_for(&Actor::System, "token:line".into(), keyed()).await.unwrap();
    assert_eq!((again.replayed, &again.task.id), (true, &first.task.id));
    let other = bench.tasks.submit_for(&person(), "token:other".into(), keyed()).await.unwrap();
    assert!(!other.replayed);
}

#[tokio::test]
async fn events_of_a_task_have_no_gaps_under_concurrency() {
    let bench = bench().await;
    let claimed = [bench.working().await, bench.working().await];
    let report = |index: usize, from: usize| {
        let (bench, lease) = (&bench, &claimed[index].lease);
        async move {
            for n in from..from + 50 {
                bench.tasks.progress(lease, json!(n)).await.unwrap();
                let key = format!("s{n}");
                bench.begin(lease, step(&key, Safety::Idempotent, "h")).await.unwrap();
                bench.end(lease, &key, Ok(json!(n))).await.unwrap();
                let (tasks, id) = (bench.tasks.clone(), lease.task.clone());
                bench.store.write(move |tx| tasks.append_event(tx, &id, "notify", &json!({"n": n}))).await.unwrap();
            }
        }
    };
    tokio::join!(report(0, 0), report(0, 100), report(1, 0), report(1, 100), report(0, 200));
    for (claimed, reporters) in claimed.iter().zip([3, 2]) {
        let mut seqs = Vec::new();
        while let Ok(page) = bench.tasks.events(&claimed.task.id, seqs.len() as i64, 33).await {
            if page.is_empty() {
                break;
            }
            seqs.extend(page.iter().map(|event| event.seq));
        }
        let expected: Vec<i64> = (1..=2 + reporters * 150).collect();
        assert_eq!(seqs, expected);
    }
}

#[tokio::test]
async fn a_page_of_large_events_is_short_and_never_empty() {
    let bench = bench().await;
    let claimed = bench.working().await;
    let id = &claimed.task.id;
    let first = bench.tasks.events(id, 0, 500).await.unwrap().last().unwrap().seq;
    // Two fill a page; one alone is larger than most; small ones come together.
    for size in [600_000, 600_000, 600_000, 1_040_000, 1_040_000, 10, 10, 10] {
        let (tasks, task, text) = (bench.tasks.clone(), id.clone(), "x".repeat(size));
        bench.store.write(move |tx| tasks.append_event(tx, &task, "notify", &json!(text))).await.unwrap();
    }
    let (mut after, mut pages) = (first, Vec::new());
    loop {
        let page = bench.tasks.events(id, after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        assert_eq!(page.iter().map(|event| event.seq).collect::<Vec<_>>(), (after + 1..=last.seq).collect::<Vec<_>>());
        pages.push(page.len());
        after = last.seq;
    }
    assert_eq!((pages, after), (vec![2, 2, 4], first + 8));
    assert_eq!(bench.tasks.events(id, first + 5, 2).await.unwrap().len(), 2, "the limit holds as well");
}

#[tokio::test]
async fn an_event_for_an_unknown_task_is_refused() {
    let bench = bench().await;
    let (tasks, id) = (bench.tasks.clone(), bench.ambient.task_id());
    let outcome = bench.store.write(move |tx| tasks.append_event(tx, &id, "notify", &json!(1))).await;
    assert_eq!(outcome.unwrap_err().code, Code::TASK_NOT_FOUND);
}

#[tokio::test]
async fn a_listing_of_steps_leaves_out_large_results_and_the_journal_keeps_them() {
    let bench = bench().await;
    let lease = bench.working().await.lease;
    // Two bytes are the quotes.
    let sizes = [("fits", STEP_RESULT_LISTED_BYTES_MAX - 2), ("large", STEP_RESULT_LISTED_BYTES_MAX - 1)];
    for (key, size) in sizes {
        bench.begin(&lease, step(key, Safety::Idempotent, "h")).await.unwrap();
        bench.end(&lease, key, Ok(json!("x".repeat(size)))).await.unwrap();
    }
    let steps = bench.tasks.steps(&lease.task).await.unwrap();
    let listed: Vec<_> = steps.iter().map(|step| (step.key.as_str(), step.result.is_some())).collect();
    assert_eq!(listed, [("fits", true), ("large", false)]);
    let replayed = bench.begin(&lease, step("large", Safety::Idempotent, "h")).await.unwrap();
    assert!(matches!(replayed, agentos_tasks::StepStart::Recorded(value) if value.as_str().unwrap().len() > 16_000));
}

#[tokio::test]
async fn a_damaged_row_is_reported_as_damage() {
    let bench = bench().await;
    let claimed = bench.working().await;
    bench.tasks.finish(&Actor::System, &claimed.lease, Ending::Completed(json!(1))).await.unwrap();
    bench.sql("UPDATE task SET state = 'melted' WHERE id = $1", claimed.task.id.as_str()).await;
    assert_eq!(bench.tasks.get(&claimed.task.id).await.unwrap_err().code, Code::STORE_CORRUPT);
}
