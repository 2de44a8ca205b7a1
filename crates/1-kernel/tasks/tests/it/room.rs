//! What pruning costs those who write beside it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentos_base::{
    Ambient,
    ambient::{Clock, FakeClock, SeededEntropy},
};
use agentos_tasks::retention::{self, Policy, Retention};
use agentos_types::{Actor, TaskId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::bench::*;

pub const POLICY: Policy = Policy {
    task_days: 30,
    dead_letter_days: 90,
    event_days: 30,
    idempotency_days: 7,
    credential_days: 0,
    hour_utc: 3,
};
pub const DAY: Duration = Duration::from_secs(86_400);

fn retention(bench: &Bench) -> Retention {
    let mut pruners = retention::pruners(&POLICY);
    pruners.push(retention::last());
    let clock = Running { from: bench.clock.clone(), since: Instant::now() };
    let ambient = Ambient::new(Arc::new(clock), Arc::new(SeededEntropy::new(5)));
    Retention::new(bench.store.clone(), ambient, POLICY, pruners)
}

/// Moves on from where the test has set its clock: how long a batch takes decides how large the next one is.
struct Running {
    from: Arc<FakeClock>,
    since: Instant,
}

impl Clock for Running {
    fn now(&self) -> Timestamp {
        self.from.now().after(self.since.elapsed())
    }
}

/// Completed tasks of this instant with two steps and four events each, and payloads of a kilobyte.
pub async fn fill(bench: &Bench, tasks: u128) {
    const AT_ONCE: u128 = 250;
    let now = bench.ambient.now();
    for first in (0..tasks).step_by(AT_ONCE as usize) {
        let work = move |tx: &mut agentos_store::Tx<'_>| {
            let payload = vec![b'1'; 1_024];
            for number in first..(first + AT_ONCE).min(tasks) {
                let id = TaskId::generate(now, number);
                tx.execute(
                    "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at,
                       updated_at, run_at, traceparent, step_seq, event_seq)
                     VALUES ($1, 'echo', 'completed', 0, $2, 1, 'x', $3, $3, $3, 't', 2, 4)",
                    &[(&id).into(), (&payload).into(), now.into()],
                )?;
                for seq in 1..=2_i64 {
                    tx.execute(
                        "INSERT INTO step (task, key, seq, syscall, status, safety, request_hash, fence, traceparent,
                           started_at, result_key, result)
                         VALUES ($1, $2, $3, 's', 'done', 'idempotent', 'h', 1, 't', 0, 0, $4)",
                        &[(&id).into(), seq.to_string().as_str().into(), seq.into(), (&payload).into()],
                    )?;
                }
                for seq in 1..=4_i64 {
                    tx.execute(
                        "INSERT INTO task_event (task, seq, at, kind, data_key, data) VALUES ($1, $2, 0, 'k', 0, $3)",
                        &[(&id).into(), seq.into(), b"{}".as_slice().into()],
                    )?;
                }
            }
            Ok(())
        };
        bench.store.write(work).await.unwrap();
    }
}

pub async fn run(retention: &Retention) -> u64 {
    retention.ask(&Actor::System, None).await.unwrap();
    retention.turn(Timestamp::ZERO, &CancellationToken::new()).await.unwrap();
    let status = retention.status().await.unwrap();
    assert!(!status.is_running() && status.last_run.unwrap().failure.is_none());
    status.counts.iter().find(|count| count.kind == "tasks").map_or(0, |count| count.rows_last)
}

/// Writes of callers, one after the other, until told to stop: how long each took.
async fn live(bench: &Bench, stop: &CancellationToken) -> Vec<Duration> {
    let mut taken = Vec::new();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        bench.submit().await;
        taken.push(begun.elapsed());
    }
    taken.sort();
    taken
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_go_on_beside_a_run() {
    const TASKS: u128 = 1_500;
    let bench = bench().await;
    fill(&bench, TASKS).await;
    bench.clock.advance(DAY * 31);
    let retention = retention(&bench);
    let alone = CancellationToken::new();
    let (before, ()) = tokio::join!(live(&bench, &alone), async {
        // As many writes as tell something, however slow the machine is.
        while bench.count("SELECT count(*) FROM task WHERE state = 'submitted'").await < 200 {}
        alone.cancel();
    });
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let (beside, taken) = tokio::join!(live(&bench, &stop), async {
        let taken = run(&retention).await;
        stop.cancel();
        taken
    });
    assert_eq!(u128::from(taken), TASKS);
    println!(
        "{:?}: {TASKS} tasks with six rows each pruned in {:?}; submissions alone p50 {:?} p95 {:?}, beside it {} with p50 {:?} \
         p95 {:?} max {:?}",
        super::BACKEND,
        begun.elapsed(),
        percentile(&before, 50),
        percentile(&before, 95),
        beside.len(),
        percentile(&beside, 50),
        percentile(&beside, 95),
        percentile(&beside, 100),
    );
    // Figures depend on the machine; that nobody waits for the end of the run does not.
    assert!(beside.len() > 10, "the run kept the writer for itself: {}", beside.len());
}
