//! `migrate`: the schema of a stopped installation.

use super::Session;
use crate::{
    args::{MigrateChange, MigrateCommands},
    exit::{Exit, Outcome},
    host::{MigrateOrder, MigrateReport, MigrateWay},
    views::migrate_text,
};

pub(super) async fn run(session: &mut Session<'_>, command: MigrateCommands) -> Outcome {
    let (order, exit_if_owed) = match command {
        MigrateCommands::Status => (MigrateOrder::Status, false),
        MigrateCommands::Plan(args) => {
            (MigrateOrder::Plan(args.to.map_or(MigrateWay::Up, MigrateWay::Down)), args.check)
        }
        MigrateCommands::Up(args) => (change(MigrateWay::Up, &args), false),
        MigrateCommands::Down(args) => (change(MigrateWay::Down(args.to), &args.change), false),
    };
    let data_dir = session.data_dir()?;
    let report = session.host.migrate(&data_dir, session.source(Vec::new()), order).await?;
    let text = migrate_text(&report, order == MigrateOrder::Status);
    session.printer.report(&report, &text)?;
    tell(session, &report, order);
    Ok(if exit_if_owed && !report.steps.is_empty() { Exit::Refused } else { Exit::Success })
}

fn change(way: MigrateWay, args: &MigrateChange) -> MigrateOrder {
    MigrateOrder::Change { way, trial: args.check, backup_taken: args.backup_taken }
}

fn tell(session: &mut Session<'_>, report: &MigrateReport, order: MigrateOrder) {
    let note = match order {
        MigrateOrder::Status if report.schema < report.known => "bring it up with: agent-os migrate up",
        MigrateOrder::Status if report.schema > report.known => "a later release made it; this program may run on it",
        MigrateOrder::Status => return,
        _ if report.steps.is_empty() => "nothing to do",
        MigrateOrder::Plan(_) => "nothing was changed",
        MigrateOrder::Change { trial: true, .. } => "it can be done; nothing was changed",
        MigrateOrder::Change { .. } => return,
    };
    session.printer.note(note);
}
