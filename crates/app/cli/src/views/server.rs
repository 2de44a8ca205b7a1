//! The server's own state, the reports of `init` and `up`, checks and controls.

use agentos_api::body::{Check, CheckOutcome, Health};
use agentos_types::{agent::Enforcement, machine::MachineRow};

use super::{View, agents::control, time, word};
use crate::{
    host::{DoctorReport, InitReport, UpReport},
    table,
};

impl View for Check {
    const COLUMNS: &'static [&'static str] = &["check", "outcome", "message"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), word(&self.outcome), self.message.clone()]
    }

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl View for UpReport {
    const COLUMNS: &'static [&'static str] = &["url", "pid", "version"];

    fn cells(&self) -> Vec<String> {
        vec![self.url.clone(), self.pid.to_string(), self.version.clone()]
    }

    fn key(&self) -> String {
        self.url.clone()
    }
}

impl View for InitReport {
    const COLUMNS: &'static [&'static str] = &["data directory", "publisher key id", "audit verifier key"];

    fn cells(&self) -> Vec<String> {
        vec![self.data_dir.display().to_string(), self.publisher_key_id.clone(), self.audit_verifier_key.clone()]
    }

    fn key(&self) -> String {
        self.data_dir.display().to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields: Vec<_> = Self::COLUMNS.iter().copied().zip(self.cells()).collect();
        let files = self.files.iter().map(|file| format!("{}  {}", file.path.display(), file.purpose));
        fields.push(("files", files.collect::<Vec<_>>().join("\n")));
        fields
    }
}

/// What a person wants to know first, then only what is not as it should be.
pub(crate) fn health_text(url: &str, health: &Health) -> String {
    let agents = health.agents;
    let failed = health.checks.iter().filter(|check| check.outcome != CheckOutcome::Pass);
    let open = health.controls.iter().filter(|control| control.enforcement != Enforcement::Enforced);
    table::details(&[
        ("status", health.status.clone()),
        ("url", url.to_owned()),
        ("version", health.version.clone()),
        ("node", health.node.clone()),
        ("schema", health.schema.to_string()),
        ("started", time(health.started_at)),
        ("agents", format!("{} deployed, {} ready, {} unhealthy", agents.deployed, agents.ready, agents.unhealthy)),
        ("isolation", health.isolation.as_str().to_owned()),
        ("checks", failed.map(check).collect::<Vec<_>>().join("\n")),
        ("not enforced", open.map(control).collect::<Vec<_>>().join("\n")),
    ])
}

fn check(check: &Check) -> String {
    format!("{} {}: {}", word(&check.outcome), check.name, check.message)
}

/// Everything that was examined, whatever came of it. Reasons are what is read here, so that nothing is cut.
pub(crate) fn report_text(report: &DoctorReport) -> String {
    let checks = report.checks.iter().map(|check| [word(&check.outcome), check.name.clone(), check.message.clone()]);
    let controls = report.controls.iter().map(|held| [word(&held.enforcement), held.name.clone(), held.reason.clone()]);
    let parts = report.machine.rows.iter().flat_map(part);
    format!(
        "Checks\n{}\nIsolation: {}\n{}\nControls\n{}",
        table::rows(checks),
        report.machine.level.as_str(),
        table::rows(parts),
        table::rows(controls)
    )
}

/// With a line of what makes it better, where something does.
fn part(row: &MachineRow) -> Vec<[String; 3]> {
    let mut lines = vec![[word(&row.standing), row.name.clone(), row.detail.clone()]];
    lines.extend(row.remedy.iter().map(|remedy| [String::new(), String::new(), format!("remedy: {remedy}")]));
    lines
}
