//! What a person reads on standard output, for people and for programs.

use agentos_cli::Exit;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::world::{NOW_MS, World, json};

const TASK: &str = "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";

fn task(state: &str) -> Value {
    json!({"id": TASK, "agent": "monitor", "state": state, "input": {"action": "list"}, "attempt": 1, "attempts_max": 5,
        "submitted_by": "token:tok_1", "submitted_at": NOW_MS * 1000, "updated_at": NOW_MS * 1000 + 250_000, "run_at": 0,
        "traceparent": "00-1-2-01", "redrives": 0})
}

fn failed() -> Value {
    let mut task = task("failed");
    task["failure"] = json!({"class": "denied", "code": "AOS-1401", "message": "no grant\u{1b}[31m covers it"});
    task
}

fn agent() -> Value {
    json!({"name": "monitor", "version": "1.0.0", "description": "Watches pages", "state": "ready",
        "trust_level": "supervised",
        "grants": [{"category": "net", "actions": ["fetch"], "resources": ["https://example.com/*"]}],
        "limits": {}, "manifest_sha256": "ab12", "signed_by": "cd34", "pid": 77, "restarts": 2,
        "deployed_at": 0, "state_since": NOW_MS * 1000,
        "usage": {"cpu_ms": 12, "memory_bytes": 1_572_864, "memory_peak_bytes": 2_097_152, "disk_read_bytes": 0,
            "disk_write_bytes": 10},
        "controls": [{"name": "memory limit", "enforcement": "enforced", "reason": ""},
            {"name": "network wall", "enforcement": "not-enforced", "reason": "no sandbox yet"}]})
}

fn event(seq: i64, kind: &str, data: &Value) -> String {
    let event = json!({"task": TASK, "seq": seq, "at": NOW_MS * 1000, "kind": kind, "data": data});
    format!("id: {seq}\ndata: {event}\n\n")
}

fn events(last: &str) -> Response {
    let text = event(1, "state", &json!({"state": "submitted"})) + &event(2, "state", &json!({"state": last}));
    ([("content-type", "text/event-stream")], text).into_response()
}

/// A server with one task in the given state, its events, and one agent.
async fn world(state: &'static str) -> World {
    World::with_server(move |line| match line.split('?').next().unwrap() {
        "GET /api/v1/agents" => json(json!({"items": [agent()]})),
        "GET /api/v1/agents/monitor" => json(agent()),
        "GET /api/v1/tasks" => json(json!({"items": [task(state)], "next_cursor": TASK})),
        path if path.ends_with("/events") && line.contains("limit") => json(json!({"items": []})),
        path if path.ends_with("/events") => events(state),
        _ if state == "failed" => json(failed()),
        _ => json(task(state)),
    })
    .await
}

#[tokio::test]
async fn agents() {
    let world = world("completed").await;
    let list = world.run("agent list").await;
    let expected = "NAME     VERSION  STATE  PID  RESTARTS  MEMORY   SINCE
monitor  1.0.0    ready  77   2         1.5 MiB  2026-11-23T00:00:00.000Z
";
    assert_eq!((list.exit, list.out.as_str(), list.err.as_str()), (Exit::Success, expected, ""));
    let expected = "name:            monitor
version:         1.0.0
description:     Watches pages
state:           ready
since:           2026-11-23T00:00:00.000Z
pid:             77
restarts:        2
trust level:     supervised
grants:          net:fetch on https://example.com/*
memory:          1.5 MiB of 2.0 GiB
memory peak:     2.0 MiB
memory kills:    0
cpu:             12 ms
cpu held up:     0 ms at no limit
processes:       0 of 256, at most 0
workspace:       0 B of 1.0 GiB
disk:            0 B read, 10 B written
egress:          0 B in, 0 B out
tasks at once:   1
calls a minute:  600
controls:        memory limit: enforced
                 network wall: not-enforced (no sandbox yet)
deployed:        1970-01-01T00:00:00.000Z
manifest:        ab12
signed by:       cd34
";
    assert_eq!(world.run("agent show monitor").await.out, expected);
    assert_eq!(world.run("agent list --quiet").await.out, "monitor\n");
}

#[tokio::test]
async fn pages_say_how_to_go_on() {
    let world = world("working").await;
    let table = world.run("task list --agent monitor").await;
    let expected = "ID                               AGENT    STATE    ATTEMPT  SUBMITTED                 UPDATED
task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E  monitor  working  1/5      2026-11-23T00:00:00.000Z  2026-11-23T00:00:00.250Z
";
    assert_eq!((table.out.as_str(), table.err), (expected, format!("more: --cursor {TASK}\n")));
    let document: Value = serde_json::from_str(&world.run("task list -o json").await.out).unwrap();
    assert_eq!(document["next_cursor"], TASK);
    assert_eq!(document["items"][0]["submitted_at"], NOW_MS * 1000);
    let lines = world.run("task list -o jsonl --quiet").await;
    assert_eq!((lines.out.lines().count(), lines.err.as_str()), (1, ""));
    assert_eq!(world.asked()[0], "GET /api/v1/tasks?agent=monitor&limit=50");
}

#[tokio::test]
async fn a_task_is_submitted_and_waited_for() {
    let done = world("completed").await;
    let words = ["task", "submit", "monitor", "--input", "-", "--deadline", "1m", "--wait", "--quiet"];
    let seen = done.run_with(&words, br#"{"action": "list"}"#).await;
    assert_eq!((seen.exit, seen.out, seen.err.as_str()), (Exit::Success, format!("{TASK}\n"), ""));
    let deadline = (NOW_MS + 60_000) * 1000;
    let expected =
        format!(r#"POST /api/v1/tasks {{"agent":"monitor","input":{{"action":"list"}},"deadline_at":{deadline}}}"#);
    assert_eq!(done.asked()[0], expected);

    let failed = world("failed").await;
    let seen = failed.run("task submit monitor --wait").await;
    assert_eq!(seen.exit, Exit::TaskNotCompleted);
    assert!(seen.out.contains("failure:       AOS-1401 [denied] no grant\\u{1b}[31m covers it\n"), "{}", seen.out);
    let remarks: Vec<_> = seen.err.lines().collect();
    assert_eq!(remarks[0], format!("submitted {TASK}"));
    assert_eq!(remarks[1], "   1  2026-11-23T00:00:00.000Z  state     {\"state\":\"submitted\"}");
}

#[tokio::test]
async fn a_watched_task_tells_its_events_and_its_end() {
    let failed = world("failed").await;
    let seen = failed.run(&format!("task watch {TASK}")).await;
    let expected = "   1  2026-11-23T00:00:00.000Z  state     {\"state\":\"submitted\"}
   2  2026-11-23T00:00:00.000Z  state     {\"state\":\"failed\"}
";
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::TaskNotCompleted, expected));
    assert_eq!(seen.err, "failed: AOS-1401: no grant\\u{1b}[31m covers it\n");
    let done = world("completed").await;
    let array = done.run(&format!("task watch {TASK} -o json")).await;
    let array_value: Vec<Value> = serde_json::from_str(&array.out).unwrap();
    assert_eq!((array.exit, array_value.len()), (Exit::Success, 2));
    let lines = done.run(&format!("task watch {TASK} -o jsonl")).await.out;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && lines.lines().count() == 2);
}

#[tokio::test]
async fn json_shows_nothing_that_a_terminal_obeys_and_means_the_same() {
    let mut shown = task("failed");
    shown["failure"] = json!({"class": "permanent", "message": "a\u{9b}31m\u{202e}b\u{7f}\u{1b}[2J"});
    let world = World::with_server(move |_| json(shown.clone())).await;
    for format in ["json", "jsonl"] {
        let out = world.run(&format!("task show {TASK} -o {format}")).await.out;
        assert!(!out.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{out:?}");
        let back: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(back["failure"]["message"], "a\u{9b}31m\u{202e}b\u{7f}\u{1b}[2J");
    }
}

#[tokio::test]
async fn secrets_come_from_standard_input_and_never_go_out_again() {
    let info = json!({"name": "hook", "version": 1, "state": "active", "created_by": "token:x", "created_at": 0});
    let world = World::with_server(move |_| json(info.clone())).await;
    let seen = world.run_with(&["secret", "set", "hook"], b"planted-value\n").await;
    assert_eq!(seen.exit, Exit::Success, "{}", seen.err);
    assert!(!seen.out.contains("planted-value") && !seen.err.contains("planted-value"));
    assert_eq!(world.asked(), [r#"PUT /api/v1/secrets/hook {"value":"planted-value"}"#]);

    let typed = world.run_on(&["secret", "rotate", "hook"], b"planted-value", true, &world.program).await;
    assert_eq!((typed.exit, typed.out.as_str()), (Exit::Usage, ""));
    assert!(typed.err.contains("hint: pipe it in") && !typed.err.contains("planted-value"), "{}", typed.err);
    assert_eq!(world.asked().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn a_new_token_is_shown_once_and_alone_when_quiet() {
    let created = json!({"token": "aos_secret", "id": "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "name": "ci", "role": "auditor", "scopes": ["read", "audit"],
        "family": "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "created_by": "token:x", "created_at": 0, "expires_at": NOW_MS * 1000});
    let world = World::with_server(move |_| json(created.clone())).await;
    let seen = world.run("token create ci --scope read,audit --expires-in 30d").await;
    assert!(
        seen.out.starts_with("token:       aos_secret\n")
            && seen.out.contains("role:        auditor\nscopes:      read,audit\n"),
        "{}",
        seen.out
    );
    assert_eq!(seen.err, "keep the token now: it is not shown again\n");
    assert_eq!(
        world.asked(),
        [r#"POST /api/v1/tokens {"name":"ci","scopes":["read","audit"],"expires_in_s":2592000}"#]
    );
    assert_eq!(world.run("token create ci --scope read -q").await.out, "aos_secret\n");
    assert_eq!(world.run("token create ci --role agent-caller --agent a,b -q").await.out, "aos_secret\n");
    let rotate = "token rotate tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";
    assert_eq!(world.run(&format!("{rotate} --overlap 2h -q")).await.out, "aos_secret\n");
    assert_eq!(
        world.asked()[2..],
        [
            r#"POST /api/v1/tokens {"name":"ci","role":"agent-caller","agents":["a","b"]}"#,
            r#"POST /api/v1/tokens/tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E/rotate {"overlap_s":7200}"#
        ]
    );
}

#[tokio::test]
async fn settings_and_codes_need_no_server() {
    let mut world = World::new();
    std::fs::write(world.path().join("agent-os.toml"), "[log]\nlevel = \"debug\"\n").unwrap();
    world.environment.insert("AGENT_OS_TASKS_LEASE_MS".into(), "20000".into());
    let shown = world.run("config show --origin").await.out;
    let line =
        |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("log.level"), ["log.level", "debug", "file"]);
    assert_eq!(line("tasks.lease_ms"), ["tasks.lease_ms", "20000", "environment"]);
    assert_eq!(line("tasks.queue_max"), ["tasks.queue_max", "100000", "default"]);
    assert!(!world.run("config show").await.out.contains("environment"));
    assert_eq!(world.run("config check").await.exit, Exit::Success);
    let rows: Vec<Value> = serde_json::from_str(&world.run("config schema -o json").await.out).unwrap();
    assert_eq!(rows.len(), agentos_base::config::SETTINGS.len());
    let expected = "AOS-1401: Not granted

cause:  No grant of the agent's manifest covers this action on this resource.
remedy: If it is intended, add the grant to the manifest, raise its version, sign and deploy.
";
    assert_eq!(world.run("explain AOS-1401").await.out, expected);
    assert!(world.run("completions bash").await.out.contains("agent-os"));
}
