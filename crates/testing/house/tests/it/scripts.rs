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
