//! What an earlier program left is there for the present one: a stored installation of each released schema, upgraded and
//! read through the product. And the commands that look at the schema and change it.

mod crash;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use agentos_kit::{Package, Page, TestOs, python, until};
use agentos_scratch::{Backend, Scratch};
use agentos_types::{agent::AgentState, task::TaskState};
use serde_json::{Value, json};

/// Newest schema of which there is a stored installation.
const STORED: &str = "schema-0001";
const SECRET: &str = "stored-horse-battery-staple-1";
/// Every table of the stored schema; each has rows.
const TABLES: [&str; 16] = [
    "agent",
    "agent_version",
    "audit_checkpoint",
    "audit_frontier",
    "audit_record",
    "installation",
    "kv",
    "notification",
    "schedule",
    "schedule_fire",
    "schema_migration",
    "secret",
    "step",
    "task",
    "task_event",
    "token",
];
/// What belongs to an installation besides its database.
const FILES: [&str; 7] = [
    "installation.json",
    "cli.token",
    "keys/audit.key",
    "keys/audit.vkey",
    "keys/publisher.key",
    "keys/secrets.key",
    "trust/root.json",
];
/// Answers that must be the same after the upgrade, field by field.
const ASKED: [(&str, &[&str]); 7] = [
    ("tasks", &["task", "list"]),
    ("agents", &["agent", "list"]),
    ("notifications", &["agent", "notifications"]),
    ("schedules", &["schedule", "list"]),
    ("secrets", &["secret", "list"]),
    ("tokens", &["token", "list"]),
    ("first records", &["audit", "query", "--ascending", "--limit", "25"]),
];

/// What an agent's answer says of its present process and of the present program.
const LIVE: [&str; 6] = ["instance", "pid", "state_since", "reason", "usage", "controls"];

/// When the stored tokens end.
const YEAR_3000: i64 = 32_503_680_000_000_000;

fn stored(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stored").join(STORED).join(kind)
}

/// An agent that counts in its values, tells, and fetches with a secret.
fn keeper(port: u16) -> Package {
    let script = include_str!("../../../../../examples/python/echo/echo_agent.py").replace(
        "    if action == \"count\":",
        "    if action == \"note\":\n        task.call(\"note\", \"notify.event\", kind=\"watch.noted\", data=task.input)\n    \
             if action == \"ask\":\n        return task.call(\"ask\", \"net.fetch\", url=task.input[\"url\"], \
         headers={\"authorization\": \"Bearer ${secret:api-key}\"})\n    if action == \"fail\":\n        \
         raise ValueError(\"on purpose\")\n    if action == \"count\":",
    );
    assert!(script.contains("watch.noted") && script.contains("on purpose"));
    let grant = |category: &str, actions: &str, resource: &str| {
        format!("[[grants]]\ncategory = \"{category}\"\nactions = [{actions}]\nresources = [\"{resource}\"]\n")
    };
    let grants = [
        grant("kv", "\"read\", \"write\"", "*"),
        grant("notify", "\"event\"", "event:watch.*"),
        grant("net", "\"fetch\"", &format!("http://127.0.0.1:{port}/*")),
        grant("secret", "\"use\"", "api-key@127.0.0.1"),
    ];
    Package::python("keeper", &script, &grants.concat())
}

/// What is stored has a date, and must still be there when it is old.
fn config(page: &Page) -> String {
    format!(
        "[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\"]\n[schedules]\ninterval_min_s = 1\n
         [retention]\naudit_log_days = 36500\ntask_days = 0\ndead_letter_days = 0\nevent_days = 0\ncredential_days = 0\n",
        page.port()
    )
}

/// Runs a few lines of Python with SQLite in it.
fn sqlite(script: &str, arguments: &[&Path]) -> String {
    let mut command = Command::new(python());
    let output = command.arg("-c").arg(format!("import sqlite3, sys\n{script}")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The stored installation in a place of its own, not running.
fn installed(kind: &str) -> (Option<Scratch>, TestOs) {
    let scratch = (kind == "postgres").then(|| Backend::Postgres.blank());
    let os = match scratch.as_ref().and_then(Scratch::urls) {
        Some((url, admin)) => TestOs::bare(&[("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)]),
        None => TestOs::bare(&[]),
    };
    for directory in ["keys", "trust", "packages", "work"] {
        fs::create_dir(os.home().join(directory)).unwrap();
        fs::set_permissions(os.home().join(directory), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(os.home(), fs::Permissions::from_mode(0o700)).unwrap();
    for file in FILES {
        fs::copy(stored(kind).join(file), os.home().join(file)).unwrap();
        fs::set_permissions(os.home().join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let dump = stored(kind).join("database.sql");
    let counts: Vec<String> = match &scratch {
        Some(scratch) => {
            scratch.postgres().run(&fs::read_to_string(dump).unwrap());
            let count = |table| scratch.postgres().ask(&format!("SELECT count(*) FROM agent_os.{table}")).unwrap();
            TABLES.iter().map(count).collect()
        }
        None => {
            let load = "db = sqlite3.connect(sys.argv[1])\ndb.executescript(open(sys.argv[2]).read())\n\
                        for name in sys.argv[3:]: print(db.execute('SELECT count(*) FROM ' + name).fetchone()[0])";
            let mut arguments = vec![os.home().join("agent-os.db"), dump];
            arguments.extend(TABLES.iter().map(PathBuf::from));
            sqlite(load, &arguments.iter().map(PathBuf::as_path).collect::<Vec<_>>())
                .lines()
                .map(str::to_owned)
                .collect()
        }
    };
    for (table, count) in TABLES.iter().zip(&counts) {
        assert_ne!(count, "0", "the stored table {table} is empty");
    }
    (scratch, os)
}

/// Everything that the old program said is still said. What the new one says besides is its own matter.
fn assert_holds(place: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let lasting = |key: &str| match key {
                // Moved when it was stored.
                "expires_at" => !place.starts_with(".tokens"),
                _ => !place.starts_with(".agents") || !LIVE.contains(&key),
            };
            for (key, value) in old.iter().filter(|(key, _)| lasting(key)) {
                assert!(new.contains_key(key), "{place}.{key} is gone");
                assert_holds(&format!("{place}.{key}"), value, &new[key]);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{place}");
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                assert_holds(&format!("{place}[{index}]"), old, new);
            }
        }
        _ => assert_eq!(old, new, "{place}"),
    }
}

async fn answers(os: &TestOs) -> Value {
    let mut all = serde_json::Map::new();
    for (name, command) in ASKED {
        all.insert(name.into(), os.cli_json(command).await);
    }
    let tasks = all["tasks"]["items"].as_array().unwrap().clone();
    for task in tasks {
        let id = task["id"].as_str().unwrap();
        all.insert(id.into(), os.cli_json(&["task", "show", id, "--steps"]).await);
    }
    Value::Object(all)
}

/// The whole story of one upgrade.
async fn upgrade(kind: &str) {
    let page = Page::serve("hello").await;
    let (_scratch, mut os) = installed(kind);
    fs::write(os.home().join("agent-os.toml"), config(&page)).unwrap();
    let before = os.cli_json(&["migrate", "status"]).await;
    assert_eq!(before["schema"], 1, "{before}");
    let pending = before["migrations"].as_array().unwrap().iter().filter(|line| line["state"] == "pending").count();
    os.up().await;
    let backups = fs::read_dir(os.home().join("backups")).map_or(0, Iterator::count);
    assert_eq!(backups, usize::from(pending > 0), "a change is backed up, and nothing else is");

    let expected: Value = serde_json::from_slice(&fs::read(stored(kind).join("expected.json")).unwrap()).unwrap();
    assert_holds("", &expected, &answers(&os).await);
    let verified = os.cli_json(&["audit", "verify"]).await;
    assert_eq!(verified["valid"], true, "{verified}");
    // The work goes on: the waiting task is done, with the values and the secret of before.
    let waiting = expected["tasks"]["items"].as_array().unwrap().iter().find(|task| task["state"] == "submitted");
    let waiting = waiting.unwrap()["id"].as_str().unwrap().parse().unwrap();
    let package = keeper(page.port()).with_version("2.0.0");
    let directory = package.path().to_str().unwrap();
    os.cli_ok(&["sign", directory]).await;
    os.cli_ok(&["agent", "deploy", directory]).await;
    os.cli_ok(&["agent", "resume", "keeper"]).await;
    let done = os.finished(&waiting).await;
    assert_eq!((done.state, done.output), (TaskState::Completed, Some(json!(3))), "{:?}", done.failure);
    let asked = os.run_task("keeper", json!({"action": "ask", "url": page.url("/")})).await;
    assert_eq!(asked.state, TaskState::Completed, "{:?}", asked.failure);
    assert!(page.requests()[0].contains(&format!("Bearer {SECRET}")), "the stored secret opens");
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
    assert_eq!(os.down().await, 0);
    let after = os.cli_json(&["migrate", "status"]).await;
    assert_eq!(after["schema"], after["known"]);
}

#[tokio::test]
async fn a_stored_installation_of_the_first_schema_goes_on_on_sqlite() {
    upgrade("sqlite").await;
}

#[tokio::test]
async fn a_stored_installation_of_the_first_schema_goes_on_on_postgres() {
    upgrade("postgres").await;
}

/// Writes the stored installations with the present program. They are made once, by the release that ends a schema, and
/// then never again: AGENTOS_STORE=schema-NNNN names the directory.
async fn store(kind: &str, into: &Path) {
    let page = Page::serve("hello").await;
    let scratch = (kind == "postgres").then(|| Backend::Postgres.blank());
    let mut os = match scratch.as_ref().and_then(Scratch::urls) {
        Some((url, admin)) => TestOs::bare(&[("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)]),
        None => TestOs::bare(&[]),
    };
    os.cli_ok(&["init"]).await;
    fs::write(os.home().join("agent-os.toml"), config(&page)).unwrap();
    os.up().await;
    let set = os.cli_with_input(&["secret", "set", "api-key"], &format!("{SECRET}\n")).await;
    assert_eq!(set.code, 0, "{}", set.stderr);
    os.cli_ok(&["token", "create", "auditor", "--role", "auditor"]).await;
    os.deploy(&keeper(page.port())).await;
    for input in [json!({"action": "note"}), json!({"action": "count"}), json!({"action": "count"})] {
        assert_eq!(os.run_task("keeper", input).await.state, TaskState::Completed);
    }
    assert_eq!(os.run_task("keeper", json!({"action": "fail"})).await.state, TaskState::Failed);
    let every = ["schedule", "create", "keeper", "often", "--every", "1s"];
    let schedule = os.cli_json(&every).await["id"].as_str().unwrap().to_owned();
    until("a firing", || async { os.cli_json(&["schedule", "show", &schedule]).await["fired"] != json!(0) }).await;
    os.cli_ok(&["schedule", "pause", &schedule]).await;
    until("all tasks to end", || async {
        let tasks = os.cli_json(&["task", "list"]).await;
        tasks["items"].as_array().unwrap().iter().all(|task| task["state"] == "completed" || task["state"] == "failed")
    })
    .await;
    os.cli_ok(&["agent", "pause", "keeper"]).await;
    os.agent_in(&"keeper".parse().unwrap(), &[AgentState::Paused]).await;
    os.submit("keeper", json!({"action": "count"})).await;
    let expected = answers(&os).await;
    assert_eq!(os.down().await, 0);
    for file in FILES.iter().chain(&["expected.json"]) {
        fs::create_dir_all(into.join(file).parent().unwrap()).unwrap();
        if os.home().join(file).exists() {
            fs::copy(os.home().join(file), into.join(file)).unwrap();
        }
    }
    fs::write(into.join("expected.json"), serde_json::to_vec_pretty(&expected).unwrap()).unwrap();
    // Nothing of the product writes there for long; the tokens must outlive every run of this test; the first program's
    // memory had no place for what later ones say.
    let touch = [
        "INSERT INTO installation (name, value) VALUES ('stored', 'note')".to_owned(),
        format!("UPDATE token SET expires_at = {YEAR_3000}"),
    ];
    let first = ["runs_from", "applied_by"].map(|column| format!("ALTER TABLE schema_migration DROP COLUMN {column}"));
    let dump = match &scratch {
        Some(scratch) => {
            scratch
                .postgres()
                .run(&format!("SET search_path = agent_os; {}", [&touch[..], &first[..]].concat().join("; ")));
            scratch.postgres().whole_dump()
        }
        None => {
            let script = format!(
                "db = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor text in {:?}: db.execute(text)\n\
                 print('\\n'.join(db.iterdump()))",
                [&touch[..], &first[..]].concat()
            );
            sqlite(&script, &[&os.home().join("agent-os.db")])
        }
    };
    fs::write(into.join("database.sql"), dump).unwrap();
}

#[tokio::test]
async fn what_is_stored_can_be_made_again() {
    let scratch = tempfile::tempdir().unwrap();
    let named = std::env::var("AGENTOS_STORE").ok();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("stored");
    let root = named.map_or_else(|| scratch.path().to_owned(), |name| kept.join(name));
    for kind in ["sqlite", "postgres"] {
        store(kind, &root.join(kind)).await;
        assert!(fs::read_to_string(root.join(kind).join("database.sql")).unwrap().contains("audit_record"));
    }
}

#[tokio::test]
async fn the_commands_look_and_change_only_while_the_server_is_stopped() {
    let mut os = TestOs::start().await;
    let refused = os.cli(&["migrate", "status"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("AOS-1101"), "{}", refused.stderr);
    assert_eq!(os.down().await, 0);
    let status = os.cli_json(&["migrate", "status"]).await;
    let known = status["known"].as_i64().unwrap();
    assert_eq!((&status["schema"], &status["database"]), (&json!(known), &json!("SQLite")));
    assert_eq!(os.cli(&["migrate", "plan", "--check"]).await.code, 0);
    let up = os.cli_json(&["migrate", "up"]).await;
    assert_eq!((&up["changed"], &up["backup"]), (&json!(false), &Value::Null));
    let far = os.cli(&["migrate", "down", "--to", "999"]).await;
    assert_eq!(far.code, 2, "{}", far.stderr);
    // A program of a later release was here, and nobody less may run.
    sqlite(
        "db = sqlite3.connect(sys.argv[1])\n\
         db.execute(\"INSERT INTO schema_migration VALUES (9001, 'later', '', 0, 9001, '9.0.0')\")\ndb.commit()",
        &[&os.home().join("agent-os.db")],
    );
    for command in [&["up", "--port", "0"][..], &["migrate", "status"], &["migrate", "up"]] {
        let refused = os.cli(command).await;
        assert_eq!(refused.code, 1, "{command:?}");
        for word in ["AOS-1104", "schema 9001", "release 9.0.0", &format!("migrate down --to {known}"), "backup"] {
            assert!(refused.stderr.contains(word), "{command:?}: '{word}' is missing: {}", refused.stderr);
        }
    }
    // It may be one that lets this program run.
    sqlite(
        "db = sqlite3.connect(sys.argv[1])\ndb.execute('UPDATE schema_migration SET runs_from = 1 WHERE number = 9001')\n\
         db.commit()",
        &[&os.home().join("agent-os.db")],
    );
    os.up().await;
    os.deploy(&Package::echo("echo", "")).await;
    let done = os.run_task("echo", json!({"action": "echo", "text": "x"})).await;
    assert_eq!(done.state, TaskState::Completed);
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
    assert_eq!(os.cli_json(&["status"]).await["schema"], 9001);
    assert_eq!(os.down().await, 0);
}
