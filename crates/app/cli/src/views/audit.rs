//! Audit records.

use agentos_api::body::{AuditHold, AuditRecord};
use serde_json::Value;

use super::{View, time, word};

impl View for AuditRecord {
    const COLUMNS: &'static [&'static str] =
        &["seq", "time", "actor", "action", "phase", "decision", "resource", "facts"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.seq.to_string(),
            time(self.at),
            self.actor.label(),
            self.action.clone(),
            word(&self.phase),
            word(&self.decision),
            self.resource.clone(),
            self.facts.iter().map(fact).collect::<Vec<_>>().join(" "),
        ]
    }

    fn key(&self) -> String {
        self.seq.to_string()
    }
}

impl View for AuditHold {
    const COLUMNS: &'static [&'static str] = &["name", "from", "placed by", "placed at", "reason"];

    fn cells(&self) -> Vec<String> {
        let from = self.from.map_or("the whole log".to_owned(), time);
        vec![self.name.clone(), from, self.placed_by.clone(), time(self.placed_at), self.reason.clone()]
    }

    fn key(&self) -> String {
        self.name.clone()
    }
}

fn fact((name, value): (&String, &Value)) -> String {
    match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}
