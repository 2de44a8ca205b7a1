//! The command line as scripts use it: exit codes, streams, formats.

use std::os::unix::fs::MetadataExt;

use agentos_kit::{Package, TestOs, eventually};
use serde_json::json;

#[tokio::test]
async fn data_goes_to_stdout_the_rest_to_stderr_and_codes_mean_what_the_docs_say() {
    let mut os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let missing = os.cli(&["task", "show", "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E"]).await;
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    assert!(missing.stderr.starts_with("error[AOS-1201]: "), "{}", missing.stderr);
    assert!(missing.stderr.contains("\nhint: "), "{}", missing.stderr);
    assert_eq!(os.cli(&["task", "shwo"]).await.code, 2);
    let waited = os.cli(&["task", "submit", "echo", "--input", r#"{"action":"nonsense"}"#, "--wait"]).await;
    assert!([0, 4].contains(&waited.code), "{}", waited.stderr);
    assert_eq!(os.cli(&["explain", "AOS-1401"]).await.code, 0);
    os.set_env("AGENT_OS_TOKEN", "aos_wrong");
    assert_eq!(os.cli(&["agent", "list"]).await.code, 6);
    os.set_env("AGENT_OS_TOKEN", "");
    assert_eq!(os.down().await, 0);
    let down = os.cli(&["agent", "list"]).await;
    assert!(down.code == 3 && down.stderr.contains("AOS-1010"), "{} {}", down.code, down.stderr);
}

#[tokio::test]
async fn a_whole_day_of_an_operator() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo(
        "echo",
        "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]",
    ))
    .await;
    let done = os.run_task("echo", json!({"action": "echo", "text": "hi"})).await;
    assert_eq!(done.output, Some(json!({"action": "echo", "text": "hi"})));
    for command in [
        &["status"][..],
        &["agent", "list"],
        &["agent", "show", "echo"],
        &["agent", "logs", "echo"],
        &["task", "list"],
        &["task", "show", done.id.as_str()],
        &["schedule", "list"],
        &["audit", "query"],
        &["token", "list"],
        &["config", "check"],
        &["config", "show", "--origin"],
        &["config", "schema"],
        &["completions", "bash"],
        &["doctor"],
    ] {
        let output = os.cli_ok(command).await;
        assert!(
            !output.is_empty() || command[0] == "config" || command[1] == "logs" || command[0] == "schedule",
            "{command:?}"
        );
    }
    os.cli_ok(&["agent", "pause", "echo"]).await;
    let waiting = os.submit("echo", json!({"action": "echo"})).await;
    os.cli_ok(&["agent", "resume", "echo"]).await;
    assert_eq!(os.finished(&waiting).await.state.as_str(), "completed");
    os.cli_ok(&["agent", "restart", "echo"]).await;
    os.run_task("echo", json!({"action": "echo"})).await;
    os.cli_ok(&["agent", "terminate", "echo"]).await;
    let refused = os.cli(&["task", "submit", "echo"]).await;
    assert!(refused.stderr.contains("AOS-1308"), "{}", refused.stderr);
    let export = os.home().join("audit.jsonl");
    os.cli_ok(&["audit", "export", "--out", export.to_str().unwrap()]).await;
    let verified = std::process::Command::new(agentos_kit::program("agent-os-verify"))
        .arg("--segment")
        .arg(&export)
        .arg("--key")
        .arg(os.home().join("keys/audit.vkey"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn detached_up_and_down() {
    let os = TestOs::initialised().await;
    os.cli_ok(&["up", "--port", "0", "--detach"]).await;
    assert!(os.client().ready().await.unwrap());
    let again = os.cli(&["up", "--port", "0", "--detach"]).await;
    assert!(again.code != 0 && again.stderr.contains("AOS-1101"), "{}", again.stderr);
    os.cli_ok(&["down"]).await;
    assert_eq!(os.cli(&["status"]).await.code, 3);
}

#[tokio::test]
async fn the_log_of_a_detached_server_is_set_aside_and_a_bounded_number_kept() {
    const BYTES_MAX: u64 = 8_192;
    let mut os = TestOs::initialised().await;
    for (name, value) in [("LEVEL", "debug"), ("FILE_BYTES_MAX", &BYTES_MAX.to_string()), ("FILES_MAX", "2")] {
        os.set_env(&format!("AGENT_OS_LOG_{name}"), value);
    }
    os.cli_ok(&["up", "--port", "0", "--detach"]).await;
    let inode = || std::fs::metadata(os.home().join("server.log.1")).map_or(0, |found| found.ino());
    let (client, unknown) = (os.client(), "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap());
    for _ in 0..4 {
        let before = inode();
        eventually("another log set aside", || async {
            // Each refused request is a line.
            assert!(client.get_task(&unknown).await.is_err());
            if inode() == before { Err("not yet") } else { Ok(()) }
        })
        .await;
    }
    os.cli_ok(&["down"]).await;
    let names: Vec<String> = std::fs::read_dir(os.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("server.log"))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let text = std::fs::read_to_string(os.home().join(&name)).unwrap();
        // One line more than its size at the most; whole lines in each.
        let last = text.lines().last().map_or(0, str::len) as u64;
        assert!(
            text.len() as u64 <= BYTES_MAX + last + 1 && (text.is_empty() || text.ends_with('\n')),
            "{name}: {text}"
        );
    }
}
