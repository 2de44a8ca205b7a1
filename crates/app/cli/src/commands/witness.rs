//! `witness`: logs of other nodes. Where the own checkpoints go is `audit witness`.

use std::path::Path;

use agentos_proof::note::NOTE_BYTES_MAX;
use agentos_types::witness::{AddWitnessedLog, HeldCheckpoint};

use super::Session;
use crate::{
    args::{AddLog, ShowLog, WitnessCommands},
    exit::{Exit, Outcome},
    input, table,
    views::View,
};

pub(super) async fn run(session: &mut Session<'_>, command: WitnessCommands) -> Outcome {
    match command {
        WitnessCommands::Add(args) => add(session, args).await,
        WitnessCommands::List => {
            let logs = session.client()?.list_witnessed_logs().await?;
            session.printer.list(&logs)?;
            Ok(Exit::Success)
        }
        WitnessCommands::Show(args) => show(session, args).await,
        WitnessCommands::Remove(args) => {
            session.client()?.remove_witnessed_log(&args.name).await?;
            session.printer.note(&format!("forgot {}", args.name));
            Ok(Exit::Success)
        }
    }
}

async fn add(session: &mut Session<'_>, args: AddLog) -> Outcome {
    let public_key = match args.public_key.strip_prefix('@') {
        Some(path) => input::read_text(Path::new(path), NOTE_BYTES_MAX)?,
        None => args.public_key,
    };
    let body = AddWitnessedLog { name: args.name, public_key: public_key.trim().to_owned() };
    let log = session.client()?.add_witnessed_log(&body).await?;
    session.printer.one(&log)?;
    Ok(Exit::Success)
}

async fn show(session: &mut Session<'_>, args: ShowLog) -> Outcome {
    let detail = session.client()?.get_witnessed_log(&args.name).await?;
    if args.notes {
        session.printer.raw(notes(&detail.checkpoints).as_bytes())?;
        return Ok(Exit::Success);
    }
    let mut fields = detail.log.fields();
    fields.push(("checkpoints", detail.checkpoints.len().to_string()));
    session.printer.report(&detail, &table::details(&fields))?;
    Ok(Exit::Success)
}

/// Byte for byte as they were signed; only a terminal's safety is looked at.
fn notes(held: &[HeldCheckpoint]) -> String {
    held.iter().flat_map(|held| held.note.chars()).filter(|c| *c == '\n' || !table::is_unsafe(*c)).collect()
}
