//! What `--help` says, for every command, in one file that a person reviews.

use std::{fs, path::Path};

use agentos_cli::{command, reference_markdown};

/// `AGENTOS_BLESS=1` writes the file anew.
const BLESS: &str = "AGENTOS_BLESS";

fn pages(mut at: clap::Command, path: &str, text: &mut String) {
    let name = format!("{path} {}", at.get_name()).trim().to_owned();
    let page = at.render_long_help().to_string();
    text.push_str(&format!("===== {name} --help\n{}\n\n", page.trim_end()));
    for inner in at.get_subcommands() {
        pages(inner.clone(), &name, text);
    }
}

#[test]
fn help_is_as_reviewed() {
    let mut root = command().term_width(100);
    root.build();
    let mut text = String::new();
    pages(root, "", &mut text);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/help.txt");
    if std::env::var_os(BLESS).is_some() {
        fs::write(&file, &text).unwrap();
    }
    let reviewed = fs::read_to_string(&file).unwrap_or_default();
    let first_difference = reviewed.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(reviewed == text, "help changed; review it and run with {BLESS}=1: {first_difference:?}");
}

#[test]
fn the_reference_is_plain_and_repeatable() {
    let page = reference_markdown();
    assert_eq!(page, reference_markdown());
    for part in
        ["| 5 | the audit log does not verify |", "`-o`, `--output FORMAT`", "agent-os task submit [OPTIONS] AGENT"]
    {
        assert!(page.contains(part), "{part} is missing:\n{page}");
    }
    assert!(!page.contains('\u{1b}') && !page.contains("TODO"));
}
