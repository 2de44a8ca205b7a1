//! Whose clock measures a lease: on Postgres that of the database, whatever the server's own says.

use std::time::{Duration, Instant};

use agentos_base::Ambient;
use agentos_scratch::Backend;
use agentos_tasks::{Tasks, TasksOptions};
use agentos_types::{Timestamp, task::TaskState};

use super::on_postgres::bench::{Bench, START, database, open_on, options};

const HOUR: Duration = Duration::from_secs(3_600);

/// A server on a database that keeps the time.
async fn bench(lease: Duration) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let (ambient, clock) = Ambient::fake(7, START);
    let (scratch, audited) = (Backend::Postgres.scratch(), Default::default());
    let database = database(&scratch).map(agentos_store::Database::keeping_time);
    let store = open_on(directory.path(), database, ambient.clone(), std::sync::Arc::clone(&audited));
    let tasks = Tasks::new(store.clone(), ambient.clone(), TasksOptions { lease, ..options("node-a") });
    let bench = Bench { directory, scratch, store, tasks, ambient, clock, audited };
    bench.deploy("echo").await;
    bench
}

impl Bench {
    /// What the clock of the database says.
    fn database_now(&self) -> Timestamp {
        let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        Timestamp(self.scratch.postgres().ask(micros).unwrap().parse().unwrap())
    }

    async fn stored_end(&self) -> Timestamp {
        Timestamp(self.count("SELECT lease_until FROM task WHERE state = 'working'").await)
    }
}

#[tokio::test]
async fn a_server_whose_clock_is_wrong_neither_steals_nor_loses_a_lease() {
    let lease = Duration::from_secs(600);
    for ahead in [true, false] {
        let bench = bench(lease).await;
        let real = bench.database_now();
        bench.clock.set(if ahead { real.after(HOUR) } else { real.before(HOUR) });
        let claimed = bench.working().await;
        let end = bench.stored_end().await;
        assert_eq!(end, claimed.lease.until);
        assert!(end >= real.after(lease) && end <= bench.database_now().after(lease), "ahead {ahead}: {end}");
        // Six leases pass by the server's own clock, and none by that of the database.
        bench.clock.advance(HOUR);
        bench.tasks.sweep().await.unwrap();
        assert_eq!(bench.state(&claimed.task.id).await, TaskState::Working, "ahead {ahead}");
        assert_eq!(bench.tasks.renew(std::slice::from_ref(&claimed.lease)).await, Ok(vec![]));
        let renewed = bench.stored_end().await;
        assert!(renewed > end && renewed <= bench.database_now().after(lease), "ahead {ahead}: {renewed}");
        // Another node's lease is measured in the same way.
        bench.sql("UPDATE task SET lease_node = $1", "node-b").await;
        bench.tasks.sweep().await.unwrap();
        assert_eq!(bench.state(&claimed.task.id).await, TaskState::Working, "ahead {ahead}");
    }
}

/// A step of the server's own clock is followed by what it measures, and leases are not among that here.
#[tokio::test]
async fn a_step_of_the_servers_clock_moves_no_lease_that_the_database_measures() {
    let bench = bench(Duration::from_secs(600)).await;
    let claimed = bench.working().await;
    let end = bench.stored_end().await;
    for by_us in [7_200_000_000, -9_000_000_000] {
        let step = agentos_tasks::ClockStep { from: bench.ambient.now(), by_us };
        bench.clock.set(Timestamp(step.from.as_micros() + by_us));
        bench.tasks.follow_clock(step).await.unwrap();
        bench.tasks.sweep().await.unwrap();
        assert_eq!(bench.stored_end().await, end);
        assert_eq!(bench.state(&claimed.task.id).await, TaskState::Working);
    }
}

#[tokio::test]
async fn a_lease_runs_out_by_the_clock_of_the_database_while_the_servers_stands_still() {
    let lease = Duration::from_millis(300);
    for ahead in [true, false] {
        let bench = bench(lease).await;
        let real = bench.database_now();
        bench.clock.set(if ahead { real.after(HOUR) } else { real.before(HOUR) });
        let claimed = bench.working().await;
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let next = bench.tasks.sweep().await.unwrap();
            if bench.state(&claimed.task.id).await != TaskState::Working {
                break;
            }
            // Told by the server's own clock, by which the sweeper waits.
            let wait = next.unwrap().since(bench.ambient.now());
            assert!(wait <= lease, "ahead {ahead}: {wait:?}");
            assert!(Instant::now() < limit, "ahead {ahead}: the lease does not run out");
        }
        assert!(bench.database_now() >= claimed.lease.until, "ahead {ahead}: too early");
    }
}
