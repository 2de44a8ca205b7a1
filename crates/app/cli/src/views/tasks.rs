//! Tasks, steps, events and schedules.

use agentos_types::task::{Cadence, Failure, Schedule, Step, Task, TaskEvent};

use super::{View, compact, optional_time, spread, time};

impl View for Task {
    const COLUMNS: &'static [&'static str] = &["id", "agent", "state", "attempt", "submitted", "updated"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.agent.to_string(),
            self.state.to_string(),
            format!("{}/{}", self.attempt, self.attempts_max),
            time(self.submitted_at),
            time(self.updated_at),
        ]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let waits = self.run_at > self.submitted_at && !self.state.is_terminal();
        vec![
            ("id", self.id.to_string()),
            ("agent", self.agent.to_string()),
            ("state", self.state.to_string()),
            ("failure", self.failure.as_ref().map(failure).unwrap_or_default()),
            ("attempt", format!("{} of {}", self.attempt, self.attempts_max)),
            ("redrives", if self.redrives > 0 { self.redrives.to_string() } else { String::new() }),
            ("input", spread(&self.input)),
            ("output", self.output.as_ref().map(spread).unwrap_or_default()),
            ("submitted", time(self.submitted_at)),
            ("submitted by", self.submitted_by.clone()),
            ("schedule", self.schedule.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("not before", if waits { time(self.run_at) } else { String::new() }),
            ("deadline", optional_time(self.deadline_at)),
            ("cancel asked", optional_time(self.cancel_asked_at)),
            ("updated", time(self.updated_at)),
            ("trace", self.traceparent.clone()),
        ]
    }
}

fn failure(failure: &Failure) -> String {
    let code = failure.code.map(|code| format!("{code} ")).unwrap_or_default();
    let wait = failure.retry_after_s.map(|wait| format!(" (retry after {wait} s)")).unwrap_or_default();
    format!("{code}[{}] {}{wait}", failure.class.as_str(), failure.message)
}

impl View for Step {
    const COLUMNS: &'static [&'static str] = &["seq", "call", "status", "safety", "started", "finished", "key"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.seq.to_string(),
            self.syscall.clone(),
            self.status.clone(),
            self.safety.as_str().to_owned(),
            time(self.started_at),
            optional_time(self.finished_at),
            self.key.clone(),
        ]
    }

    fn key(&self) -> String {
        self.key.clone()
    }
}

impl View for TaskEvent {
    const COLUMNS: &'static [&'static str] = &["seq", "time", "kind", "data"];

    fn cells(&self) -> Vec<String> {
        vec![format!("{:4}", self.seq), time(self.at), format!("{:8}", self.kind), compact(&self.data)]
    }

    fn key(&self) -> String {
        self.seq.to_string()
    }
}

impl View for Schedule {
    const COLUMNS: &'static [&'static str] = &["id", "agent", "name", "cadence", "next", "last", "fired"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.agent.to_string(),
            self.name.clone(),
            cadence(&self.cadence),
            if self.paused { "paused".to_owned() } else { time(self.next_at) },
            optional_time(self.last_at),
            self.fired.to_string(),
        ]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields: Vec<_> = Self::COLUMNS.iter().copied().zip(self.cells()).collect();
        fields.push(("input", spread(&self.input)));
        fields.push(("created by", self.created_by.clone()));
        fields
    }
}

fn cadence(cadence: &Cadence) -> String {
    match cadence {
        Cadence::Interval { every_s } => format!("every {every_s} s"),
        Cadence::Cron { expression, timezone } => format!("{expression} ({timezone})"),
    }
}
