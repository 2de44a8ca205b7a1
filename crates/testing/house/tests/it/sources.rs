//! What no line of the source may say, or only at one place.

use std::fs;

use crate::tree::{SourceFile, expect_none, files, product, root};

const LINES_MAX: usize = 500;

/// Where `unsafe` is: the launcher acts between fork and exec, the SDK and the egress proxy take over one inherited
/// descriptor each.
const UNSAFE: &[&str] = &[
    "crates/3-runtime/launcher/",
    "crates/3-runtime/egress/src/proxy/inherited.rs",
    "crates/5-apps/sdk/src/socket.rs",
];
/// The one place that decides.
const MINTER: &str = "crates/1-kernel/monitor/src/";
/// The one crate outside the workspace.
const FUZZER: &str = "fuzz";
/// The one place that reads the process's own environment, and hands it on as a value.
const ENVIRONMENT: &str = "crates/app/agent-os/src/";

#[test]
fn unsafe_only_where_it_has_its_reason() {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "(unsafe_code"];
    let elsewhere = |file: &SourceFile| !UNSAFE.iter().any(|place| file.path.starts_with(place));
    expect_none(find(product(), &words, elsewhere), "find a safe way in the standard library or rustix");
    for place in UNSAFE {
        let here = |file: &SourceFile| file.path.starts_with(place);
        assert!(!find(product(), &words, here).is_empty(), "{place} holds no unsafe code any more");
    }
}

/// Crates inherit the workspace's lints, which forbid unsafe code. Those that cannot are written here.
#[test]
fn lints_are_the_workspaces() {
    let own = [
        "crates/3-runtime/egress/Cargo.toml",
        "crates/3-runtime/launcher/Cargo.toml",
        "crates/5-apps/sdk/Cargo.toml",
        "crates/testing/prober/Cargo.toml",
        "fuzz/Cargo.toml",
    ];
    let findings = files("", &["Cargo.toml"])
        .iter()
        .filter(|file| file.path != "Cargo.toml" && !own.contains(&file.path.as_str()))
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| file.path.clone())
        .collect();
    expect_none(findings, "add [lints] workspace = true");
}

/// Whoever can make a Minter can authorize; a second one is a second door.
#[test]
fn only_the_monitor_authorizes() {
    let elsewhere = |file: &SourceFile| !file.path.starts_with(MINTER);
    expect_none(
        find(product(), &["Minter::new", "Minter::default", "Minter("], |file| {
            elsewhere(file) && file.path != "crates/0-contracts/authority/src/authorized.rs"
        }),
        "let the monitor decide",
    );
    let made = find(product(), &["Minter::new()"], |file| file.path.starts_with(MINTER));
    assert_eq!(made.len(), 1, "the monitor makes one Minter: {made:?}");
}

#[test]
fn the_environment_is_read_in_one_place() {
    let words = ["env::var(", "env::vars(", "env::var_os(", "env::vars_os(", "env::set_var(", "env::remove_var("];
    // To a build script cargo speaks in no other way.
    let elsewhere = |file: &SourceFile| !file.path.starts_with(ENVIRONMENT) && !file.path.ends_with("/build.rs");
    expect_none(
        find(product(), &words, elsewhere),
        "take the value as an argument; settings come from agentos_base::config",
    );
}

/// A metric, attribute or convention that is spelled twice is spelled in two ways one day.
#[test]
fn telemetry_is_named_in_one_place() {
    let words = ["\"agentos_", "\"gen_ai.", "\"http.request", "\"http.response", "\"error.type", "\"agentos.task"];
    let names = "crates/1-kernel/base/src/names.rs";
    let elsewhere = |file: &SourceFile| file.path != names && !file.is_test();
    expect_none(find(product(), &words, elsewhere), "take the name from agentos_base::names");
    assert!(!find(product(), &words, |file: &SourceFile| file.path == names).is_empty(), "{names} holds no names");
}

#[test]
fn nothing_is_left_for_later() {
    let mut all = files("crates", &[".rs", ".sql"]);
    for folder in ["benches", "xtask", "examples", "docs", "scripts"] {
        all.extend(files(folder, &[".rs", ".py", ".sh", ".md", ".toml"]));
    }
    // Written in two halves so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("XX", "X:"),
    ];
    let mut findings = Vec::new();
    for file in &all {
        for (index, line) in file.text.lines().enumerate() {
            // In quotes it is the text that a test looks for.
            if words.iter().any(|word| line.contains(word) && !line.contains(&format!("\"{word}\""))) {
                findings.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    expect_none(findings, "finish it, or open an issue and leave no mark");
}

#[test]
fn files_stay_readable() {
    let findings = files("", &[".rs"])
        .iter()
        .filter(|file| !file.is_test())
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.path))
        .collect();
    expect_none(findings, "split the file along a noun; the limit is 500 lines");
}

#[test]
fn every_module_says_what_it_is() {
    let findings = files("", &[".rs"])
        .iter()
        .filter(|file| !file.path.ends_with("/tests.rs"))
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| file.path.clone())
        .collect();
    expect_none(findings, "begin the file with //! and say what, why, and what not");
}

/// Every member folder is in the workspace, so that no crate escapes the tests. One is outside on purpose: the program of
/// the fuzzer needs compiler flags of its own; what it runs is in `crates/testing/fuzz`.
#[test]
fn no_crate_stands_outside_the_workspace() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let findings = files("", &["/Cargo.toml", "Cargo.toml"])
        .iter()
        .filter_map(|file| file.path.strip_suffix("/Cargo.toml").map(str::to_owned))
        .filter(|folder| folder != FUZZER && !workspace.contains(&format!("\"{folder}\"")))
        .collect();
    expect_none(findings, "add it to members in Cargo.toml");
}

/// `path:line: text` for every line of code with one of the words in a file that the filter lets through.
fn find(files: Vec<SourceFile>, words: &[&str], filter: impl Fn(&SourceFile) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| filter(file)) {
        for (number, line) in file.code().filter(|(_, line)| words.iter().any(|word| line.contains(word))) {
            findings.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    findings
}
