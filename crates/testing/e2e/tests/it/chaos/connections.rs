//! Connections that are opened and dropped at every stage, a thousand of them: nothing of them stays, and who behaves
//! does not notice.

mod client;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use agentos_client::{Client, TaskFilter};
use agentos_kit::{Package, TestOs, eventually, until};
use agentos_types::task::{Task, TaskState};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    chance::{Chance, setting},
    processes,
    storm::canary::Canary,
};
use client::{Churn, STAGES};

const CONNECTIONS: u64 = 1_000;
const ABREAST: usize = 50;
/// Nobody here sends more slowly than this, so what is left open is closed by the loss of the connection alone.
const CONFIG: &str = "[gateway]\nrequests_per_second = 1000000\nrequest_timeout_ms = 600000\n";
const DESCRIPTORS_SLACK: usize = 12;
/// Of clients that behave: their libraries keep a connection or two for the next request.
const KEPT_ALIVE_MAX: u64 = 4;
/// The buffers of fifty connections at the same time, and what the allocator keeps of them.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

#[tokio::test]
async fn a_thousand_connections_dropped_at_every_stage_leave_nothing_behind() {
    let seed = setting("AGENTOS_CHAOS_SEED", 1);
    let connections = usize::try_from(setting("AGENTOS_CHAOS_CONNECTIONS", CONNECTIONS)).unwrap();
    println!("repeat with AGENTOS_CHAOS_SEED={seed} AGENTOS_CHAOS_CONNECTIONS={connections}");
    let os = TestOs::start_with(CONFIG).await;
    let server = os.server_pid();
    let canary = Canary::deploy(&os).await;
    os.deploy(&Package::echo("echo", "")).await;
    let churn = Churn::against(&os, os.submit("echo", json!({"action": "sleep_until_canceled"})).await);
    // One of each first, so that what the server opens once and keeps is open.
    for stage in STAGES {
        churn.drop_at(*stage, 0).await;
    }
    gone(&os).await;
    let (descriptors, memory_kib) = (processes::descriptors(server), processes::resident_kib(server));

    let begun = Instant::now();
    let mut chance = Chance::new(seed);
    let plan: Vec<_> = (0..connections).map(|number| (STAGES[number % STAGES.len()], chance.below(100))).collect();
    let is_over = AtomicBool::new(false);
    let drop_all = async {
        stream::iter(plan).for_each_concurrent(ABREAST, |(stage, part)| churn.drop_at(stage, part)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let ((), latencies) = tokio::join!(drop_all, canary.sing(&os, &is_over));
    println!("{connections} connections in {:.1} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    os.client().submit_task(&serde_json::from_value(json!({"agent": "echo"})).unwrap(), None).await.unwrap();
    println!("a normal client is answered after {:.0?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "a normal client works at once: {:?}", begun.elapsed());
    gone(&os).await;
    until("the descriptors are closed", || async { processes::descriptors(server) <= descriptors + DESCRIPTORS_SLACK })
        .await;
    let grown = processes::resident_kib(server).saturating_sub(memory_kib);
    println!("memory grew by {grown} KiB from {memory_kib} KiB");
    assert!(grown < GROWTH_MAX_KIB, "grew by {grown} KiB");
    canary.is_unharmed(&latencies).await;
    what_was_submitted_is_done(&os, &churn).await;
    assert!(os.client().verify_audit().await.unwrap().valid);
}

/// No connection is open but those that the canary keeps, and the one that asks.
async fn gone(os: &TestOs) {
    eventually("all connections are closed", || async {
        let metrics = os.client().metrics().await.unwrap();
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is measured")).parse::<u64>().unwrap()
        };
        let open = (value("agentos_gateway_connections"), value("agentos_gateway_websockets"));
        if open.0 <= KEPT_ALIVE_MAX && open.1 == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}

/// A task whose client has gone before the answer exists or does not; if it does, it is done once.
async fn what_was_submitted_is_done(os: &TestOs, churn: &Churn) {
    let client = os.client();
    os.cli_ok(&["task", "cancel", churn.sleeper().as_str()]).await;
    let filter = TaskFilter { agent: Some("echo".parse().unwrap()), limit: Some(500), ..TaskFilter::default() };
    let open = |task: &Task| !task.state.is_terminal();
    let all = eventually("the end of every task", || async {
        let tasks = every_page(&client, filter.clone()).await;
        if tasks.iter().any(open) { Err(tasks.into_iter().find(open)) } else { Ok(tasks) }
    })
    .await;
    let done = all.iter().filter(|task| task.state == TaskState::Completed && task.attempt == 1).count();
    assert_eq!(done, all.len() - 1, "all but the one that was canceled");
    println!("{done} tasks of clients, most of whom had gone");
}

async fn every_page(client: &Client, mut filter: TaskFilter) -> Vec<Task> {
    let mut found = Vec::new();
    loop {
        let page = client.list_tasks(&filter).await.unwrap();
        found.extend(page.items);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return found;
        }
    }
}
