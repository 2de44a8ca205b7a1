//! How figures are printed: one aligned table for people, or one JSON object a line.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::figure::Figure;

const HEADER: [&str; 7] = ["figure", "measured", "n in rounds", "goal", "beside, same run", "ratio", "met?"];

/// What came of one group of figures.
pub enum Line {
    Figure(Figure),
    /// The group could not be measured, and why.
    Failed {
        group: &'static str,
        reason: String,
    },
}

/// What a reader must know to judge the figures.
pub struct Setting {
    pub machine: String,
    pub profile: &'static str,
    pub started_at: String,
}

pub fn print(out: &mut impl Write, setting: &Setting, lines: &[Line]) -> io::Result<()> {
    writeln!(out, "{}, {} build, {}", setting.machine, setting.profile, setting.started_at)?;
    if setting.profile != "release" {
        writeln!(out, "This build is not optimised: no figure below is comparable.")?;
    }
    let rows: Vec<[String; 7]> = std::iter::once(HEADER.map(str::to_owned)).chain(lines.iter().map(cells)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join(" | ").trim_end())?;
        if index == 0 {
            writeln!(out, "{}", widths.map(|width| "-".repeat(width)).join("-|-"))?;
        }
    }
    for line in lines {
        match line {
            Line::Figure(figure) => {
                if let Some(note) = figure.note_text() {
                    writeln!(out, "{}: {note}", figure.name())?;
                }
            }
            Line::Failed { group, reason } => writeln!(out, "{group}: {reason}")?,
        }
    }
    Ok(())
}

pub fn print_json(out: &mut impl Write, setting: &Setting, lines: &[Line]) -> io::Result<()> {
    let header = json!({"machine": setting.machine, "profile": setting.profile, "started_at": setting.started_at});
    writeln!(out, "{header}")?;
    for line in lines {
        let value: Value = match line {
            Line::Figure(figure) => figure.to_json(),
            Line::Failed { group, reason } => json!({"figure": group, "failed": reason}),
        };
        writeln!(out, "{value}")?;
    }
    Ok(())
}

fn cells(line: &Line) -> [String; 7] {
    match line {
        Line::Figure(figure) => figure.cells(),
        Line::Failed { group, .. } => {
            let mut cells: [String; 7] = Default::default();
            cells[0] = (*group).to_owned();
            cells[1] = "not measured, see below".into();
            cells
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figure::Goal, sample::Rounds};

    #[test]
    fn a_table_says_what_failed_and_what_is_not_met() {
        let rounds: Rounds = [vec![2.0]].into_iter().collect();
        let figure = Figure::values("size", "MB", vec![("", 50.0)], &rounds).goal(Goal::at_most(45.0));
        let lines = [Line::Figure(figure), Line::Failed { group: "crash", reason: "there is no agent-os".into() }];
        let setting = Setting { machine: "2 cores".into(), profile: "dev", started_at: "then".into() };
        let mut text = Vec::new();
        print(&mut text, &setting, &lines).unwrap();
        let text = String::from_utf8(text).unwrap();
        for part in ["NOT MET", "≤ 45.0 MB", "not measured", "crash: there is no agent-os", "not optimised"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        let mut json = Vec::new();
        print_json(&mut json, &setting, &lines).unwrap();
        assert_eq!(String::from_utf8(json).unwrap().lines().count(), 3);
    }
}
