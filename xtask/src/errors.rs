//! One page for each error code, their index, and their lines in the table of contents.

use std::{fmt::Write, fs, path::Path};

use agentos_types::code::{CATALOGUE, CodeEntry};
use anyhow::{Context, Result};

use crate::files::Generated;

pub const FOLDER: &str = "docs/src/errors";
const SUMMARY: &str = "docs/src/SUMMARY.md";
/// Everything below this line of the table of contents is generated.
const SUMMARY_LINE: &str = "- [All codes](errors/README.md)";

/// Hundreds of the catalogue with the part of the system that they belong to.
const CHAPTERS: &[(u16, &str)] = &[
    (10, "Start and configuration"),
    (11, "Store"),
    (12, "Tasks and schedules"),
    (13, "Manifests, trust, agents"),
    (14, "The monitor's refusals"),
    (15, "Workers"),
    (16, "Tools"),
    (17, "Gateway"),
    (18, "Secrets"),
    (19, "Audit"),
];

pub fn pages() -> Vec<Generated> {
    let mut pages: Vec<Generated> =
        CATALOGUE.iter().map(|entry| Generated::new(format!("{FOLDER}/{}.md", entry.code), page(entry))).collect();
    pages.push(Generated::new(format!("{FOLDER}/README.md"), index()));
    pages
}

fn page(entry: &CodeEntry) -> String {
    format!(
        "# {code}: {title}\n\n**Cause.** {cause}\n\n**Remedy.** {remedy}\n\n\
         Over HTTP this is a problem document with status {status} and the type `{kind}`. \
         `agent-os explain {code}` prints this page's text.\n",
        code = entry.code,
        title = entry.title,
        cause = entry.cause,
        remedy = entry.remedy,
        status = entry.http_status,
        kind = entry.code.page(),
    )
}

fn index() -> String {
    let mut text = String::from(
        "# Error codes\n\nEvery error that an operator can see has a code. The number never changes its meaning and is \
         never used again.\n`agent-os explain CODE` prints cause and remedy; the API names the code in every problem \
         document.\n\nGenerated from `crates/0-contracts/types/src/code.rs` by `cargo xtask gen`.\n",
    );
    for (hundred, chapter) in chapters() {
        let _ = write!(text, "\n## {hundred}xx: {chapter}\n\n| code | HTTP | title |\n|---|---|---|\n");
        for entry in CATALOGUE.iter().filter(|entry| entry.code.number() / 100 == hundred) {
            let _ = writeln!(text, "| [{0}]({0}.md) | {1} | {2} |", entry.code, entry.http_status, entry.title);
        }
    }
    text
}

/// Hundreds that occur in the catalogue; one that the table does not name still gets a heading.
fn chapters() -> Vec<(u16, &'static str)> {
    let mut hundreds: Vec<u16> = CATALOGUE.iter().map(|entry| entry.code.number() / 100).collect();
    hundreds.dedup();
    let name_of = |hundred: u16| CHAPTERS.iter().find(|(known, _)| *known == hundred).map_or("Other", |(_, name)| name);
    hundreds.into_iter().map(|hundred| (hundred, name_of(hundred))).collect()
}

/// The table of contents, whose last chapter lists the codes; the rest of it is written by hand.
pub fn summary(root: &Path) -> Result<Generated> {
    let text = fs::read_to_string(root.join(SUMMARY)).context(SUMMARY)?;
    let (by_hand, _) = text
        .split_once(SUMMARY_LINE)
        .with_context(|| format!("{SUMMARY} lacks the line '{SUMMARY_LINE}', below which the codes are listed"))?;
    let mut text = format!("{by_hand}{SUMMARY_LINE}\n");
    for entry in CATALOGUE {
        let _ = writeln!(text, "  - [{0}: {1}](errors/{0}.md)", entry.code, entry.title);
    }
    Ok(Generated::new(SUMMARY, text))
}
