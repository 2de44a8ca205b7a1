//! A whole task by this program on the schema of the next release: what a rolling upgrade and a way back rest on.

#[path = "../../../../1-kernel/store/tests/it/future.rs"]
#[expect(dead_code, reason = "the store's own tests use all of it")]
mod future;

use agentos_audit::{AuditLog, LogIdentity, LogWriter};
use agentos_base::Ambient;
use agentos_scratch::Backend;
use agentos_store::{Database, Store, StoreOptions};
use agentos_tasks::{Ending, NewStep, NewTask, StepStart, Tasks};
use agentos_types::{Actor, AgentName, task::Safety, task::TaskState};
use serde_json::json;

use crate::house::{START, tasks_options};

async fn a_whole_task(backend: Backend) {
    let (directory, scratch) = (tempfile::tempdir().unwrap(), backend.blank());
    let (ambient, _) = Ambient::fake(11, START);
    let identity = LogIdentity::new("node-1", &[5; 32]).unwrap();
    let options = || StoreOptions {
        directory: directory.path().into(),
        database: scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap()),
        queue_max: 64,
        readers: 2,
        sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
        ambient: ambient.clone(),
    };
    drop(Store::open_as(options(), future::next_release()).unwrap());
    let store = Store::open(options()).unwrap();
    assert_eq!(store.schema(), future::EXPANDED);

    let tasks = Tasks::new(store.clone(), ambient.clone(), tasks_options());
    let agent: AgentName = "echo".parse().unwrap();
    let deployed = store.write(|tx| {
        tx.execute(
            "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
             VALUES ('echo', '1.0.0', '00', 'key', 'running', 'running', 0, 0)",
            &[],
        )
    });
    deployed.await.unwrap();
    let id = tasks.submit(&Actor::System, NewTask::new(agent.clone(), json!({"n": 1}))).await.unwrap().task.id;
    let lease = tasks.claim(&agent, 1).await.unwrap().remove(0).lease;
    let (journal, held) = (tasks.clone(), lease.clone());
    let step = NewStep { key: "one".into(), syscall: "kv.get", safety: Safety::Unsafe, request_hash: "h".into() };
    let begun = store.write(move |tx| journal.begin_step(tx, &held, &step)).await.unwrap();
    assert!(matches!(begun, StepStart::Fresh { seq: 1, .. }));
    let (journal, held) = (tasks.clone(), lease.clone());
    store.write(move |tx| journal.finish_step(tx, &held, "one", Ok(&json!("result")))).await.unwrap();
    assert_eq!(tasks.renew(std::slice::from_ref(&lease)).await, Ok(vec![]));
    let done = tasks.finish(&Actor::System, &lease, Ending::Completed(json!("done"))).await.unwrap();
    assert_eq!(done.state, TaskState::Completed);
    tasks.sweep().await.unwrap();
    // What the later release added holds its default, and nobody minds.
    let added = store.read(move |conn| {
        conn.query_one("SELECT later_count FROM task WHERE id = $1", &[(&id).into()], |row| row.integer(0))
    });
    assert_eq!(added.await, Ok(Some(7)));
    let seen = AuditLog::new(identity.clone(), store.clone(), directory.path()).verify().await.unwrap();
    assert_eq!(seen.finding, None);
    assert!(seen.records >= 2, "{seen:?}");
}

#[tokio::test]
async fn a_whole_task_on_the_schema_of_the_next_release_on_sqlite() {
    a_whole_task(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_whole_task_on_the_schema_of_the_next_release_on_postgres() {
    a_whole_task(Backend::Postgres).await;
}
