//! Witnesses: where the own checkpoints go, and the logs of other nodes.

use agentos_types::witness::{WitnessTarget, WitnessedLog};

use super::{View, optional_time, time};

impl View for WitnessTarget {
    const COLUMNS: &'static [&'static str] = &["witness", "records", "arrived", "state", "failures", "problem"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.refused, self.failures, self.size) {
            (Some(code), ..) => format!("refuses {code}"),
            (None, 0, Some(_)) => "ok".to_owned(),
            (None, 0, None) => "waiting".to_owned(),
            (None, ..) => "failing".to_owned(),
        };
        vec![
            self.target.clone(),
            self.size.map_or("-".to_owned(), |size| size.to_string()),
            optional_time(self.at),
            state,
            self.failures.to_string(),
            self.problem.clone().unwrap_or_default(),
        ]
    }

    fn key(&self) -> String {
        self.target.clone()
    }
}

impl View for WitnessedLog {
    const COLUMNS: &'static [&'static str] = &["name", "log", "records", "seen", "state", "refusals"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.log.to_string(),
            self.size.map_or("-".to_owned(), |size| size.to_string()),
            optional_time(self.seen_at),
            self.refused_code.map_or("ok".to_owned(), |code| format!("refused {code}")),
            self.refusals.to_string(),
        ]
    }

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields: Vec<_> = Self::COLUMNS.iter().copied().zip(self.cells()).collect();
        fields.push(("public key", self.public_key.clone()));
        fields.push(("key changes", self.rotations.len().to_string()));
        fields.push(("added", time(self.added_at)));
        fields.push(("added by", self.added_by.clone()));
        if let Some(note) = &self.refused_note {
            fields.push(("refused since", optional_time(self.refused_at)));
            fields.push(("refused checkpoint", note.clone()));
        }
        fields
    }
}
