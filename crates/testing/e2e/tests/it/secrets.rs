//! A planted secret is used by an agent and found nowhere: not on disk, not in logs, audit, errors, process list or the
//! worker's environment.

use std::{fs, path::Path};

use agentos_kit::{Package, Page, TestOs};
use serde_json::{Value, json};

const PLANTED: &str = "correct-horse-battery-staple-42";

fn grants(port: u16) -> String {
    format!(
        "[[grants]]\ncategory = \"net\"\nactions = [\"fetch\"]\nresources = [\"http://127.0.0.1:{port}/*\"]\n\
         [[grants]]\ncategory = \"secret\"\nactions = [\"use\"]\nresources = [\"api-key@127.0.0.1\"]\n"
    )
}

fn asking(page: &Page, authorization: &str) -> Value {
    json!({"url": page.url("/"), "headers": {"authorization": authorization}})
}

/// Every file beneath a directory that holds the needle.
fn files_with(directory: &Path, needle: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_with(&path, needle, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn a_planted_secret_reaches_its_host_and_nothing_else() {
    let page = Page::serve(&format!("echo: {PLANTED}")).await;
    let config = format!("[dialer]\nprivate_exceptions = [\"127.0.0.1:{}\"]\n[log]\nlevel = \"trace\"\n", page.port());
    let mut os = TestOs::start_with(&config).await;
    let set = os.cli_with_input(&["secret", "set", "api-key"], &format!("{PLANTED}\n")).await;
    assert_eq!(set.code, 0, "{}", set.stderr);
    os.deploy(&Package::fetcher("caller", &grants(page.port()))).await;

    let task = os.run_task("caller", asking(&page, "Bearer ${secret:api-key}")).await;
    let shown = serde_json::to_string(&task).unwrap();
    assert_eq!(task.state.as_str(), "completed", "{shown}");
    assert!(page.requests()[0].contains(&format!("Bearer {PLANTED}")), "the granted host gets it");
    assert!(!shown.contains(PLANTED) && shown.contains("[redacted]"), "an echo of it is masked: {shown}");

    let other = Page::serve("").await;
    let denied = os.run_task("caller", asking(&other, "${secret:api-key}")).await;
    assert_eq!(denied.state.as_str(), "failed");
    assert!(other.requests().is_empty(), "another host gets nothing");

    for word in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(word.path().join(file)).unwrap_or_default();
            let own = word.file_name().to_string_lossy() == std::process::id().to_string();
            assert!(
                own || !bytes.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes()),
                "{:?} {file}",
                word.path()
            );
        }
    }
    for command in [&["secret", "list"][..], &["audit", "query"], &["agent", "logs", "caller"], &["task", "list"]] {
        let output = os.cli_ok(command).await;
        assert!(!output.contains(PLANTED), "{command:?}");
    }
    assert_eq!(os.down().await, 0);
    let mut found = Vec::new();
    files_with(os.home(), PLANTED, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_never_comes_from_an_argument_and_dies_when_revoked() {
    let os = TestOs::start().await;
    let refused = os.cli(&["secret", "set", "api-key", PLANTED]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert_eq!(os.cli_with_input(&["secret", "set", "api-key"], "short").await.code, 2);
    assert_eq!(os.cli_with_input(&["secret", "set", "api-key"], PLANTED).await.code, 0);
    assert_eq!(os.cli_with_input(&["secret", "rotate", "api-key"], "another-long-value").await.code, 0);
    os.cli_ok(&["secret", "revoke", "api-key"]).await;
    let again = os.cli(&["secret", "revoke", "api-key"]).await;
    assert!(again.stderr.contains("AOS-1801"), "{}", again.stderr);
}
