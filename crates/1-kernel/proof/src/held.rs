//! Files of checkpoints that somebody has kept: one note, a witness file with thousands, or what a witness has exported.
//!
//! All three are signed notes, one after the other. A note ends with its signature lines, so that nothing has to stand
//! between two of them. What is no note in between (a line that a crash has cut) is skipped and counted: whoever can damage a
//! note can take it out as well, so that refusing the whole file would protect nothing and lose the others.

use crate::{
    checkpoint,
    finding::{Finding, FindingKind},
    note::{SIGNATURE_PREFIX, VerifierKey, parse_signature},
};

/// What a writer appends to a line that a crash has cut, so that it can never pass for a whole one.
pub const CUT_MARK: &str = " #\n";
/// Largest file: room for the largest witness file of the settings.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The notes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// In the order of the file, exactly as they stand there.
    pub notes: Vec<String>,
    /// Lines that belong to no note.
    pub damaged_lines: u64,
    /// Notes of other logs.
    pub foreign: u64,
}

impl Held {
    /// The notes about the log with this origin. A file without any whole note is taken as one note, which then fails for what
    /// it is: an empty answer would pass for "nothing was held".
    pub fn parse(text: &str, origin: &str) -> Self {
        let mut held = Self::scan(text, origin);
        if held.notes.is_empty() && held.foreign == 0 {
            held.notes.push(text.to_owned());
            held.damaged_lines = 0;
        }
        held
    }

    /// What is there, and nothing if nothing is.
    fn scan(text: &str, origin: &str) -> Self {
        let mut held = Self::default();
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(first) = lines.next() {
            if checkpoint::log_of(first.trim_end()).is_none() {
                // Blank lines between notes are what a person's editor leaves.
                held.damaged_lines += u64::from(!first.trim().is_empty());
                continue;
            }
            let mut note = first.to_owned();
            let mut signatures = 0;
            let (mut blank, mut is_cut) = (false, false);
            // Ends with the note, at the next line that starts one, or with the text.
            while let Some(line) = lines.next_if(|line| {
                if blank { line.starts_with(SIGNATURE_PREFIX) } else { checkpoint::log_of(line.trim_end()).is_none() }
            }) {
                note.push_str(line);
                let is_whole = line.strip_suffix('\n').is_some_and(|line| parse_signature(line).is_some());
                signatures += u64::from(blank && is_whole);
                is_cut |= blank && !is_whole;
                blank |= line == "\n";
            }
            if signatures == 0 || is_cut {
                held.damaged_lines += note.lines().count() as u64;
            } else if first.trim_end() == origin {
                held.notes.push(note);
            } else {
                held.foreign += 1;
            }
        }
        held
    }

    /// Takes in the notes of one more file.
    pub fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.damaged_lines += other.damaged_lines;
        self.foreign += other.foreign;
    }

    /// Refuses files that hold only other logs' checkpoints: nothing would be compared, and it would look compared.
    pub fn require_own(&self, key: &VerifierKey) -> Result<(), Finding> {
        if !self.notes.is_empty() || self.foreign == 0 {
            return Ok(());
        }
        let message = format!("the held checkpoints are those of other logs; none is of '{}'", key.name());
        Err(Finding::new(FindingKind::CheckpointSignature, None, message))
    }

    /// What a reader of a green verdict should know about the files.
    pub fn remarks(&self) -> Vec<String> {
        let damaged = (self.damaged_lines > 0)
            .then(|| format!("{} lines of the held files are no part of a whole checkpoint", self.damaged_lines));
        let foreign = (self.foreign > 0).then(|| format!("{} held checkpoints are those of other logs", self.foreign));
        damaged.into_iter().chain(foreign).collect()
    }

    /// The last note about the log, for a writer that goes on after it.
    pub fn newest(text: &str, origin: &str) -> Option<String> {
        Self::scan(text, origin).notes.pop()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    const LOG: &str = "agent-os/node-1";

    fn note(origin: &str, size: u64) -> String {
        checkpoint::sign(&SigningKey::from_bytes(&[7; 32]), origin, size, &[5; 32])
    }

    fn check(text: &str, sizes: &[u64], damaged_lines: u64, foreign: u64) {
        let held = Held::parse(text, LOG);
        let expected: Vec<String> = sizes.iter().map(|size| note(LOG, *size)).collect();
        assert_eq!(held, Held { notes: expected, damaged_lines, foreign }, "{text}");
    }

    #[test]
    fn notes_are_told_apart_without_anything_between_them() {
        let (one, two) = (note(LOG, 1), note(LOG, 2));
        check(&one, &[1], 0, 0);
        check(&format!("{one}{two}"), &[1, 2], 0, 0);
        check(&format!("{one}\n\n{two}\n"), &[1, 2], 0, 0);
        check(&format!("{one}{}{two}", note("agent-os/node-2", 9)), &[1, 2], 0, 1);
        check(&note("agent-os/node-2", 9), &[], 0, 1);
    }

    #[test]
    fn what_a_crash_has_cut_costs_only_itself() {
        let (one, two) = (note(LOG, 1), note(LOG, 2));
        for end in 1..one.len() {
            let Some(cut) = one.get(..end) else { continue };
            let held = Held::parse(&format!("{two}{cut}"), LOG);
            assert_eq!(held.notes, std::slice::from_ref(&two), "{cut}");
            // The writer starts anew on a line of its own.
            let marked = Held::parse(&format!("{cut}{CUT_MARK}{two}"), LOG);
            assert_eq!(
                (marked.notes.as_slice(), marked.damaged_lines > 0),
                (std::slice::from_ref(&two), true),
                "{cut}"
            );
        }
        check(&format!("garbage\n{one}"), &[1], 1, 0);
    }

    #[test]
    fn a_file_that_holds_nothing_is_not_an_empty_answer() {
        for text in ["", "garbage", "agent-os/node-1\n12\n"] {
            assert_eq!(Held::parse(text, LOG).notes, [text.to_owned()]);
            assert_eq!(Held::newest(text, LOG), None);
        }
        assert_eq!(Held::newest(&format!("{}{}", note(LOG, 1), note(LOG, 2)), LOG), Some(note(LOG, 2)));
    }
}
