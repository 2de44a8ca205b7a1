//! `config`, `explain`, `completions`: answered from this program alone.

use agentos_base::config::{self, Config, SETTINGS};
use agentos_types::Result;
use serde::Serialize;

use super::Session;
use crate::{
    PROGRAM,
    args::{Completions, ConfigCommands, Explain},
    exit::{Exit, Outcome},
    table,
    views::{SettingRow, ValueRow},
};

pub(super) fn run(session: &mut Session<'_>, command: &ConfigCommands) -> Outcome {
    match command {
        ConfigCommands::Check => check(session)?,
        ConfigCommands::Show(args) if args.origin => show::<true>(session)?,
        ConfigCommands::Show(_) => show::<false>(session)?,
        ConfigCommands::Schema => {
            let rows: Vec<_> = SETTINGS.iter().map(SettingRow::of).collect();
            session.printer.list(&rows)?;
        }
    }
    Ok(Exit::Success)
}

fn load(session: &Session<'_>) -> Result<Config> {
    config::load(&session.data_dir()?.join(config::FILE_NAME), &session.source(Vec::new()))
}

#[derive(Serialize)]
struct CheckReport {
    file: String,
    file_exists: bool,
    valid: bool,
}

/// Reads everything as a start would, and the settings whose parts must fit together.
fn check(session: &mut Session<'_>) -> Outcome<()> {
    let config = load(session)?;
    config.gateway_listen()?;
    config.gateway_tls()?;
    let path = session.data_dir()?.join(config::FILE_NAME);
    let report = CheckReport { file: path.display().to_string(), file_exists: path.exists(), valid: true };
    let file = if report.file_exists { report.file.clone() } else { format!("{} (absent)", report.file) };
    let text = table::details(&[("file", file), ("configuration", "valid".to_owned())]);
    session.printer.report(&report, &text)
}

fn show<const WITH_ORIGIN: bool>(session: &mut Session<'_>) -> Outcome<()> {
    let config = load(session)?;
    let rows: Vec<ValueRow<WITH_ORIGIN>> =
        config.entries().map(|(key, value, origin)| ValueRow::new(key, value, origin)).collect();
    session.printer.list(&rows)
}

#[derive(Serialize)]
struct Explanation {
    code: String,
    title: &'static str,
    cause: &'static str,
    remedy: &'static str,
    http_status: u16,
}

pub(super) fn explain(session: &mut Session<'_>, args: &Explain) -> Outcome {
    let entry = args.code.entry();
    let code = entry.code.to_string();
    let explanation = Explanation {
        code,
        title: entry.title,
        cause: entry.cause,
        remedy: entry.remedy,
        http_status: entry.http_status,
    };
    let text = format!(
        "{}: {}\n\ncause:  {}\nremedy: {}\n",
        explanation.code, explanation.title, explanation.cause, explanation.remedy
    );
    session.printer.report(&explanation, &text)?;
    Ok(Exit::Success)
}

pub(super) fn completions(session: &mut Session<'_>, args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), PROGRAM, &mut script);
    session.printer.raw(&script)?;
    Ok(Exit::Success)
}
