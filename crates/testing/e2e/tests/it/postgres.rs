//! The same product on Postgres: over kills of the server and of the database's sessions, and with the wrong database.

use agentos_kit::{Package, TestOs, until};
use agentos_scratch::{Backend, Scratch};
use agentos_types::{Code, task::TaskState};
use serde_json::json;

const KV: &str = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n";

/// Initialised on a database of its own, not running.
async fn installed() -> (Scratch, TestOs) {
    let scratch = Backend::Postgres.blank();
    let (url, admin) = scratch.urls().unwrap();
    let os = TestOs::bare(&[("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)]);
    os.cli_ok(&["init"]).await;
    (scratch, os)
}

#[tokio::test]
async fn acknowledged_tasks_survive_kills_of_the_server_and_of_its_connections() {
    let (scratch, mut os) = installed().await;
    // From here on nobody has more rights than the server needs.
    os.unset_env("DATABASE_ADMIN_URL");
    os.up().await;
    os.deploy(&Package::echo("echo", &format!("{KV}[limits]\nconcurrent_tasks = 4\n"))).await;
    let mut accepted = Vec::new();
    for round in 0..4 {
        let client = os.client();
        for number in 0..20 {
            let key = format!("{round}-{number}");
            let body = serde_json::from_value(json!({"agent": "echo", "input": {"action": "count"}})).unwrap();
            if number == 10 {
                scratch.postgres().disconnect_all();
            }
            // A refusal is no acknowledgement; the same key asks again for the same task.
            let id = loop {
                match client.submit_task(&body, Some(&key)).await {
                    Ok(task) => break task.id,
                    Err(fault) => assert_eq!(fault.code, Code::STORE_UNAVAILABLE, "{fault}"),
                }
            };
            accepted.push(id);
        }
        os.kill().await;
        os.up().await;
    }
    for id in &accepted {
        let task = os.finished(id).await;
        assert_eq!(task.state, TaskState::Completed, "{id}: {:?}", task.failure);
    }
    let total = os.run_task("echo", json!({"action": "count"})).await.output.unwrap();
    assert_eq!(total, json!(accepted.len() + 1));

    let verified = os.cli_json(&["audit", "verify"]).await;
    assert_eq!((&verified["valid"], &verified["verified_by"]), (&json!(true), &json!("server")));
    let segment = os.home().join("segment.jsonl");
    os.cli_ok(&["audit", "export", "--out", segment.to_str().unwrap()]).await;
    let judged = std::process::Command::new(agentos_kit::program("agent-os-verify"))
        .arg("--segment")
        .arg(&segment)
        .arg("--key")
        .arg(os.home().join("keys/audit.vkey"))
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    assert!(!os.home().join("agent-os.db").exists(), "something was written beside the database");
    assert_eq!(os.down().await, 0);
    assert!(!os.log().contains("agent_os_server-password"), "the password is in the log");
}

#[tokio::test]
async fn while_the_database_is_away_the_server_says_so_and_goes_on_afterwards() {
    let (scratch, mut os) = installed().await;
    os.up().await;
    os.deploy(&Package::echo("echo", "")).await;
    let (client, pid) = (os.client(), os.server_pid());
    scratch.postgres().refuse_connections(true);
    scratch.postgres().disconnect_all();
    let body = serde_json::from_value(json!({"agent": "echo", "input": {"action": "echo", "text": "x"}})).unwrap();
    for _ in 0..5 {
        let refused = client.submit_task(&body, None).await.unwrap_err();
        assert_eq!(refused.code, Code::STORE_UNAVAILABLE, "{refused}");
        assert!(refused.retry_after.is_some(), "{refused:?}");
    }
    scratch.postgres().refuse_connections(false);
    until("the server takes work again", || async { client.submit_task(&body, Some("again")).await.is_ok() }).await;
    let done = os.run_task("echo", json!({"action": "echo", "text": "after"})).await;
    assert_eq!(done.state, TaskState::Completed);
    assert_eq!(os.server_pid(), pid, "the server was not restarted");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

#[tokio::test]
async fn another_database_than_its_own_is_refused() {
    let (scratch, mut os) = installed().await;
    let second =
        TestOs::bare(&[("DATABASE_URL", scratch.urls().unwrap().0), ("DATABASE_ADMIN_URL", scratch.urls().unwrap().1)]);
    let refused = second.cli(&["init"]).await;
    assert!(refused.stderr.contains("AOS-1006"), "{}", refused.stderr);
    // A first try with a wrong password leaves nothing behind that a second one would stumble over.
    let elsewhere = Backend::Postgres.blank();
    let (url, admin) = elsewhere.urls().unwrap();
    let wrong = elsewhere.postgres().url_as("agent_os_server", "hunter2-hunter2");
    let mut third = TestOs::bare(&[("DATABASE_URL", &wrong), ("DATABASE_ADMIN_URL", admin)]);
    let refused = third.cli(&["init"]).await;
    assert!(refused.stderr.contains("AOS-1102") && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
    third.unset_env("DATABASE_URL");
    third.set_env("DATABASE_URL", url);
    third.cli_ok(&["init"]).await;
    // Neither somebody else's database nor, without the variable, a new one.
    os.unset_env("DATABASE_URL");
    os.set_env("DATABASE_URL", url);
    for (code, word) in [("AOS-1005", ""), ("AOS-1008", "DATABASE_URL")] {
        let refused = os.cli(&["up", "--port", "0"]).await;
        assert!(refused.stderr.contains(code) && refused.stderr.contains(word), "{}", refused.stderr);
        os.unset_env("DATABASE_URL");
        os.unset_env("DATABASE_ADMIN_URL");
    }
}

#[tokio::test]
async fn the_password_is_shown_nowhere() {
    let (_scratch, os) = installed().await;
    for command in [&["config", "show", "--origin"][..], &["-o", "json", "config", "show"], &["doctor"]] {
        let shown = os.cli(command).await;
        let text = format!("{}{}", shown.stdout, shown.stderr);
        assert!(!text.contains("-password"), "{command:?}: {text}");
    }
    assert!(os.cli_ok(&["config", "show"]).await.contains("[set]"));
    let refused = os.cli(&["up", "--set", "database.url=postgres://a:hunter2hunter2@h/d"]).await;
    assert!(refused.stderr.contains("AOS-1002") && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
}
