//! Witnesses, with real servers: two nodes that watch each other, the copy of a server that goes on by itself, an old
//! database that was put back, and a log that its owner has cut.

use std::{fs, net::TcpListener, path::Path, process::Stdio};

use agentos_kit::{CliOutput, TestOs, eventually, program, until};
use agentos_scratch::Backend;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// A port that nobody has. It stays the node's own over restarts, as a real node's does.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn key_of(os: &TestOs, name: &str) -> String {
    fs::read_to_string(os.home().join("keys").join(name)).unwrap().trim().to_owned()
}

/// Makes `witness` know the log of `log`, and gives `log` a token for it.
async fn introduce(log: &TestOs, witness: &TestOs, name: &str) {
    witness.cli_ok(&["witness", "add", name, "--public-key", &key_of(log, "audit.vkey")]).await;
    let token = witness.cli_ok(&["-q", "token", "create", name, "--role", "witnessed"]).await;
    let set = log.cli_with_input(&["secret", "set", "witness-token"], token.trim()).await;
    assert_eq!(set.code, 0, "{}", set.stderr);
}

/// The settings of a log with a node as its witness.
fn witnessed_by(witness: &TestOs, port: u16, more: &str) -> String {
    let key = key_of(witness, "witness.vkey");
    format!(
        "[dialer]\nprivate_exceptions = [\"127.0.0.1:{port}\"]\n[audit]\nwitness_interval_s = 1\n\
         witness_nodes = [\"http://127.0.0.1:{port} witness-token {key}\"]\n{more}"
    )
}

fn configure(os: &TestOs, text: &str) {
    fs::write(os.home().join("agent-os.toml"), text).unwrap();
}

/// Waits until the witness of this log holds at least so many records.
async fn held(os: &TestOs, records: u64) -> Value {
    eventually("the witness holds the log", || async {
        let targets = os.cli_json(&["audit", "witness", "status"]).await;
        let target = targets[0].clone();
        if target["size"].as_u64().is_some_and(|size| size >= records) { Ok(target) } else { Err(target) }
    })
    .await
}

async fn records(os: &TestOs) -> u64 {
    let newest = os.cli_json(&["audit", "query", "--limit", "1"]).await;
    newest["items"][0]["seq"].as_u64().unwrap() + 1
}

async fn check_of(os: &TestOs, name: &str) -> (String, String) {
    let health = os.cli_json(&["status"]).await;
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    (check["outcome"].as_str().unwrap().to_owned(), check["message"].as_str().unwrap().to_owned())
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The database as it lies there while nobody has it open: the file and its log.
fn put_database(from: &Path, to: &Path) {
    for name in ["agent-os.db", "agent-os.db-wal", "agent-os.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// Records that the offline judge finds.
async fn judged_records(os: &TestOs) -> u64 {
    os.cli_json(&["audit", "verify"]).await["records"].as_u64().unwrap()
}

/// A start that must not succeed.
async fn refused_start(os: &TestOs) -> CliOutput {
    let output = os.cli(&["up", "--port", "0"]).await;
    assert_ne!(output.code, 0, "the server started and stopped");
    output
}

#[tokio::test]
async fn two_nodes_witness_each_other() {
    let (mut one, mut other) = (TestOs::initialised().await, TestOs::initialised().await);
    let (port_of_one, port_of_other) = (free_port(), free_port());
    one.up_on(port_of_one).await;
    other.up_on(port_of_other).await;
    introduce(&one, &other, "one").await;
    introduce(&other, &one, "other").await;
    assert_eq!((one.down().await, other.down().await), (0, 0));
    configure(&one, &witnessed_by(&other, port_of_other, ""));
    configure(&other, &witnessed_by(&one, port_of_one, ""));
    one.up_on(port_of_one).await;
    other.up_on(port_of_other).await;
    for (log, witness, name) in [(&one, &other, "one"), (&other, &one, "other")] {
        held(log, records(log).await).await;
        let (outcome, message) = check_of(log, "checkpoints reach witnesses").await;
        assert!(outcome == "pass" && message.contains("node:127.0.0.1:"), "{outcome}: {message}");
        assert_eq!(check_of(witness, "witnessed logs are consistent").await.0, "pass");
        // What the witness gives out, and what the log has of it, hold the log to its word.
        let from_witness = witness.cli_ok(&["witness", "show", name, "--notes"]).await;
        let from_log = log.cli_ok(&["audit", "witness", "export"]).await;
        for (file, notes) in [("from-witness", from_witness), ("from-log", from_log)] {
            assert!(notes.contains("agent-os-witness/node-"), "{notes}");
            let path = log.home().join(file);
            fs::write(&path, notes).unwrap();
            let verified = log.cli_json(&["audit", "verify", "--held", path.to_str().unwrap()]).await;
            assert_eq!((&verified["valid"], verified["held"].as_u64() >= Some(1)), (&json!(true), true));
        }
        let metrics = log.client().metrics().await.unwrap();
        assert!(metrics.contains("agentos_witness_refuses{target=\"node:127.0.0.1:"), "{metrics}");
        let doctor = log.cli_ok(&["doctor"]).await;
        assert!(doctor.contains("holds") && doctor.contains("witnessed logs are consistent"), "{doctor}");
        // Witnessing is quiet: nothing of it makes the other's log grow.
        let settled = records(log).await;
        held(log, settled).await;
        assert_eq!(records(log).await, settled);
    }
    // The token of a log opens nothing else.
    let token = other.cli_ok(&["-q", "token", "create", "t", "--role", "witnessed"]).await.trim().to_owned();
    assert!(other.client_with(Some(token)).list_agents().await.is_err());
    assert!(!one.log().contains("REFUSES") && !other.log().contains("REFUSES"));
}

#[tokio::test]
async fn the_copy_of_a_server_that_goes_on_by_itself_is_refused() {
    let (mut log, mut witness) = (TestOs::initialised().await, TestOs::initialised().await);
    let port = free_port();
    witness.up_on(port).await;
    log.up().await;
    introduce(&log, &witness, "log").await;
    assert_eq!(log.down().await, 0);
    configure(&log, &witnessed_by(&witness, port, ""));
    // Two servers from the same copied directory.
    let mut copy = TestOs::bare(&[]);
    copy_tree(log.home(), copy.home());
    log.up().await;
    for number in 0..5 {
        log.cli_ok(&["token", "create", &format!("t{number}"), "--role", "viewer"]).await;
    }
    held(&log, records(&log).await).await;
    // The witness tells at the start that the copy is behind, and nothing is written.
    let before = judged_records(&copy).await;
    let refused = refused_start(&copy).await;
    assert!(refused.stderr.contains("AOS-1925") && refused.stderr.contains("runbook"), "{}", refused.stderr);
    assert_eq!(judged_records(&copy).await, before);
    // A witness that is away keeps nobody from starting; when it is back, the fork has become longer than what is held.
    assert_eq!(witness.down().await, 0);
    copy.up().await;
    for number in 0..9 {
        copy.cli_ok(&["token", "create", &format!("u{number}"), "--role", "viewer"]).await;
    }
    assert!(records(&copy).await > records(&log).await);
    witness.up_on(port).await;
    let target = eventually("the refusal", || async {
        let target = copy.cli_json(&["audit", "witness", "status"]).await[0].clone();
        if target["refused"].is_string() { Ok(target) } else { Err(target) }
    })
    .await;
    assert_eq!(target["refused"], "AOS-1924", "{target}");
    let (outcome, message) = check_of(&copy, "checkpoints reach witnesses").await;
    assert!(outcome == "fail" && message.contains("REFUSES"), "{outcome}: {message}");
    assert!(copy.log().contains("A WITNESS REFUSES THE AUDIT LOG"));
    let told = copy.cli_json(&["audit", "query", "--action", "audit.witness"]).await;
    assert_eq!(
        (&told["items"][0]["decision"], &told["items"][0]["facts"]["code"]),
        (&json!("failed"), &json!("AOS-1924"))
    );
    // The witness's operator sees it too, with the signed proof of it; the true log goes on.
    let shown = witness.cli_json(&["witness", "show", "log"]).await;
    assert!(shown["refused_note"].as_str().is_some_and(|note| note.starts_with("agent-os/node-")), "{shown}");
    assert_eq!(check_of(&witness, "witnessed logs are consistent").await.0, "fail");
    assert_eq!(
        witness.cli_json(&["audit", "query", "--action", "witness.checkpoint"]).await["items"][0]["decision"],
        "denied"
    );
    log.cli_ok(&["token", "create", "after", "--role", "viewer"]).await;
    held(&log, records(&log).await).await;
}

#[tokio::test]
async fn an_old_database_put_back_refuses_the_start_unless_it_is_said_to_be_meant() {
    let mut os = TestOs::initialised().await;
    let notes = tempfile::tempdir().unwrap();
    let file = notes.path().join("witness.notes");
    let settings = format!("[audit]\nwitness_interval_s = 1\nwitness_file = \"{}\"\n", file.display());
    configure(&os, &settings);
    os.up().await;
    assert_eq!(os.down().await, 0);
    let (old, newest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put_database(os.home(), old.path());
    os.up().await;
    os.cli_ok(&["token", "create", "t", "--role", "viewer"]).await;
    assert_eq!(os.down().await, 0);
    let held = fs::read_to_string(&file).unwrap();
    assert!(held.matches("agent-os/node-").count() >= 4, "one note at least for each run: {held}");
    put_database(os.home(), newest.path());
    put_database(old.path(), os.home());
    let refused = refused_start(&os).await;
    assert!(refused.stderr.contains("AOS-1925") && refused.stderr.contains("'file'"), "{}", refused.stderr);
    // The offline judge says the same.
    let verified = os.cli(&["audit", "verify", "--held", file.to_str().unwrap()]).await;
    assert!(verified.code == 5 && verified.stderr.contains("truncated"), "{}", verified.stderr);
    // Said to be meant, it runs, and does not hide it.
    configure(&os, &format!("{settings}witness_contradiction = \"degrade\"\n"));
    os.up().await;
    let (outcome, message) = check_of(&os, "checkpoints reach witnesses").await;
    // With what it writes now, the log is no longer shorter but another one.
    assert!(outcome == "fail" && message.contains("AOS-192"), "{outcome}: {message}");
    let told = os.cli_json(&["audit", "query", "--action", "audit.witness", "--ascending"]).await;
    assert_eq!(told["items"][0]["facts"]["code"], "AOS-1925", "{told}");
    assert_eq!(os.down().await, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), held, "a fork is not written behind the truth");
    // The newest one back, and all is well.
    put_database(newest.path(), os.home());
    configure(&os, &settings);
    os.up().await;
    until("the file is accepted again", || async { check_of(&os, "checkpoints reach witnesses").await.0 == "pass" })
        .await;
}

#[tokio::test]
async fn a_log_is_witnessed_over_a_change_of_its_key() {
    let (mut log, mut witness) = (TestOs::initialised().await, TestOs::initialised().await);
    let port = free_port();
    witness.up_on(port).await;
    log.up().await;
    introduce(&log, &witness, "log").await;
    assert_eq!(log.down().await, 0);
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("witness.notes");
    configure(&log, &witnessed_by(&witness, port, &format!("witness_file = \"{}\"\n", file.display())));
    // The whole directory as it was, with the old key.
    let old = TestOs::bare(&[]);
    copy_tree(log.home(), old.home());
    log.up().await;
    all_hold(&log).await;
    log.cli_ok(&["audit", "rotate-key"]).await;
    all_hold(&log).await;
    let shown = witness.cli_json(&["witness", "show", "log"]).await;
    assert_eq!((shown["rotations"].as_array().unwrap().len(), &shown["refused_code"]), (1, &Value::Null), "{shown}");
    let told = witness.cli_json(&["audit", "query", "--action", "witness.rotation"]).await;
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    // What is held from before and after holds the log to its word, under its first key alone.
    let notes = log.home().join("held");
    fs::write(&notes, witness.cli_ok(&["witness", "show", "log", "--notes"]).await).unwrap();
    for held in [&notes, &file] {
        let verified = log.cli_json(&["audit", "verify", "--held", held.to_str().unwrap()]).await;
        assert_eq!((&verified["valid"], verified["held"].as_u64() >= Some(2)), (&json!(true), true), "{verified}");
    }
    // Over a restart it goes on as before.
    assert_eq!(log.down().await, 0);
    log.up().await;
    all_hold(&log).await;
    assert!(!log.log().contains("REFUSES") && !witness.log().contains("REFUSES"));
    assert_eq!(log.down().await, 0);
    // The old directory knows nothing of the new key; node and file each tell it, and nothing is written.
    let before = judged_records(&old).await;
    let both = fs::read_to_string(old.home().join("agent-os.toml")).unwrap();
    let (by_node, by_file) =
        (witnessed_by(&witness, port, ""), format!("[audit]\nwitness_file = \"{}\"\n", file.display()));
    for settings in [both, by_node, by_file] {
        configure(&old, &settings);
        let refused = refused_start(&old).await;
        assert!(refused.stderr.contains("AOS-1925"), "{}", refused.stderr);
    }
    assert_eq!(judged_records(&old).await, before);
}

/// Waits until every witness of this log holds all that it has now.
async fn all_hold(os: &TestOs) {
    let size = records(os).await;
    until("every witness holds the log", || async {
        let targets = os.cli_json(&["audit", "witness", "status"]).await;
        targets.as_array().unwrap().iter().all(|target| target["size"].as_u64().is_some_and(|held| held >= size))
    })
    .await;
}

/// `agent-os audit export --out -` into a judge that has only the public key.
async fn judged(os: &TestOs, more: &[&str]) -> (i32, String) {
    let segment = os.cli_ok(&["audit", "export", "--out", "-"]).await;
    let mut child = tokio::process::Command::new(program("agent-os-verify"))
        .args(["--segment", "-", "--key"])
        .arg(os.home().join("keys/audit.vkey"))
        .args(more)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(segment.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn on_postgres_an_exported_log_is_judged_by_the_public_key_and_a_cut_one_by_what_was_held() {
    let scratch = Backend::Postgres.blank();
    let (url, admin) = scratch.urls().unwrap();
    let mut os = TestOs::bare(&[("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)]);
    os.cli_ok(&["init"]).await;
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("witness.notes");
    configure(&os, &format!("[audit]\nwitness_interval_s = 1\nwitness_file = \"{}\"\n", file.display()));
    os.up().await;
    let edge = |column: &str| scratch.postgres().ask(&format!("SELECT {column} FROM agent_os.audit_frontier")).unwrap();
    assert_eq!(os.down().await, 0);
    let early = (edge("size"), edge("encode(frontier, 'hex')"), edge("encode(last_leaf, 'hex')"));
    os.up().await;
    for number in 0..8 {
        os.cli_ok(&["token", "create", &format!("t{number}"), "--role", "viewer"]).await;
    }
    let (code, report) = judged(&os, &["--held", file.to_str().unwrap()]).await;
    assert!(code == 0 && report.contains("verified: log 'node-"), "{report}");
    assert_eq!(os.down().await, 0);
    // Who owns the tables takes the end away, with its checkpoints, and puts the edge of the tree back.
    let (size, frontier, last_leaf) = early;
    scratch.postgres().run(&format!(
        "SET session_replication_role = replica;
         DELETE FROM agent_os.audit_record WHERE seq >= {size};
         DELETE FROM agent_os.audit_checkpoint WHERE size > {size};
         UPDATE agent_os.audit_frontier SET size = {size}, frontier = '\\x{frontier}', last_leaf = '\\x{last_leaf}'"
    ));
    let refused = refused_start(&os).await;
    assert!(refused.stderr.contains("AOS-1925"), "{}", refused.stderr);
    // A server that nobody told of the file finds nothing, and what it exports verifies; what was held does not fit.
    configure(&os, "");
    os.up().await;
    assert_eq!(judged(&os, &[]).await.0, 0);
    let (code, report) = judged(&os, &["--held", file.to_str().unwrap()]).await;
    assert!([18, 20].contains(&code), "{code}: {report}");
}
