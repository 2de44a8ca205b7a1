//! The disk under a running server: full, failing, read-only. On file systems that the test makes for itself, which
//! takes root.

#![expect(clippy::panic, reason = "a story that cannot be told says why")]

mod models;

use agentos_kit::{Package, TestOs, Volume, until};
use agentos_types::task::TaskState;
use serde_json::json;

use crate::outage::{KV, Receiver, accepted, answer, is_alive, is_refusal, settled};

/// A test that cannot have its volume fails: it never passes without having run.
fn volume(made: Result<Volume, String>) -> Volume {
    made.unwrap_or_else(|reason| {
        panic!("{reason}; to leave these tests out: cargo nextest run -E 'not test(/^disk::/)', as make test does")
    })
}

async fn installed(volume: &Volume, config: &str) -> TestOs {
    let mut os = TestOs::bare_on(volume);
    os.cli_ok(&["init"]).await;
    std::fs::write(os.home().join("agent-os.toml"), config).unwrap();
    os.up().await;
    os.deploy(&Package::echo("echo", &format!("{KV}[limits]\nconcurrent_tasks = 4\n"))).await;
    os
}

/// Submits until the disk takes no more, and checks the refusal.
async fn refused(os: &TestOs) {
    let input = json!({"action": "echo", "text": "x".repeat(60_000)});
    let body = serde_json::from_value(json!({"agent": "echo", "input": input})).unwrap();
    for _ in 0..400 {
        if let Err(fault) = os.client().submit_task(&body, None).await {
            assert!(is_refusal(fault.code) && fault.retry_after.is_some(), "{fault:?}");
            return;
        }
    }
    panic!("a disk that takes nothing took 400 tasks");
}

#[tokio::test]
async fn a_full_disk_refuses_with_a_code_and_room_heals_it_without_a_restart() {
    let volume = volume(Volume::memory(48));
    let receiver = Receiver::open().await;
    let target = format!("127.0.0.1:{}", receiver.port());
    let os = installed(&volume, &format!("[dialer]\nprivate_exceptions = [\"{target}\"]\n")).await;
    let grant = format!("[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://{target}/*\"]\n");
    os.deploy(&Package::fetcher("payer", &grant)).await;
    let (client, pid) = (os.client(), os.server_pid());
    let mut ids = vec![accepted(&client, "before").await];
    os.finished(&ids[0]).await;
    let url = format!("http://{target}/pay");
    let paying = os.submit("payer", json!({"url": url, "method": "POST", "body": "1"})).await;
    let asked = receiver.asked().await;

    volume.fill();
    refused(&os).await;
    until("the server says that it takes no work", || async { !client.ready().await.unwrap() }).await;
    assert!(is_alive(&os).await);
    assert_eq!(client.get_task(&ids[0]).await.unwrap().state, TaskState::Completed, "what is there can be read");
    // Done out there, and no room to write it down: it is held.
    answer(asked).await;
    for _ in 0..20 {
        refused(&os).await;
    }

    volume.free();
    until("the server takes work again", || async { client.ready().await.unwrap() }).await;
    ids.push(accepted(&client, "after").await);
    let paid = os.finished(&paying).await;
    assert_eq!((paid.state, paid.attempt), (TaskState::Completed, 1), "{:?}", paid.failure);
    settled(&os, &ids, pid).await;
}

#[tokio::test]
async fn a_disk_that_fails_stops_every_act_and_loses_nothing_that_was_acknowledged() {
    let volume = volume(Volume::disk(64));
    let mut os = installed(&volume, "").await;
    let client = os.client();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(accepted(&client, &format!("before-{number}")).await);
    }
    volume.fail();
    refused(&os).await;
    until("the server says that it takes no work", || async { !client.ready().await.unwrap() }).await;
    assert!(is_alive(&os).await);
    os.kill().await;
    // Agents end with the server; until they have, they hold the volume.
    until("nobody uses the volume", || async { !in_use(&volume) }).await;
    volume.mend();
    os.up().await;
    let pid = os.server_pid();
    ids.push(accepted(&os.client(), "after").await);
    settled(&os, &ids, pid).await;
}

/// Does a process have something of it open, or lives in it?
fn in_use(volume: &Volume) -> bool {
    let inside = volume.inside().to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| process.file_name().to_string_lossy().parse::<u32>().is_ok()).any(|process| {
        let mut links: Vec<_> = std::fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .collect::<Vec<_>>()
            .iter()
            .map(|entry| entry.path())
            .collect();
        links.push(process.path().join("cwd"));
        links.iter().any(|link| std::fs::read_link(link).is_ok_and(|target| target.to_string_lossy().contains(&inside)))
    })
}

#[tokio::test]
async fn a_read_only_disk_refuses_the_start_and_says_what_to_look_at() {
    let volume = volume(Volume::memory(48));
    let mut os = installed(&volume, "").await;
    let mut ids = vec![accepted(&os.client(), "before").await];
    os.kill().await;
    until("nobody uses the volume", || async { !in_use(&volume) }).await;
    volume.make_read_only(true);
    let refused = os.cli(&["up", "--port", "0"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("AOS-1102") && refused.stderr.contains("written"), "{}", refused.stderr);
    volume.make_read_only(false);
    os.up().await;
    ids.push(accepted(&os.client(), "after").await);
    let pid = os.server_pid();
    settled(&os, &ids, pid).await;
}
