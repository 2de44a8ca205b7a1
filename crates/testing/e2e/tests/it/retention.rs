//! Retention as an operator meets it: what is shown, what a run does, who may ask for one.

use agentos_kit::{Package, ShiftedClock, TestOs};
use agentos_types::{Code, agent::AgentState};
use serde_json::{Value, json};

const DAY_S: i64 = 86_400;

fn rows(items: &Value, kind: &str, field: &str) -> i64 {
    let items = items.as_array().or_else(|| items["items"].as_array()).cloned().unwrap_or_default();
    items.iter().find(|item| item["kind"] == kind).and_then(|item| item[field].as_i64()).unwrap_or(0)
}

#[tokio::test]
async fn what_is_too_old_goes_and_what_is_open_stays() {
    let clock = ShiftedClock::new();
    let mut os = TestOs::bare(&[("TASK_RETENTION_DAYS", "5"), ("DEAD_LETTER_RETENTION_DAYS", "0")]);
    for (name, value) in clock.environment() {
        os.set_env(name, &value);
    }
    os.cli_ok(&["init"]).await;
    os.up().await;
    os.deploy(&Package::echo("echo", "")).await;
    let done = os.run_task("echo", json!({"action": "echo"})).await.id;
    os.cli_ok(&["agent", "pause", "echo"]).await;
    let open = os.submit("echo", json!({"action": "echo"})).await;
    let shown = os.cli_json(&["retention", "show"]).await;
    assert_eq!((&shown["policy"]["task_days"], &shown["policy"]["event_days"]), (&json!(5), &json!(30)));
    assert!(shown["next_at"].is_i64() && shown["last_run"].is_null(), "{shown}");

    clock.advance_s(6 * DAY_S);
    let preview = os.cli_json(&["retention", "run", "--dry-run"]).await;
    assert_eq!((rows(&preview, "tasks", "rows"), rows(&preview, "events", "rows")), (1, 3), "{preview}");
    assert_eq!(os.client().get_task(&done).await.unwrap().id, done, "a dry run takes nothing");
    let run = os.cli_json(&["retention", "run", "--wait"]).await;
    assert_eq!(
        (rows(&run["counts"], "tasks", "rows_last"), rows(&run["counts"], "events", "rows_last")),
        (1, 3),
        "{run}"
    );
    assert_eq!(os.client().get_task(&done).await.unwrap_err().code, Code::TASK_NOT_FOUND);
    let table = os.cli_ok(&["retention", "show"]).await;
    assert!(table.contains("5 days") && table.contains("for ever") && table.contains("1 tasks"), "{table}");
    let metrics = os.client().metrics().await.unwrap();
    assert!(metrics.contains("agentos_retention_rows_total{kind=\"tasks\"} 1"), "{metrics}");
    assert!(metrics.contains("agentos_retention_last_run_timestamp_seconds "), "{metrics}");
    let records = os.cli_json(&["audit", "query", "--action", "retention.run"]).await;
    let records = records["items"].as_array().or_else(|| records.as_array()).cloned().unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((&records[0]["phase"], &records[0]["facts"]["tasks"]), (&json!("outcome"), &json!(1)));
    assert_eq!((&records[1]["phase"], &records[1]["actor"]["kind"]), (&json!("intent"), &json!("token")));

    // What was open all the time is done as if nothing had been.
    os.cli_ok(&["agent", "resume", "echo"]).await;
    assert_eq!(os.finished(&open).await.state.as_str(), "completed");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

#[tokio::test]
async fn all_may_look_and_only_an_admin_may_prune() {
    let os = TestOs::start().await;
    for (role, sees) in [("viewer", true), ("auditor", true), ("operator", true), ("agent-caller", false)] {
        let agents: &[&str] = if sees { &[] } else { &["--agent", "echo"] };
        let made = os.cli_json(&[&["token", "create", role, "--role", role], agents].concat()).await;
        let client = os.client_with(made["token"].as_str().map(str::to_owned));
        assert_eq!(client.retention().await.is_ok(), sees, "{role}");
        assert_eq!(client.preview_retention().await.unwrap_err().code, Code::FORBIDDEN, "{role}");
        assert_eq!(client.run_retention().await.unwrap_err().code, Code::FORBIDDEN, "{role}");
    }
    let nobody = os.client_with(None);
    assert_eq!(nobody.retention().await.unwrap_err().code, Code::UNAUTHENTICATED);
    assert!(os.client().run_retention().await.is_ok());
}

#[tokio::test]
async fn a_run_that_was_asked_for_survives_the_death_of_the_server() {
    let mut os = TestOs::start().await;
    os.client().run_retention().await.unwrap();
    os.kill().await;
    os.up().await;
    let client = os.client();
    agentos_kit::until("the run goes on by itself", || async { !client.retention().await.unwrap().running }).await;
    let run = client.retention().await.unwrap().last_run.unwrap();
    assert!(run.asked_by.starts_with("token:") && run.failure.is_none(), "{run:?}");
}

#[tokio::test]
async fn days_of_the_audit_log_go_with_a_run_unless_they_go_by_hand() {
    let clock = ShiftedClock::new();
    let mut os = TestOs::bare(&[("AUDIT_LOG_RETENTION_DAYS", "2"), ("AUDIT_LOG_PRUNE", "by-hand")]);
    for (name, value) in clock.environment() {
        os.set_env(name, &value);
    }
    os.cli_ok(&["init"]).await;
    os.up().await;
    os.cli_ok(&["token", "create", "daily", "--role", "viewer"]).await;
    clock.advance_s(6 * DAY_S);
    let run = os.cli_json(&["retention", "run", "--wait"]).await;
    assert_eq!(rows(&run["counts"], "audit-records", "rows_last"), 0, "{run}");

    os.unset_env("AUDIT_LOG_PRUNE");
    assert_eq!(os.down().await, 0);
    os.up().await;
    let run = os.cli_json(&["retention", "run", "--wait"]).await;
    assert!(rows(&run["counts"], "audit-records", "rows_last") > 0, "{run}");
    let oldest = os.cli_json(&["audit", "query", "--ascending", "--limit", "1"]).await;
    let oldest = oldest["items"].as_array().or_else(|| oldest.as_array()).cloned().unwrap();
    assert!(oldest[0]["seq"].as_i64().unwrap() > 0, "{oldest:?}");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}

/// After a run, those of all runs: the daily one may have come first.
async fn packages_pruned(os: &TestOs) -> i64 {
    let run = os.cli_json(&["retention", "run", "--wait"]).await;
    rows(&run["counts"], "packages", "rows_total")
}

#[tokio::test]
async fn packages_that_nobody_needs_go_and_those_of_a_restored_backup_stay() {
    let clock = ShiftedClock::new();
    let mut os = TestOs::bare(&[("PACKAGE_RETENTION_DAYS", "30")]);
    for (name, value) in clock.environment() {
        os.set_env(name, &value);
    }
    os.cli_ok(&["init"]).await;
    os.up().await;
    let packages = os.home().join("packages");
    let there = |name: &str| packages.join(name).is_dir();
    os.deploy(&Package::echo("echo", "")).await;
    os.deploy(&Package::echo("other", "")).await;
    // As a deployment leaves it that was refused after its files were there; and what is nobody's package.
    std::fs::create_dir_all(packages.join("stranger/1.0.0")).unwrap();
    std::fs::create_dir_all(packages.join("echo/notes")).unwrap();
    std::os::unix::fs::symlink(packages.join("echo/1.0.0"), packages.join("echo/0.9.0")).unwrap();
    clock.advance_s(20 * DAY_S);
    os.deploy(&Package::echo("echo", "").with_version("2.0.0")).await;
    assert_eq!(packages_pruned(&os).await, 0);
    // Of the version before it is 29 days since it was replaced; nobody ever named the stranger's.
    clock.advance_s(29 * DAY_S);
    assert_eq!(packages_pruned(&os).await, 1);
    assert!(there("echo/1.0.0") && there("echo/2.0.0") && !there("stranger"));
    clock.advance_s(2 * DAY_S);
    let preview = os.cli_json(&["retention", "run", "--dry-run"]).await;
    assert_eq!(rows(&preview, "packages", "rows"), 1, "{preview}");
    assert_eq!(packages_pruned(&os).await, 2);
    assert!(!there("echo/1.0.0") && there("echo/2.0.0") && there("other/1.0.0") && there("echo/notes"));
    assert!(packages.join("echo/0.9.0").is_symlink());
    let records = os.cli_json(&["audit", "query", "--action", "package.prune"]).await;
    let records = records["items"].as_array().or_else(|| records.as_array()).cloned().unwrap();
    let named: Vec<&Value> = records.iter().map(|record| &record["resource"]).collect();
    assert_eq!(named, [&json!("echo@1.0.0"), &json!("stranger@1.0.0")]);

    os.cli_ok(&["agent", "terminate", "other"]).await;
    os.agent_in(&"other".parse().unwrap(), &[AgentState::Terminated]).await;
    clock.advance_s(31 * DAY_S);
    assert_eq!(packages_pruned(&os).await, 3);
    assert!(!there("other"), "its files may go, and its name comes back with a package");
    os.deploy(&Package::echo("other", "").with_version("1.1.0")).await;
    assert_eq!(os.run_task("other", json!({"action": "echo"})).await.state.as_str(), "completed");
    assert_eq!(os.run_task("echo", json!({"action": "echo"})).await.state.as_str(), "completed");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
}
