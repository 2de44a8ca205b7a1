//! What a person reads about a change: one line, and a unified diff of bounded size.

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, DiffOp, TextDiff};

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;
/// Enough for a screen or ten; the rest is counted, not shown.
pub const DIFF_BYTES_MAX: usize = 16 * 1024;
/// One line of a diff; minified text would otherwise fill it with a single line.
const LINE_CHARS_MAX: usize = 500;
/// A quotation in the one-line summary.
const QUOTE_CHARS_MAX: usize = 60;

/// A change as it is reported and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Without the name of what changed: `2 lines added, 1 removed: 'Pro 20 €' → 'Pro 25 €'`.
    pub summary: String,
    pub added: usize,
    pub removed: usize,
    pub diff: String,
}

/// Compares two normalised texts. They may be equal when the change lies behind the part that is kept.
pub fn between(old: &str, new: &str) -> Difference {
    let diff = TextDiff::from_lines(old, new);
    let count = |tag: ChangeTag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let example = example(&diff).map(|example| format!(": {example}")).unwrap_or_default();
    Difference { summary: format!("{}{example}", counts(added, removed)), added, removed, diff: unified(&diff) }
}

/// The first line that became another, or else the first that came or went.
fn example(diff: &TextDiff<'_, '_, str>) -> Option<String> {
    let replaced = diff.ops().iter().find_map(|op| match *op {
        DiffOp::Replace { old_index, new_index, .. } => {
            Some(format!("{} → {}", quote(diff.old_slice(old_index)?), quote(diff.new_slice(new_index)?)))
        }
        _ => None,
    });
    replaced.or_else(|| {
        let told = |line: &str, tag: ChangeTag| tag != ChangeTag::Equal && !line.trim().is_empty();
        diff.iter_all_changes().find(|change| told(change.value(), change.tag())).map(|change| quote(change.value()))
    })
}

fn counts(added: usize, removed: usize) -> String {
    let lines = |count: usize| if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    match (added, removed) {
        (0, 0) => "changed beyond the part that is kept".into(),
        (added, 0) => format!("{} added", lines(added)),
        (0, removed) => format!("{} removed", lines(removed)),
        (added, removed) => format!("{} added, {removed} removed", lines(added)),
    }
}

fn unified(diff: &TextDiff<'_, '_, str>) -> String {
    let mut out = String::new();
    let mut left_out = 0_usize;
    for hunk in diff.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        push(&mut out, &mut left_out, &hunk.header().to_string());
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            push(&mut out, &mut left_out, &format!("{}{}", change.tag(), clip(line, LINE_CHARS_MAX)));
        }
    }
    if left_out > 0 {
        out.push_str(&format!("… {left_out} more lines\n"));
    }
    out
}

/// Once a line was left out, all later ones are: a diff with holes would mislead.
fn push(out: &mut String, left_out: &mut usize, line: &str) {
    if *left_out > 0 || out.len() + line.len() + 1 > DIFF_BYTES_MAX {
        *left_out += 1;
        return;
    }
    out.push_str(line);
    out.push('\n');
}

fn quote(line: &str) -> String {
    format!("'{}'", clip(line.trim(), QUOTE_CHARS_MAX))
}

fn clip(line: &str, chars_max: usize) -> String {
    match line.char_indices().nth(chars_max) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, summary: &str, diff: &str) {
        let found = between(old, new);
        assert_eq!(found.summary, summary);
        assert_eq!(found.diff, diff);
    }

    #[test]
    fn a_change_reads_well() {
        check(
            "# Plans\nFree\nPro 20 €\nTeam 90 €\n",
            "# Plans\nFree\nPro 25 €\nNew: Solo 5 €\nTeam 90 €\n",
            "2 lines added, 1 removed: 'Pro 20 €' → 'Pro 25 €'",
            "@@ -1,4 +1,5 @@\n # Plans\n Free\n-Pro 20 €\n+Pro 25 €\n+New: Solo 5 €\n Team 90 €\n",
        );
        check("a\nb\n", "a\n", "1 line removed: 'b'", "@@ -1,2 +1 @@\n a\n-b\n");
        check("", "a\nb\n", "2 lines added: 'a'", "@@ -0,0 +1,2 @@\n+a\n+b\n");
        check("a\n", "a\n", "changed beyond the part that is kept", "");
        let far: String = (1..=9).map(|n| format!("{n}\n")).collect();
        check(
            &format!("x\n{far}y\n"),
            &format!("X\n{far}Y\n"),
            "2 lines added, 2 removed: 'x' → 'X'",
            "@@ -1,4 +1,4 @@\n-x\n+X\n 1\n 2\n 3\n@@ -8,4 +8,4 @@\n 7\n 8\n 9\n-y\n+Y\n",
        );
    }

    #[test]
    fn a_large_change_is_cut_honestly() {
        let old: String = (0..5_000).map(|n| format!("old line {n}\n")).collect();
        let new: String = (0..5_000).map(|n| format!("new line {n}\n")).collect();
        let found = between(&old, &new);
        assert_eq!((found.added, found.removed), (5_000, 5_000));
        assert!(found.diff.len() <= DIFF_BYTES_MAX + 64, "{}", found.diff.len());
        let shown = found.diff.lines().count() - 1;
        assert!(found.diff.ends_with(&format!("… {} more lines\n", 10_001 - shown)), "{}", found.diff);
        let long = between("a\n", &format!("{}\n", "é".repeat(1_000_000)));
        assert!(long.diff.len() < 2_000 && long.summary.len() < 300);
    }
}
