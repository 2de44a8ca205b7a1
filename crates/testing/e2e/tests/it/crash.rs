//! `kill -9` of the server under load: nothing acknowledged is lost, nothing is done twice.

use agentos_kit::{Package, TestOs, until};
use agentos_types::task::TaskState;
use serde_json::json;

const KV: &str = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n";

#[tokio::test]
async fn acknowledged_tasks_survive_repeated_kills_of_the_server() {
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", &format!("{KV}[limits]\nconcurrent_tasks = 4\n"))).await;
    let mut accepted = Vec::new();
    for round in 0..4 {
        let client = os.client();
        for number in 0..20 {
            let key = format!("{round}-{number}");
            let body = serde_json::from_value(json!({"agent": "echo", "input": {"action": "count"}})).unwrap();
            accepted.push(client.submit_task(&body, Some(&key)).await.unwrap().id);
        }
        os.kill().await;
        os.up().await;
    }
    for id in &accepted {
        let task = os.finished(id).await;
        assert_eq!(task.state, TaskState::Completed, "{id}: {:?}", task.failure);
    }
    // Each task counts once, also when it was interrupted: the step that counted answers from the journal.
    let total = os.run_task("echo", json!({"action": "count"})).await.output.unwrap();
    assert_eq!(total, json!(accepted.len() + 1));
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

#[tokio::test]
async fn a_schedule_never_fires_twice_for_one_instant_over_restarts() {
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    os.cli_ok(&["schedule", "create", "echo", "tick", "--every", "1s", "--input", r#"{"action":"echo"}"#]).await;
    assert!(os.cli_ok(&["schedule", "list"]).await.contains("tick"));
    for fires in [2, 4] {
        until(&format!("{fires} fires"), || async { fired_instants(&os).await.len() >= fires }).await;
        os.kill().await;
        os.up().await;
    }
    until("one more fire", || async { fired_instants(&os).await.len() > 4 }).await;
    let keys: Vec<String> = fired_instants(&os).await;
    let mut unique = keys.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(keys.len(), unique.len(), "every fire has its own instant");
}

/// The instants for which the schedule has submitted tasks.
async fn fired_instants(os: &TestOs) -> Vec<String> {
    let query = "import sqlite3,sys; [print(r[0]) for r in sqlite3.connect(sys.argv[1]).execute('SELECT fire_at FROM schedule_fire')]";
    let output = std::process::Command::new(agentos_kit::python())
        .args(["-c", query])
        .arg(os.home().join("agent-os.db"))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_second_server_is_refused_and_the_first_goes_on() {
    let os = TestOs::start().await;
    let second = os.cli(&["up", "--port", "0"]).await;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("AOS-1101"), "{}", second.stderr);
    assert!(os.client().ready().await.unwrap());
}

/// The address is taken before anything else happens: no record, no attempt, no agent.
#[tokio::test]
async fn a_taken_port_refuses_the_start_before_any_agent_lives() {
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let id = os.submit("echo", json!({"action": "sleep_until_canceled"})).await;
    until("the task runs", || async { os.client().get_task(&id).await.unwrap().state == TaskState::Working }).await;
    os.kill().await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let refused = os.cli(&["up", "--port", &port]).await;
    assert!(refused.code != 0 && refused.stderr.contains("AOS-1009"), "{}", refused.stderr);
    os.up().await;
    let states = os.cli_json(&["audit", "query", "--action", "agent.state", "--limit", "500"]).await.to_string();
    assert_eq!(states.matches("\"boot\"").count(), 1, "the refused start had no agents: {states}");
    let starts = os.cli_json(&["audit", "query", "--action", "server.start"]).await.to_string();
    assert_eq!(starts.matches("server.start").count(), 2, "nor did it begin: {starts}");
    until("the second attempt", || async { os.client().get_task(&id).await.unwrap().attempt == 2 }).await;
}

#[tokio::test]
async fn an_unsafe_request_in_doubt_waits_for_a_person() {
    // A server that accepts the POST and never answers: the kill comes while the outcome is unknown.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut os = TestOs::start_with(&format!("[dialer]\nprivate_exceptions = [\"127.0.0.1:{port}\"]\n")).await;
    let grant =
        format!("[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://127.0.0.1:{port}/*\"]\n");
    os.deploy(&Package::fetcher("payer", &grant)).await;
    let id =
        os.submit("payer", json!({"url": format!("http://127.0.0.1:{port}/pay"), "method": "POST", "body": "1"})).await;
    let (_held, _) = listener.accept().await.unwrap();
    os.kill().await;
    os.up().await;
    let client = os.client();
    until("the task waits for a person", || async {
        client.get_task(&id).await.unwrap().state == TaskState::InputRequired
    })
    .await;
    let steps = client.task_steps(&id).await.unwrap();
    assert_eq!((steps.len(), steps[0].status.as_str()), (1, "started"));
    drop(listener);
    os.cli_ok(&["task", "cancel", id.as_str()]).await;
    assert_eq!(os.finished(&id).await.state, TaskState::Canceled);
}
