//! The schema of a database, and what a migration did or would do.

use super::optional_time;
use crate::{host::MigrateReport, table};

/// The figures, then the rows that were asked about.
pub(crate) fn migrate_text(report: &MigrateReport, with_history: bool) -> String {
    let backup = report.backup.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let mut text = table::details(&[
        ("database", report.database.clone()),
        ("schema", report.schema.to_string()),
        ("this program knows", report.known.to_string()),
        ("backup", backup),
    ]);
    if with_history {
        text.push_str("Migrations\n");
        text.push_str(&table::rows(report.migrations.iter().map(|line| {
            let who = line.applied_by.clone().unwrap_or_default();
            [
                format!("{:04}", line.number),
                line.name.clone(),
                line.state.clone(),
                optional_time(line.applied_at),
                who,
                format!("runs from {}", line.runs_from),
            ]
        })));
    } else if !report.steps.is_empty() {
        text.push_str(if report.changed { "Done\n" } else { "Steps\n" });
        text.push_str(&table::rows(report.steps.iter().map(|step| {
            let loses = step.loses.as_ref().map(|what| format!("loses {what}")).unwrap_or_default();
            [step.direction.clone(), format!("{:04}", step.number), step.name.clone(), loses]
        })));
    }
    text
}
