//! Every command block of the README runs, in its order, in one shell.

use std::{path::Path, process::Command};

/// The `sh` and `console` blocks of a markdown text.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_end()) {
            (None, "```sh" | "```console") => open = Some(String::new()),
            (Some(block), "```") => {
                found.push(std::mem::take(block));
                open = None;
            }
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_block_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    // The two that would run this very test again, or take an hour, are proven by running at all.
    let commands: Vec<String> = blocks(&readme)
        .into_iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| {
            !["make test", "make check", "make bench"].iter().any(|slow| line.trim_start().starts_with(slow))
        })
        .collect();
    assert!(commands.iter().any(|line| line.contains("make up")), "the README shows make up");
    let home = tempfile::tempdir().unwrap();
    let script = format!("set -euxo pipefail\ntrap 'make down || true' EXIT\n{}\n", commands.join("\n"));
    let output = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(&root)
        .env("AGENT_OS_HOME", home.path().join("data"))
        .env("PROFILE", "dev")
        .env("PORT", free_port().to_string())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the README's commands failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
