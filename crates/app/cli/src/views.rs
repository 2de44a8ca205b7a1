//! How each thing of the API looks to a person: its columns in a listing, its fields in full, its key when only that is
//! wanted. JSON output needs nothing from here; it is the API's own body.

mod agents;
mod audit;
mod budgets;
mod keys;
mod migrate;
mod models;
mod retention;
mod server;
mod settings;
mod tasks;
mod witnesses;

use agentos_types::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) use migrate::migrate_text;
pub(crate) use models::model_list_note;
pub(crate) use server::{health_text, report_text};
pub(crate) use settings::{SettingRow, ValueRow};

pub(crate) trait View: Serialize {
    /// Headers of a listing.
    const COLUMNS: &'static [&'static str];

    /// Longest cell of a listing; the full text is in the fields and in JSON.
    const CELL_CHARS_MAX: usize = 60;

    /// One cell for each column.
    fn cells(&self) -> Vec<String>;

    /// What `--quiet` prints.
    fn key(&self) -> String;

    /// Names and values when the thing is shown alone.
    fn fields(&self) -> Vec<(&'static str, String)> {
        Self::COLUMNS.iter().copied().zip(self.cells()).collect()
    }
}

/// RFC 3339, and a word for the time that never comes.
fn time(at: Timestamp) -> String {
    if at.is_never() { "never".to_owned() } else { at.to_string() }
}

fn optional_time(at: Option<Timestamp>) -> String {
    at.map(time).unwrap_or_default()
}

/// JSON for a line.
fn compact(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

/// JSON for the eye: on one line as long as it is short.
fn spread(value: &Value) -> String {
    const LINE_CHARS_MAX: usize = 80;
    let line = compact(value);
    if line.chars().count() <= LINE_CHARS_MAX {
        return line;
    }
    serde_json::to_string_pretty(value).unwrap_or(line)
}

/// The word that JSON uses for a variant, so that tables and JSON speak the same language.
fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Bytes with a unit that keeps the number short.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2 << 30, "2.0 GiB"), (u64::MAX, "17179869183.9 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn words_are_those_of_json() {
        assert_eq!(word(&agentos_types::agent::Enforcement::NotEnforced), "not-enforced");
        assert_eq!(time(Timestamp::NEVER), "never");
    }
}
