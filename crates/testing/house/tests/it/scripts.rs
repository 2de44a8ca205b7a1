//! Scripts a newcomer runs: they parse, stop at the first failure, and can be executed.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::tree::{expect_none, files, root};

#[test]
fn scripts_are_sound() {
    let mut paths: Vec<String> = files("scripts", &[".sh"]).into_iter().map(|file| file.path).collect();
    paths.push(".ci/run".into());
    let mut findings = Vec::new();
    for path in &paths {
        let full = root().join(path);
        let text = fs::read_to_string(&full).unwrap();
        if !text.starts_with("#!/usr/bin/env bash\n") || !text.contains("\nset -euo pipefail\n") {
            findings.push(format!("{path}: begins with #!/usr/bin/env bash and sets -euo pipefail"));
        }
        if fs::metadata(&full).unwrap().permissions().mode() & 0o111 == 0 {
            findings.push(format!("{path}: is not executable"));
        }
        let parsed = Command::new("bash").arg("-n").arg(&full).output().unwrap();
        if !parsed.status.success() {
            findings.push(format!("{path}: {}", String::from_utf8_lossy(&parsed.stderr).trim()));
        }
    }
    expect_none(findings, "correct the script");
}

/// What the Makefile promises exists.
#[test]
fn targets_of_the_makefile_call_scripts_that_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let findings = makefile
        .split_whitespace()
        .filter(|word| word.starts_with("scripts/"))
        .filter(|word| !root().join(word).is_file())
        .map(str::to_owned)
        .collect();
    expect_none(findings, "write the script or drop the target");
}

/// A name that no test has any more would leave nothing out, and what it stood for would fail or pass unseen.
#[test]
fn what_is_left_out_by_name_is_there() {
    let script = fs::read_to_string(root().join("scripts/test.sh")).unwrap().replace("\\\n", " ");
    let calls = script.lines().filter_map(|line| line.trim().strip_prefix("leave_out_by_name "));
    let names: Vec<&str> = calls.flat_map(str::split_whitespace).collect();
    assert!(names.len() >= 8, "{names:?}");
    let tests: String = files("crates", &[".rs"]).into_iter().map(|file| file.text).collect();
    let is_there = |name: &&str| tests.lines().any(|line| line.contains("fn ") && line.contains(*name));
    let findings = names.into_iter().filter(|name| !is_there(name)).map(|name| format!("no test has '{name}'"));
    expect_none(findings.collect(), "correct the name in scripts/test.sh");
}

/// A test that finds out by itself that it cannot be done passes without having tested.
#[test]
fn no_story_leaves_itself_out() {
    let stories = ["crates/testing/e2e/tests", "crates/testing/wall/tests"].map(|path| files(path, &[".rs"]));
    let says = |text: &str| ["left out: ", "skipped: ", "skipped for"].iter().any(|words| text.contains(words));
    let findings: Vec<String> =
        stories.into_iter().flatten().filter(|file| says(&file.text)).map(|file| file.path).collect();
    expect_none(findings, "let it fail, and let scripts/test.sh leave it out by name, with a warning and counted");
}
