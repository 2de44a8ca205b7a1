//! How the database answers the statements that run all the time: through the index made for each, never by a walk over
//! the backlog. Also the guard of a save, which only a second node could ever break.

use agentos_base::Ambient;
use agentos_store::{Arg, Store, StoreOptions};
use agentos_types::{Code, Fault, Timestamp, task::TaskState};

use crate::{Core, Tasks, TasksOptions, fire, intake, sweep, transition, worker};

fn open(directory: &std::path::Path) -> (Store, std::sync::Arc<Core>) {
    let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
    let store = Store::open(StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 64,
        readers: 1,
        sequencer: None,
        ambient: ambient.clone(),
    });
    let store = store.unwrap();
    let options = TasksOptions {
        node: "n".into(),
        attempts_max: 1,
        lease: std::time::Duration::from_secs(1),
        queue_max: 1,
        interval_min: std::time::Duration::from_secs(1),
    };
    (store.clone(), Tasks::new(store, ambient, options).core)
}

#[tokio::test]
async fn hot_statements_walk_their_index_only() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    for (sql, indexes) in [
        (worker::CLAIM, &["task_ready (agent=? AND state=? AND run_at<?)"][..]),
        (intake::WAITING, &["task_ready (agent=? AND state=?)"]),
        (sweep::LATE, &["task_deadline (state=? AND deadline_at>? AND deadline_at<?)"]),
        (sweep::EXPIRED, &["task_leased (state=? AND lease_until<?)"]),
        (sweep::READY, &["task_waiting_until (state=? AND run_at>? AND run_at<?)"]),
        (
            sweep::NEXT_DUE,
            &["task_waiting_until (state=? AND run_at>?)", "task_leased (state=?", "task_deadline (state=?"],
        ),
        (fire::DUE_SCHEDULES, &["schedule_due ((next_at,id)>(?,?) AND next_at<?)"]),
    ] {
        let explain: &'static str = Box::leak(format!("EXPLAIN QUERY PLAN {sql}").into_boxed_str());
        let numbers = (1..=9).filter(|number| sql.contains(&format!("${number}"))).count();
        let args = vec![Arg::Integer(1); numbers];
        let plan = store.read(move |conn| conn.query(explain, &args, |row| row.text(3))).await.unwrap().join("\n");
        for index in indexes {
            assert!(plan.contains(index), "{sql}\nis answered by\n{plan}");
        }
        let walks = ["SCAN task", "SCAN schedule", "task_by_state", "FOR ORDER BY", "PART OF ORDER BY"];
        assert!(!walks.iter().any(|walk| plan.contains(walk)), "{sql}\nis answered by\n{plan}");
    }
}

#[tokio::test]
async fn a_row_that_changed_since_it_was_read_is_not_saved() {
    let directory = tempfile::tempdir().unwrap();
    let (store, core) = open(directory.path());
    let id = core.ambient.task_id();
    for (change, refused) in [
        ("UPDATE task SET fence = 2 WHERE id = $1", true),
        ("UPDATE task SET fence = 1, state = 'completed' WHERE id = $1", true),
        ("UPDATE task SET state = 'working' WHERE id = $1", false),
    ] {
        let (core, id) = (core.clone(), id.clone());
        let outcome: Result<(), Fault> = store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at,
                       updated_at, run_at, traceparent, fence)
                     VALUES ($1, 'a', 'working', 0, $2, 1, 'x', 0, 0, 0, 't', 1)",
                    &[(&id).into(), b"1".as_slice().into()],
                )?;
                let mut record = transition::load(tx, &id)?;
                let guard = record.guard();
                tx.execute(change, &[(&id).into()])?;
                record.task.state = TaskState::Failed;
                core.save(tx, guard, &mut record)
            })
            .await;
        assert_eq!(outcome.err().map(|fault| fault.code), refused.then_some(Code::LEASE_LOST), "{change}");
    }
}

/// Only Postgres runs it, and a node does so each second: with a large backlog it must read a few rows an agent.
#[tokio::test]
async fn the_search_for_tasks_of_others_walks_no_backlog_on_postgres() {
    let directory = tempfile::tempdir().unwrap();
    let scratch = agentos_scratch::Backend::Postgres.scratch();
    let database = scratch.urls().map(|(url, admin)| agentos_store::Database::parse(url, Some(admin)).unwrap());
    let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
    let options = StoreOptions {
        directory: directory.path().into(),
        database,
        queue_max: 8,
        readers: 1,
        sequencer: None,
        ambient,
    };
    let store = Store::open(options).unwrap();
    scratch.postgres().run(
        "INSERT INTO agent_os.task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at,
           updated_at, run_at, traceparent)
         SELECT 'task_' || n, 'agent-' || n % 3, 'submitted', 0, '1', 3, 'other', 0, 0, n, 't'
         FROM generate_series(1, 30000) AS n; ANALYZE agent_os.task",
    );
    let explain: &'static str =
        Box::leak(format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {}", sweep::WAITING_AGENTS).into_boxed_str());
    let plan = store.read(move |conn| conn.query(explain, &[Arg::Integer(10)], |row| row.text(0))).await;
    let plan = plan.unwrap().join("\n");
    let first = plan.lines().find(|line| line.contains("Buffers: shared")).unwrap();
    let pages: u32 = first.split("hit=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(!plan.contains("Seq Scan") && plan.contains("task_ready") && pages < 40, "{plan}");
}
