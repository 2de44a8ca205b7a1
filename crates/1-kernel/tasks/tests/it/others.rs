//! Tasks that another session has put into the database: found with a hint at once, and without one at the next look.

use std::time::Duration;

use agentos_scratch::Backend;
use agentos_types::{notify::Notice, task::TaskState};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::on_postgres::bench::{Bench, bench, drain, echo};

const SECOND: Duration = Duration::from_secs(1);

/// A task as another node would write it, behind this one's back.
fn insert(bench: &Bench, number: u32, run_at_s: i64) -> String {
    let id = format!("task_01J9ZQ3V4W5X6Y7Z8A9B0C{number:04}");
    bench.scratch.postgres().run(&format!(
        "INSERT INTO agent_os.task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at,
           updated_at, run_at, traceparent)
         VALUES ('{id}', 'echo', 'submitted', 0, '1', 3, 'other', 0, 0, {}, '00-0-0-01')",
        run_at_s * 1_000_000
    ));
    id
}

async fn until_work(notices: &mut broadcast::Receiver<Notice>) {
    let found = async { while notices.recv().await.unwrap() != Notice::WorkFor(echo()) {} };
    tokio::time::timeout(20 * SECOND, found).await.expect("the task was not found");
}

#[tokio::test]
async fn a_task_of_another_session_is_found_by_its_hint_without_a_look() {
    assert_eq!(super::on_postgres::BACKEND, Backend::Postgres);
    let bench = bench().await;
    let mut notices = bench.store.subscribe();
    let id = insert(&bench, 1, 0);
    // No sweeper runs here.
    bench.scratch.postgres().ask("SELECT pg_notify('agent_os', 'work:echo')::text");
    until_work(&mut notices).await;
    assert_eq!(bench.claim().await.task.id.to_string(), id);
}

/// The bound is one look: a second.
#[tokio::test]
async fn a_task_of_another_session_is_found_by_the_next_look_without_a_hint() {
    let bench = bench().await;
    bench.tasks.sweep().await.unwrap();
    let mut notices = bench.store.subscribe();
    // Ready long before the sweeper's last look: nothing but a search finds it.
    let id = insert(&bench, 1, 0);
    insert(&bench, 2, 4_000_000_000);
    bench.tasks.sweep().await.unwrap();
    assert!(drain(&mut notices).is_empty(), "it looked again at the same instant");
    bench.clock.advance(SECOND);
    bench.tasks.sweep().await.unwrap();
    assert_eq!(drain(&mut notices), [Notice::WorkFor(echo())]);
    assert_eq!(bench.claim().await.task.id.to_string(), id);
    bench.clock.advance(SECOND);
    bench.tasks.sweep().await.unwrap();
    assert!(!drain(&mut notices).contains(&Notice::WorkFor(echo())), "what is not ready is not announced");
}

#[tokio::test]
async fn the_loop_looks_by_itself() {
    let bench = bench().await;
    let mut notices = bench.store.subscribe();
    let shutdown = CancellationToken::new();
    let service = bench.tasks.clone().run(shutdown.clone());
    let story = async {
        // So that the loop has had its first look, which finds everything.
        bench.tasks.sweep().await.unwrap();
        let id = insert(&bench, 1, 0);
        bench.clock.advance(SECOND);
        until_work(&mut notices).await;
        let claimed = bench.claim().await;
        assert_eq!(claimed.task.id.to_string(), id);
        assert_eq!(bench.state(&claimed.task.id).await, TaskState::Working);
        shutdown.cancel();
    };
    tokio::join!(service, story);
}
