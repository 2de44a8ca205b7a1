//! Every link of the documentation leads somewhere, and every page is in the table of contents.

use std::{collections::BTreeSet, fs, path::Path};

use crate::tree::{SourceFile, expect_none, files, root};

#[test]
fn relative_links_resolve() {
    let mut findings = Vec::new();
    for page in pages() {
        for target in links(&page.text) {
            if let Err(problem) = resolve(&page, &target) {
                findings.push(format!("{}: {target} {problem}", page.path));
            }
        }
    }
    expect_none(findings, "correct the link");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/src/SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&summary).into_iter().map(|target| format!("docs/src/{target}")).collect();
    let findings = files("docs/src", &[".md"])
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path != "docs/src/SUMMARY.md" && !listed.contains(path))
        .collect();
    expect_none(findings, "add the page to docs/src/SUMMARY.md; error pages come from `cargo xtask gen`");
}

#[test]
fn the_map_stays_small() {
    let lines = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap().lines().count();
    assert!(lines <= 400, "ARCHITECTURE.md has {lines} lines; it must fit in the head");
}

fn pages() -> Vec<SourceFile> {
    files("", &[".md"])
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Odd parts stand between backticks.
        for prose in line.split('`').step_by(2) {
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.map(str::to_owned));
        }
        // A link whose text is code is cut by the backticks: `](target)` then begins the next prose part.
    }
    found
}

fn resolve(page: &SourceFile, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let here = root().join(&page.path);
    let file = if path.is_empty() { here } else { here.parent().unwrap_or(Path::new("/")).join(path) };
    if !file.exists() {
        return Err("does not exist".into());
    }
    if anchor.is_empty() || !file.is_file() {
        return Ok(());
    }
    let text = fs::read_to_string(&file).map_err(|source| source.to_string())?;
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|rest| slug(rest.trim_start_matches('#')));
    let mut headings = headings;
    if headings.any(|heading| heading == anchor) { Ok(()) } else { Err("has no such heading".into()) }
}

/// The anchor that renderers give to a heading.
fn slug(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            kept if kept.is_alphanumeric() || kept == '-' || kept == '_' => Some(kept),
            _ => None,
        })
        .collect()
}

#[test]
fn links_are_found_outside_code_only() {
    let text = "see [a](a.md) and [`b`](b.md#x), not `[c](c.md)`\n```\n[d](d.md)\n```\n";
    assert_eq!(links(text), ["a.md", "b.md#x"]);
    assert_eq!(slug(" What a worker finds: `fd 3` "), "what-a-worker-finds-fd-3");
}
