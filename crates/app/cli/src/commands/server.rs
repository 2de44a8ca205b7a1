//! `init`, `up`, `status`, `doctor`.

use agentos_api::body::{CheckOutcome, LIVE_CHECKS};
use tokio::sync::oneshot;

use super::Session;
use crate::{
    args::Up,
    exit::{Exit, Outcome},
    host::{DoctorReport, UpOptions},
    views::{health_text, report_text},
};

pub(super) async fn init(session: &mut Session<'_>) -> Outcome {
    let data_dir = session.data_dir()?;
    let report = session.host.init(&data_dir, session.source(Vec::new())).await?;
    session.printer.one(&report)?;
    session.printer.note(&format!("start the server with: agent-os up --detach --data-dir {}", data_dir.display()));
    Ok(Exit::Success)
}

/// The report is printed as soon as the server is ready; in the foreground the command then lasts as long as the server.
pub(super) async fn up(session: &mut Session<'_>, args: Up) -> Outcome {
    let options = UpOptions {
        data_dir: session.data_dir()?,
        port: args.port,
        detach: args.detach,
        source: session.source(args.settings),
    };
    let (ready, mut is_ready) = oneshot::channel();
    let mut server = session.host.up(options, ready);
    tokio::select! {
        biased;
        report = &mut is_ready => {
            if let Ok(report) = report {
                session.printer.one(&report)?;
            }
            server.await?;
        }
        ended = &mut server => {
            ended?;
            // A server that was quick to report and to return has both done.
            if let Ok(report) = is_ready.try_recv() {
                session.printer.one(&report)?;
            }
        }
    }
    Ok(Exit::Success)
}

pub(super) async fn status(session: &mut Session<'_>) -> Outcome {
    let client = session.client()?;
    let health = client.health().await?;
    let text = health_text(client.base_url(), &health);
    session.printer.report(&health, &text)?;
    Ok(Exit::Success)
}

/// A failed check would refuse the start, so it is not a success here either; a control that this machine cannot enforce
/// is told, and is no failure.
pub(super) async fn doctor(session: &mut Session<'_>) -> Outcome {
    let data_dir = session.data_dir()?;
    let mut report = session.host.doctor(&data_dir, session.source(Vec::new())).await?;
    add_live(session, &mut report).await;
    let text = report_text(&report);
    session.printer.report(&report, &text)?;
    let failed = report.checks.iter().any(|check| check.outcome == CheckOutcome::Fail);
    Ok(if failed { Exit::Refused } else { Exit::Success })
}

/// What only the running server knows takes the place of what the settings say. Without a server there is nothing to add.
async fn add_live(session: &Session<'_>, report: &mut DoctorReport) {
    let Ok(client) = session.client() else { return };
    let Ok(health) = client.health().await else { return };
    for live in health.checks.into_iter().filter(|check| LIVE_CHECKS.contains(&check.name.as_str())) {
        match report.checks.iter_mut().find(|check| check.name == live.name) {
            Some(check) => *check = live,
            None => report.checks.push(live),
        }
    }
}
