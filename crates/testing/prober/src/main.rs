//! `agent-os-prober FACTS [NAME...]`: tries what the catalogue holds, or the named attempts alone; one line of JSON for each.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use agentos_prober::{Facts, Line, attempts, catalogue, run};

fn main() -> ExitCode {
    attempts::leaks::note_descriptors();
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    // What a program says about itself that was executed in some odd way.
    if let Some(status) = attempts::report(&first) {
        return ExitCode::from(status);
    }
    let facts: Facts = match serde_json::from_str(&first) {
        Ok(facts) => facts,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "usage: agent-os-prober FACTS [NAME...]: {error}");
            return ExitCode::from(2);
        }
    };
    let names: Vec<String> = arguments.collect();
    for attempt in catalogue().filter(|attempt| names.is_empty() || names.iter().any(|name| name == attempt.name)) {
        let line = Line { name: attempt.name.to_owned(), outcome: run::run(attempt, &facts) };
        let text = serde_json::to_string(&line).unwrap_or_default();
        if writeln!(stdout(), "{text}").and_then(|()| stdout().flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
