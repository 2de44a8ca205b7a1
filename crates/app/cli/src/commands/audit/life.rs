//! `audit prune`, `audit hold`, `audit rotate-key`.

use std::path::{Path, PathBuf};

use agentos_api::body::{AddAuditHold, AuditPruned, PruneAudit};
use agentos_client::Client;
use agentos_proof::{VerifierKey, VerifyError, source::segment};
use agentos_types::{Code, Fault};
use tokio::fs;

use super::save;
use crate::{
    args::{HoldCommands, Prune},
    commands::Session,
    exit::{Exit, Outcome, local, usage},
    table,
};

/// With an archive, what goes is exactly what was written and verified before.
pub(super) async fn prune(session: &mut Session<'_>, args: Prune) -> Outcome {
    let client = session.client()?;
    let mut order = PruneAudit { dry_run: args.dry_run, keep_from: None };
    if let Some(directory) = args.archive {
        let planned = client.prune_audit(&PruneAudit { dry_run: true, keep_from: None }).await?;
        if planned.days > 0 {
            let path = archive(&client, &directory, &planned).await?;
            session.printer.note(&format!("archived to {}", path.display()));
        }
        order.keep_from = Some(planned.first_kept);
    }
    let pruned = client.prune_audit(&order).await?;
    session.printer.report(&pruned, &text(&pruned))?;
    if !pruned.held.is_empty() {
        session.printer.note("more would go without the holds; see: agent-os audit hold list");
    }
    Ok(Exit::Success)
}

fn text(pruned: &AuditPruned) -> String {
    table::details(&[
        ("dry run", pruned.dry_run.to_string()),
        ("older than", pruned.before.to_string()),
        ("days", pruned.days.to_string()),
        ("records", pruned.records.to_string()),
        ("first kept", pruned.first_kept.to_string()),
        ("held by", pruned.held.join(", ")),
    ])
}

async fn archive(client: &Client, directory: &Path, planned: &AuditPruned) -> Outcome<PathBuf> {
    let (from, until) = (planned.first_kept_before, planned.first_kept);
    let unwritable =
        |error: std::io::Error| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).await.map_err(unwritable)?;
    let path = directory.join(format!("audit-{from}-{}.jsonl", until - 1));
    if fs::try_exists(&path).await.map_err(unwritable)? {
        let message = format!("{} exists; an archive is never overwritten", path.display());
        return Err(usage(message, "name another directory, or look whether that file verifies").into());
    }
    let key: VerifierKey = client.audit_checkpoint().await?.verifier_key.parse()?;
    save(client.export_audit_until(from, until).await?, &path).await?;
    let written = path.clone();
    let judged = tokio::task::spawn_blocking(move || segment::verify_file(&written, &key)).await;
    let report = judged.map_err(|error| local("verification was interrupted", error))?.map_err(not_archived)?;
    if (i64::try_from(report.from).ok(), i64::try_from(report.size).ok()) != (Some(from), Some(until)) {
        return Err(not_archived(Fault::new(Code::AUDIT_TAMPERED, "the archive holds other records").into()).into());
    }
    Ok(path)
}

fn not_archived(error: VerifyError) -> Fault {
    let fault = Fault::from(error);
    Fault { message: format!("nothing was pruned, because the archive does not verify: {}", fault.message), ..fault }
}

pub(super) async fn hold(session: &mut Session<'_>, command: HoldCommands) -> Outcome {
    let (client, now) = (session.client()?, session.ambient.now());
    match command {
        HoldCommands::Add(args) => {
            let from = args.from.map(|when| when.before(now));
            let hold = client.add_audit_hold(&AddAuditHold { name: args.name, reason: args.reason, from }).await?;
            session.printer.one(&hold)?;
        }
        HoldCommands::List => {
            let holds = client.list_audit_holds().await?;
            session.printer.list(&holds)?;
        }
        HoldCommands::Release(args) => {
            client.release_audit_hold(&args.name).await?;
            session.printer.note(&format!("released {}", args.name));
        }
    }
    Ok(Exit::Success)
}

pub(super) async fn rotate_key(session: &mut Session<'_>) -> Outcome {
    let rotated = session.client()?.rotate_audit_key().await?;
    let text = table::details(&[("old key", rotated.old_key.clone()), ("new key", rotated.new_key.clone())]);
    session.printer.report(&rotated, &text)?;
    session.printer.note(
        "whoever trusts the old key is led to the new one by the log; give out the new one if the old one leaked",
    );
    Ok(Exit::Success)
}
