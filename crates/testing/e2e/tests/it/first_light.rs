//! The story of the README: a signed Monitor notices a change of a page and of a file, once each, over crashes.

use std::fs;

use agentos_kit::{Package, Page, TestOs, eventually};
use agentos_types::{AgentName, agent::AgentState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn grants(page: &Page, directory: &str) -> String {
    format!(
        "[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://127.0.0.1:{}/*\"]\n\
         [[grants]]\ncategory = \"file\"\nactions = [\"read\", \"list\"]\nresources = [\"{directory}\"]\n",
        page.port()
    )
}

async fn changes(os: &TestOs) -> Vec<Value> {
    let page = os.client().list_notifications(None, None, None).await.expect("notifications");
    page.items.into_iter().filter(|n| n.kind == "watch.changed").map(|n| n.data).collect()
}

async fn wait_for_changes(os: &TestOs, count: usize) -> Vec<Value> {
    eventually(&format!("{count} changes"), || async {
        let seen = changes(os).await;
        if seen.len() == count { Ok(seen) } else { Err(seen) }
    })
    .await
}

#[tokio::test]
async fn the_monitor_notices_each_change_once_over_crashes() {
    let page = Page::serve("<h1>Prices</h1><p>Pro 20 EUR</p>").await;
    let watched = tempfile::tempdir().unwrap();
    let notes = watched.path().join("notes.txt");
    fs::write(&notes, "first line\n").unwrap();
    let config = format!("[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\"]\n", page.port());
    let mut os = TestOs::start_with(&config).await;
    os.deploy(&Package::monitor(&grants(&page, watched.path().to_str().unwrap()))).await;

    let add = |name: &str, source: &str, at: &str| json!({"action": "add", "name": name, source: at, "every_s": 1});
    let added = os.run_task("monitor", add("prices", "url", &page.url("/pricing"))).await;
    assert_eq!(added.state.as_str(), "completed", "{:?}", added.failure);
    let added = os.run_task("monitor", add("notes", "file", notes.to_str().unwrap())).await;
    assert_eq!(added.state.as_str(), "completed", "{:?}", added.failure);
    assert!(changes(&os).await.is_empty(), "a first look is no change");

    page.set("<h1>Prices</h1><p>Pro 25 EUR</p>");
    let seen = wait_for_changes(&os, 1).await;
    let text = seen[0].to_string();
    assert!(text.contains("Pro 20 EUR") && text.contains("Pro 25 EUR"), "the diff shows both: {text}");

    let monitor: AgentName = "monitor".parse().unwrap();
    let before = os.agent_in(&monitor, &[AgentState::Ready, AgentState::Running]).await;
    kill_process(Pid::from_raw(before.pid.unwrap() as i32).unwrap(), Signal::KILL).unwrap();
    // At once, as editors do: a reader between truncation and write would see two changes.
    let edited = watched.path().join("notes.new");
    fs::write(&edited, "first line\nsecond line\n").unwrap();
    fs::rename(edited, &notes).unwrap();
    wait_for_changes(&os, 2).await;
    let after = os.agent_in(&monitor, &[AgentState::Ready, AgentState::Running]).await;
    assert_ne!(before.pid, after.pid, "a new process does the work");

    os.kill().await;
    page.set("<h1>Prices</h1><p>Pro 30 EUR</p>");
    os.up().await;
    let seen = wait_for_changes(&os, 3).await;
    assert!(seen.iter().any(|change| change.to_string().contains("Pro 30 EUR")));

    // Several further checks must not repeat anything.
    let checks = page.requests().len();
    eventually("three more checks", || async { if page.requests().len() >= checks + 3 { Ok(()) } else { Err(()) } })
        .await;
    let seen = changes(&os).await;
    assert_eq!(seen.len(), 3, "no change is reported twice: {seen:#?}");

    let verified = os.cli_json(&["audit", "verify"]).await;
    assert_eq!(verified["valid"], true, "{verified}");
    let trail = os.cli_json(&["audit", "query", "--action", "net.fetch"]).await;
    assert!(trail.to_string().contains("/pricing"), "the fetches are in the audit trail: {trail}");
    assert_eq!(os.down().await, 0);
}

#[tokio::test]
async fn the_small_verifier_agrees_and_finds_an_edit() {
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    os.run_task("echo", json!({"action": "echo", "text": "hello"})).await;
    assert_eq!(os.down().await, 0);
    let verify = |os: &TestOs| {
        let mut command = std::process::Command::new(agentos_kit::program("agent-os-verify"));
        command.arg("--db").arg(os.home().join("agent-os.db")).arg("--key").arg(os.home().join("keys/audit.vkey"));
        command.output().unwrap()
    };
    let honest = verify(&os);
    assert!(honest.status.success(), "{}", String::from_utf8_lossy(&honest.stdout));
    // Somebody with the file and a database shell: removes the guard, edits one record.
    let edit = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('DROP TRIGGER audit_record_is_append_only_update');\
                c.execute(\"UPDATE audit_record SET actor='nobody' WHERE seq=1\"); c.commit(); c.close()";
    let database = os.home().join("agent-os.db");
    assert!(
        std::process::Command::new(agentos_kit::python())
            .arg("-c")
            .arg(edit)
            .arg(&database)
            .status()
            .unwrap()
            .success()
    );
    let edited = verify(&os);
    assert!(edited.status.code().unwrap_or(0) >= 10, "{}", String::from_utf8_lossy(&edited.stdout));
    assert_eq!(os.cli(&["audit", "verify"]).await.code, 5);
}
