//! Tables as plain text: aligned columns, no lines, no colour, so that they read well and cut well.
//!
//! What agents and remote hosts wrote ends up in cells. Control characters are made visible here, because a terminal would
//! obey them; so are the marks that turn the direction of text, because they make one thing look like another.

use comfy_table::{Cell, Table, presets};

/// Blanks between two columns.
const GAP: u16 = 2;

/// Rows under upper-case headers, each cell cut at `cell_chars_max`. A listing without rows has no header either: nothing is what it shows.
pub(crate) fn listing(headers: &[&str], cell_chars_max: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = plain();
    table.set_header(headers.iter().map(|header| Cell::new(header.to_uppercase())));
    for row in rows {
        table.add_row(row.iter().map(|text| Cell::new(clip(&one_line(text), cell_chars_max))));
    }
    if table.is_empty() { String::new() } else { finish(&mut table) }
}

/// Rows without headers and without a cut, indented under a title of their own.
pub(crate) fn rows<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = plain();
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(position, text)| {
            let indent = if position == 0 { "  " } else { "" };
            Cell::new(format!("{indent}{}", one_line(text)))
        }));
    }
    if table.is_empty() { String::new() } else { finish(&mut table) }
}

/// One thing: names on the left, values on the right. A value may have several lines; empty ones are left out.
pub(crate) fn details(fields: &[(&str, String)]) -> String {
    let mut table = plain();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([Cell::new(format!("{name}:")), Cell::new(many_lines(value))]);
    }
    if table.is_empty() { String::new() } else { finish(&mut table) }
}

/// One item of a stream, whose columns nobody can align in advance.
pub(crate) fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|text| one_line(text)).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn finish(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Whether a terminal would act on the character instead of showing it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with everything unsafe written out, line ends too.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if is_unsafe(c) { Shown::Escaped(c.escape_default()) } else { Shown::Plain(Some(c)) })
        .collect()
}

/// The same, but lines stay lines and a tab becomes blanks.
fn many_lines(text: &str) -> String {
    text.split('\n').map(|line| one_line(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

enum Shown {
    Plain(Option<char>),
    Escaped(std::char::EscapeDefault),
}

impl Iterator for Shown {
    type Item = char;
    fn next(&mut self) -> Option<char> {
        match self {
            Shown::Plain(c) => c.take(),
            Shown::Escaped(rest) => rest.next(),
        }
    }
}

fn clip(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let rows = [["a", "1", ""], ["much-longer", "22", "x"]].map(|row| row.map(str::to_owned).to_vec());
        let expected = "NAME         N   NOTE\na            1\nmuch-longer  22  x\n";
        assert_eq!(listing(&["name", "n", "note"], 60, rows), expected);
        assert_eq!(listing(&["name"], 60, []), "");
    }

    #[test]
    fn details_keep_lines_and_drop_what_is_empty() {
        let fields = [("state", "ready".to_owned()), ("reason", String::new()), ("input", "{\n\t1\n}".to_owned())];
        assert_eq!(details(&fields), "state:  ready\ninput:  {\n            1\n        }\n");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let hostile = "a\u{1b}[2Jb\rc\u{9b}31md\u{202e}e\u{7f}\n\u{8}f";
        for text in [
            listing(&["x"], 60, [vec![hostile.to_owned()]]),
            details(&[("x", hostile.to_owned())]),
            line(&[hostile.to_owned()]),
        ] {
            assert!(!text.chars().any(|c| c != '\n' && is_unsafe(c)), "{text:?}");
            assert!(text.contains("\\u{1b}[2Jb\\rc\\u{9b}31md\\u{202e}e\\u{7f}"), "{text:?}");
        }
        assert_eq!(line(&["a\nERROR".to_owned(), String::new()]), "a\\nERROR\n");
    }

    #[test]
    fn wide_characters_and_long_cells() {
        let rows = [["日本", "1"], ["ab", "2"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(listing(&["w", "n"], 60, rows), "W     N\n日本  1\nab    2\n");
        let long = listing(&["t"], 60, [vec!["x".repeat(100)]]);
        assert_eq!(long, format!("T\n{}…\n", "x".repeat(59)));
    }
}
